// weft bench: generated kernels beside their peers, as a table, JSON and one HTML page.
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <sstream>
#include <stdexcept>

#include <torch/utils.h>

#include "benchmarks/bench.h"
#include "benchmarks/predictions.h"
#include "benchmarks/results.h"
#include "benchmarks/scripts.h"
#include "cli/commands.h"
#include "cli/python.h"
#include "models/interrupt.h"
#include "models/user_files.h"
#include "ops/attention.h"
#include "ops/variant_library.h"
#include "runtime/atomic_file.h"
#include "runtime/environment.h"
#include "runtime/process.h"

namespace weft::cli {
namespace {

nlohmann::json readResults(const std::string &path) {
  demandFile(path);
  std::string text;
  if (!readFile(path, text)) throw std::runtime_error("cannot open " + path);
  auto parsed = nlohmann::json::parse(text, nullptr, false);
  if (parsed.is_discarded()) throw std::runtime_error(path + " is not JSON");
  return parsed;
}

std::vector<std::string> split(const std::vector<std::string> &lists) {
  std::vector<std::string> all;
  for (const std::string &list : lists) {
    std::stringstream stream(list);
    for (std::string part; std::getline(stream, part, ',');)
      if (!part.empty()) all.push_back(part);
  }
  return all;
}

struct Options {
  std::vector<std::string> variants{"causal,adaptive_span,span_periodic,content_weight,sliding_window"}, shapes, types,
      peers{"sdpa,flex"}, compare;
  std::string direction = "both", device = "cpu", out = "runs/bench";
  int64_t span = 0;
  int samples = 9;
  double rowSeconds = 10, peerSeconds = 300;
};

std::vector<bench::Case> casesOf(const Options &options, const std::vector<std::string> &usualShapes,
                                 const std::string &usualType) {
  std::vector<bench::Case> cases;
  for (const std::string &variant : split(options.variants)) {
    findVariant(variant);
    for (const std::string &type : options.types.empty() ? std::vector{usualType} : split(options.types))
      for (bool backward : {false, true}) {
        if (options.direction == (backward ? "forward" : "backward")) continue;
        for (const std::string &shape : options.shapes.empty() ? usualShapes : options.shapes)
          cases.push_back({variant, ops::parseShape(shape), type, backward, options.span, options.device});
      }
  }
  return cases;
}

/// JSON and the page that a script makes of it, in a folder. A run that is killed leaves its rows, which say that they
/// are not all, and no page of another run beside them.
class Output {
 public:
  Output(const std::filesystem::path &folder, const std::string &name, const std::string &pageName, const char *script)
      : data((folder / (name + ".json")).string()), page((folder / (pageName + ".html")).string()), script(script) {
    std::filesystem::remove(page);
  }
  void save(const nlohmann::json &results) const {
    // Names and messages need not be UTF-8.
    writeFile(data, results.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  }
  void finish(const nlohmann::json &results, const std::string &table) const {
    save(results);
    std::printf("%sresults  %s\n", table.c_str(), data.c_str());
    std::fflush(stdout);
    if (runPython(script, {data, page}) != 0)
      throw std::runtime_error("the page was not made; the results are in " + data);
    std::printf("report   %s\n", page.c_str());
  }

 private:
  const std::string data, page;
  const char *const script;
};

constexpr char modelled[] = "model:";

/// On a GPU that need not be there: nothing is measured.
int predict(const Options &options, const std::function<void(size_t, size_t, const std::string &)> &progress) {
  bench::PredictionOptions work;
  work.gpu = options.device.substr(std::size(modelled) - 1);
  // The last two have the published figures' lengths and widths.
  work.cases = casesOf(options, {"2,16,4096,64", "2,16,4096,128", "1,32,16384,64", "1,16,16384,128"}, "bf16");
  work.progress = progress;
  work.stop = [] { return interrupted(); };
  const Output output(options.out, "predictions", "predictions", bench::predictionScript);
  work.save = [&](const nlohmann::json &predictions) { output.save(predictions); };
  const nlohmann::json predictions = bench::predictAll(work);
  if (isatty(STDERR_FILENO)) std::fprintf(stderr, "\r\033[K");
  output.finish(predictions, bench::predictionTable(predictions));
  return interruptCode();
}

int run(const Options &options) {
  if (!options.compare.empty()) {
    const bench::Comparison found =
        bench::compare(readResults(options.compare.at(0)), readResults(options.compare.at(1)));
    for (const std::string &line : found.regressions) std::printf("%s\n", line.c_str());
    for (const std::string &line : found.unsure) std::printf("not known  %s\n", line.c_str());
    for (const std::string &line : found.notes) std::printf("note  %s\n", line.c_str());
    if (found.regressions.empty()) std::printf("no regression beyond noise in %zu rows\n", found.compared);
    return found.regressions.empty() ? 0 : 1;
  }
  makeFolder(options.out);  // before anything is measured
  catchInterrupts();
  if (const int threads = environment::threads(); threads > 0) torch::set_num_threads(threads);
  const bool terminal = isatty(STDERR_FILENO);
  auto progress = [terminal](size_t done, size_t total, const std::string &what) {
    std::fprintf(stderr, "%s[%zu/%zu] %s%s", terminal ? "\r\033[K" : "", done + 1, total, what.c_str(),
                 terminal ? "" : "\n");
  };
  if (options.device.starts_with(modelled)) return predict(options, progress);
  bench::BenchOptions work;
  work.peers = split(options.peers);
  for (const std::string &peer : work.peers) bench::makePeer(peer);
  work.effort.rounds = options.samples;
  work.effort.mostSeconds = options.rowSeconds;
  work.peerSeconds = options.peerSeconds;
  work.effort.precision = bench::knownWithin;
  work.stop = [] { return interrupted(); };
  work.progress = progress;
  work.cases = casesOf(options, {"1,8,2048,64"}, "f32");
  const Output output(options.out, "results", "report", bench::reportScript);
  work.save = [&](const nlohmann::json &results) { output.save(results); };
  const nlohmann::json results = bench::runBench(work);
  if (terminal) std::fprintf(stderr, "\r\033[K");
  output.finish(results, bench::table(results));
  return interruptCode();
}

}  // namespace

void addBench(CLI::App &app, Action &action) {
  auto options = std::make_shared<Options>();
  CLI::App *command = app.add_subcommand("bench", "Measure variants beside their peers; write JSON and an HTML report");
  command->add_option("--variants", options->variants, "Variants, apart by commas")->capture_default_str();
  command->add_option("--shapes", options->shapes,
                      "B,H,T,D, several apart by spaces (default 1,8,2048,64; of model: four)");
  command->add_option("--dtype", options->types, "f32, bf16, f16, apart by commas (default f32; of model: bf16)");
  command->add_option("--direction", options->direction, "forward, backward or both")
      ->check(CLI::IsMember({"forward", "backward", "both"}))
      ->capture_default_str();
  command->add_option("--peers", options->peers, "sdpa, math, flex, triton, apart by commas; \"\" for none")
      ->capture_default_str();
  command->add_option("--span", options->span, "Reach of spans and windows in tokens (default: half of T)")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 30));
  command->add_option("--samples", options->samples, "Rounds of each row, at least")
      ->check(CLI::Range(3, 1000))
      ->capture_default_str();
  command->add_option("--row-seconds", options->rowSeconds, "At most, about, for a row whose median is not known yet")
      ->check(CLI::Range(0.01, 86400.0))
      ->capture_default_str();
  command->add_option("--peer-seconds", options->peerSeconds, "Limit for an answer of flex and triton, compiling too")
      ->check(CLI::Range(1.0, 86400.0))
      ->capture_default_str();
  command
      ->add_option("--device", options->device,
                   "cpu, cuda or cuda:N; model:h200: predicted for a GPU that need not be there")
      ->envname("WEFT_DEVICE")
      ->capture_default_str();
  command->add_option("--out", options->out, "Folder for results.json and report.html")->capture_default_str();
  command
      ->add_option("--compare", options->compare,
                   "OLD.json NEW.json: print regressions beyond noise; exit 1 where there are any")
      ->expected(2);
  command->callback([&action, options] { action = [options] { return run(*options); }; });
}

}  // namespace weft::cli
