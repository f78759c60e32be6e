// weft decode-cost: what decoding a token reads, multiplies and takes, by length, and from which length on a sparse
// variant is faster than dense attention.
//
// JSON of --out: {"schema": 1, "kind": "predicted", or of --check "checked", "device", "figures": "data sheet" or
//   "measured", "type", "batch", "layers", "heads", "group_heads", "dim", "threads": of a CPU, "peak_tflops",
//   "bandwidth": [{"bytes", "gbs"}], "weights": of --model {"parameters", "bytes", "predicted_us"},
//   "rows": [{"variant", "page": 0 where there are none, "length", "tile_k", "tiles", "kept_tiles", "key_bytes",
//   "head_bytes", "input_bytes", "query_bytes", "choosing_bytes", "flops", "executed_flops", "choosing_flops",
//   "kernels", "clears": all of one layer; "predicted_us": of all layers, "launch_us", "choosing_us", "memory_us",
//   "arithmetic_us", "bound", "predicted_tokens_per_second": of all sequences, "with_weights_tokens_per_second"}],
//   "crossovers": [{"variant", "page", "with_weights", "length": null: at none of the lengths}],
//   "kernels": measured, of a CPU [{"variant", "page", "tile_us", "choosing_us": of a tile on one thread, "call_us",
//   "program_us", "cached_gbs": at which these were read, "far": [{"bytes", "ps_a_byte": what a byte takes longer where
//   so many are read}], "share_of_peak"}]}
// of --check: "rows": [{"variant", "page", "length", "predicted_us", "measured_us", "ratio": measured over predicted,
//   "uncertainty", "read_gbs", and the kernel's figures as above}], times of one layer's call.
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <stdexcept>

#include <torch/utils.h>
#include <nlohmann/json.hpp>

#include "autotune/decode_probe.h"
#include "benchmarks/scripts.h"
#include "cli/commands.h"
#include "cli/python.h"
#include "models/config.h"
#include "models/gpt.h"
#include "models/interrupt.h"
#include "models/user_files.h"
#include "ops/devices.h"
#include "ops/variant_library.h"
#include "runtime/environment.h"

namespace weft::cli {
namespace {

using nlohmann::json;
using namespace weft::autotune;

constexpr char dense[] = "causal";

json figuresOf(const DecodeKernel &kernel) {
  json far = json::array();
  for (const auto &[bytes, seconds] : kernel.far) far.push_back({{"bytes", bytes}, {"ps_a_byte", 1e12 * seconds}});
  return {{"tile_us", 1e6 * kernel.tile},       {"choosing_us", 1e6 * kernel.choosing}, {"call_us", 1e6 * kernel.call},
          {"program_us", 1e6 * kernel.program}, {"cached_gbs", 1e-9 * kernel.cached},   {"far", std::move(far)}};
}

struct Options {
  std::vector<std::string> variants, values;
  std::vector<int64_t> lengths;
  int64_t batch = 1, layers = 1, heads = 8, groups = 0, dim = 64, span = 0, page = 0;
  std::string type = "bf16", device = "cpu", model, out, report;
  bool check = false;
};

/// One variant, its keys in pages or not, at any length.
struct Curve {
  std::string variant, name;
  DecodeShape shape;
  DecodeProbe probe;  ///< of a CPU; of a GPU the peak says it
  std::map<int64_t, std::pair<DecodeCount, DecodeSeconds>> rows;
};

class Cost {
 public:
  explicit Cost(Options given) : options(std::move(given)) {
    shape.B = options.batch;
    if (!options.model.empty()) takeModel();
    if (options.variants.empty()) throw std::runtime_error("expected a variant; `weft variants` lists the library");
    if (std::ranges::find(options.variants, dense) == options.variants.end())
      options.variants.insert(options.variants.begin(), dense);
    shape.H = options.heads;
    shape.G = options.groups ? options.groups : options.heads;
    if (shape.H % shape.G != 0)
      throw std::runtime_error("expected --group-heads to divide --heads, got " + std::to_string(shape.G) + " and " +
                               std::to_string(shape.H));
    if (options.page % 16 != 0)
      throw std::runtime_error("expected pages of a multiple of 16 tokens, got " + std::to_string(options.page));
    shape.D = options.dim;
    shape.type = options.type;
    shape.span = options.span;
    for (const std::string &text : options.values) takeValue(text);
    onGpu = options.device != "cpu";
    if (onGpu && options.check)
      throw std::runtime_error("--check measures on this CPU; of a GPU nothing is there to measure");
    if (options.lengths.empty())
      options.lengths =
          options.check ? std::vector<int64_t>{1 << 10, 1 << 12, 1 << 14, 1 << 16}
                        : std::vector<int64_t>{1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15, 1 << 16, 1 << 17};
    std::sort(options.lengths.begin(), options.lengths.end());
    tiles = onGpu ? gpuTiles(options.device) : Device{};
    machine = onGpu ? gpuMachine(options.device, options.type) : cpuMachine(options.type);
    for (const std::string &variant : options.variants)
      for (const int64_t page : {int64_t{0}, options.page}) {
        if (page == 0 && !curves.empty() && curves.back().variant == variant) continue;  // no pages were asked for
        curves.push_back({variant, findVariant(variant)->name() + (page ? " in pages" : ""), shape, {}, {}});
        curves.back().shape.page = page;
        curves.back().shape.values = valuesOf(variant);
      }
    demandUsed();
  }

  int predict();
  int check();

 private:
  Options options;
  DecodeShape shape;
  bool onGpu = false;
  Device tiles;
  DecodeMachine machine;
  DecodeWeights weights;
  std::vector<Curve> curves;
  std::map<std::string, double> values;

  static bool stop() { return interrupted(); }
  void takeModel();
  void takeValue(const std::string &text);
  std::map<std::string, double> valuesOf(const std::string &variant) const;
  void demandUsed() const;
  const std::pair<DecodeCount, DecodeSeconds> &at(Curve &curve, int64_t length);
  double secondsAt(Curve &curve, int64_t length) { return at(curve, length).second.all * layers(); }
  double layers() const { return static_cast<double>(options.layers); }
  double secondsOfWeights() const { return secondsOf(weights, machine, shape.B); }
  double tokens(double seconds) const { return static_cast<double>(shape.B) / seconds; }
  void say(const std::string &what) const {
    if (isatty(STDERR_FILENO)) std::fprintf(stderr, "\r\033[K%s", what.c_str());
  }
  json head(const char *kind) const;
  json rowOf(Curve &curve, int64_t length);
  json crossovers();
  void print(const json &all) const;
  void write(const json &all) const;
};

void Cost::takeModel() {
  constexpr size_t most = 1 << 20;
  const ModelConfig config = parseConfig(readUserFile(options.model, most), options.model).model;
  if (options.variants.empty()) options.variants.push_back(config.attention);
  options.layers = config.layers;
  options.heads = config.heads;
  options.groups = 0;
  options.dim = config.width / config.heads;
  torch::NoGradGuard guard;
  const Block block(config, 0);
  double own = 0;
  for (const auto &parameter : block->named_parameters())
    if (GptImpl::isMatrix("blocks.0." + parameter.key(), parameter.value()))
      own += static_cast<double>(parameter.value().numel());
  constexpr double bytes = 256;  // of a vocabulary of bytes
  weights.parameters = static_cast<double>(config.layers) * own + bytes * static_cast<double>(config.width);
  weights.bytes = weights.parameters * static_cast<double>(torch::elementSize(ops::scalarType(options.type)));
}

void Cost::takeValue(const std::string &text) {
  const size_t sign = text.find('=');
  double value = 0;
  bool read = sign != std::string::npos && sign > 0;
  if (read) {
    const char *end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data() + sign + 1, end, value);
    read = error == std::errc() && stop == end && std::isfinite(value);
  }
  if (!read) throw std::runtime_error("expected --set NAME=NUMBER, got '" + text + "'");
  values[text.substr(0, sign)] = value;
}

/// Those of the values that are of its inputs: several variants need not have the same ones.
std::map<std::string, double> Cost::valuesOf(const std::string &variant) const {
  std::map<std::string, double> own;
  for (const InputInfo &input : findVariant(variant)->inputs())
    if (const auto found = values.find(input.name); found != values.end()) own.insert(*found);
  return own;
}

void Cost::demandUsed() const {
  for (const auto &[name, value] : values)
    if (std::ranges::none_of(curves, [&](const Curve &curve) { return curve.shape.values.contains(name); }))
      throw std::runtime_error("--set " + name + ": none of the variants has an input of that name");
}

const std::pair<DecodeCount, DecodeSeconds> &Cost::at(Curve &curve, int64_t length) {
  auto [row, added] = curve.rows.try_emplace(length);
  if (added) {
    say(curve.name + " " + std::to_string(length));
    curve.shape.length = length;
    row->second.first = countDecode(curve.variant, curve.shape, tiles);
    const DecodeCount &count = row->second.first;
    row->second.second =
        secondsOf(count, machine, onGpu ? kernelByPeak(count, machine) : curve.probe.kernel, options.layers);
  }
  return row->second;
}

json Cost::head(const char *kind) const {
  json bandwidth = json::array();
  for (const auto &[bytes, rate] : machine.bandwidth) bandwidth.push_back({{"bytes", bytes}, {"gbs", 1e-9 * rate}});
  json all = {{"schema", 1},
              {"kind", kind},
              {"device", machine.name},
              {"figures", machine.predicted ? "data sheet" : "measured"},
              {"type", options.type},
              {"batch", shape.B},
              {"layers", options.layers},
              {"heads", shape.H},
              {"group_heads", shape.G},
              {"dim", shape.D},
              {"peak_tflops", 1e-12 * machine.peak},
              {"bandwidth", bandwidth},
              {"rows", json::array()}};
  if (!onGpu) all["threads"] = machine.units;
  return all;
}

json Cost::rowOf(Curve &curve, int64_t length) {
  const auto &[count, seconds] = at(curve, length);
  const double all = secondsAt(curve, length);
  json row = {{"variant", findVariant(curve.variant)->name()},
              {"page", curve.shape.page},
              {"length", length},
              {"tile_k", count.tileK},
              {"tiles", count.tiles},
              {"kept_tiles", count.keptTiles},
              {"key_bytes", count.keyBytes},
              {"head_bytes", count.headBytes},
              {"input_bytes", count.inputBytes},
              {"query_bytes", count.queryBytes},
              {"choosing_bytes", count.choosingBytes},
              {"flops", count.flops},
              {"executed_flops", count.executedFlops},
              {"choosing_flops", count.choosingFlops},
              {"kernels", count.kernels},
              {"clears", count.clears},
              {"predicted_us", 1e6 * all},
              {"launch_us", 1e6 * layers() * seconds.launches},
              {"choosing_us", 1e6 * layers() * seconds.choosing},
              {"memory_us", 1e6 * layers() * seconds.memory},
              {"arithmetic_us", 1e6 * layers() * seconds.arithmetic},
              {"bound", seconds.bound()},
              {"predicted_tokens_per_second", tokens(all)}};
  if (weights.bytes > 0) row["with_weights_tokens_per_second"] = tokens(all + secondsOfWeights());
  return row;
}

/// Of each curve against dense attention without pages.
json Cost::crossovers() {
  json all = json::array();
  Curve &base = *std::ranges::find_if(curves, [](const Curve &own) { return own.variant == dense; });
  for (Curve &curve : curves) {
    if (&curve == &base) continue;
    for (const bool whole : {false, true}) {
      if (whole && weights.bytes <= 0) continue;
      const double more = whole ? secondsOfWeights() : 0;
      const auto length = crossover(
          options.lengths, [&](int64_t own) { return secondsAt(curve, own) + more; },
          [&](int64_t own) { return secondsAt(base, own) + more; });
      all.push_back({{"variant", findVariant(curve.variant)->name()},
                     {"page", curve.shape.page},
                     {"with_weights", whole},
                     {"length", length ? json(*length) : json()}});
    }
  }
  return all;
}

std::string nameOf(const json &row) {
  return row.at("variant").get<std::string>() + (row.at("page").get<int64_t>() ? " in pages" : "");
}

void Cost::print(const json &all) const {
  auto counted = [](int64_t count, const char *what) {
    return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
  };
  std::printf("%s: %s. %s, %s, %s, %s of %lld over %lld of keys\n", machine.name.c_str(),
              machine.predicted ? "predicted by its data sheet, nothing is measured"
                                : "predicted by what was measured of it now",
              options.type.c_str(), counted(shape.B, "sequence").c_str(), counted(options.layers, "layer").c_str(),
              counted(shape.H, "head").c_str(), static_cast<long long>(shape.D), static_cast<long long>(shape.G));
  if (weights.bytes > 0)
    std::printf("weights: %.1f M parameters, %.1f MB, %.1f us a token, predicted\n", 1e-6 * weights.parameters,
                1e-6 * weights.bytes, 1e6 * secondsOfWeights());
  std::printf("%-26s %8s %7s %10s %10s %10s %9s %8s %11s %11s  %s\n", "variant", "length", "kept", "keys MB",
              "choose MB", "other MB", "MFLOP", "launches", "us a token", "tokens/s", "bound");
  for (const json &row : all.at("rows")) {
    auto number = [&](const char *key) { return row.at(key).get<double>(); };
    const bool whole = row.contains("with_weights_tokens_per_second");
    std::printf("%-26s %8lld %6.1f%% %10.3f %10.3f %10.3f %9.2f %8.0f %11.1f %11.1f  %s\n", nameOf(row).c_str(),
                static_cast<long long>(row.at("length").get<int64_t>()), 100 * number("kept_tiles") / number("tiles"),
                1e-6 * layers() * number("key_bytes"), 1e-6 * layers() * number("choosing_bytes"),
                1e-6 * layers() * (number("input_bytes") + number("query_bytes")), 1e-6 * layers() * number("flops"),
                layers() * (number("kernels") + number("clears")),
                number("predicted_us") + (whole ? 1e6 * secondsOfWeights() : 0),
                number(whole ? "with_weights_tokens_per_second" : "predicted_tokens_per_second"),
                row.at("bound").get<std::string>().c_str());
  }
  for (const json &own : all.at("crossovers")) {
    const std::string name = nameOf(own) + (own.at("with_weights").get<bool>() ? ", with the weights," : "");
    if (own.at("length").is_null())
      std::printf("%s is nowhere faster than %s up to %lld tokens\n", name.c_str(), dense,
                  static_cast<long long>(options.lengths.back()));
    else
      std::printf("%s is faster than %s from %lld tokens on%s\n", name.c_str(), dense,
                  static_cast<long long>(own.at("length").get<int64_t>()),
                  own.at("length") == options.lengths.front() ? ", or before" : "");
  }
}

void Cost::write(const json &all) const {
  if (options.out.empty()) return;
  writeFile(options.out, all.dump(1, ' ', false, json::error_handler_t::replace) + "\n");
  std::printf("results  %s\n", options.out.c_str());
  if (options.report.empty()) return;
  std::fflush(stdout);
  if (runPython(bench::decodeCostScript, {options.out, options.report}) != 0)
    throw std::runtime_error("the page was not made; the results are in " + options.out);
  std::printf("report   %s\n", options.report.c_str());
}

int Cost::predict() {
  if (!onGpu) {
    say("measuring this CPU");
    machine.bandwidth = measureBandwidth(stop);
    for (Curve &curve : curves) {
      say("measuring " + curve.name);
      curve.probe = probeDecoding(curve.variant, curve.shape, machine, stop);
    }
  }
  json all = head("predicted");
  if (weights.bytes > 0)
    all["weights"] = {{"parameters", weights.parameters},
                      {"bytes", weights.bytes},
                      {"predicted_us", 1e6 * secondsOfWeights()}};
  for (Curve &curve : curves) {
    for (const int64_t length : options.lengths) {
      if (stop()) return interruptCode();
      all["rows"].push_back(rowOf(curve, length));
    }
    if (onGpu) continue;
    json kernel = figuresOf(curve.probe.kernel);
    kernel.update({{"variant", findVariant(curve.variant)->name()},
                   {"page", curve.shape.page},
                   {"share_of_peak", curve.probe.shareOfPeak}});
    all["kernels"].push_back(std::move(kernel));
  }
  all["crossovers"] = crossovers();
  say("");
  print(all);
  write(all);
  return interruptCode();
}

int Cost::check() {
  json all = head("checked");
  std::printf("%s, %d thread%s, %s: one layer's call, predicted and measured in the same turns\n", machine.name.c_str(),
              machine.units, machine.units == 1 ? ", by the time that it ran" : "s", options.type.c_str());
  std::printf("%-26s %8s %12s %12s %6s %9s %9s\n", "variant", "length", "predicted us", "measured us", "ratio",
              "known to", "reading");
  for (Curve &curve : curves)
    for (const int64_t length : options.lengths) {
      if (stop()) return interruptCode();
      curve.shape.length = length;
      const DecodeCheck own = checkDecoding(curve.variant, curve.shape, machine, stop);
      std::printf("%-26s %8lld %12.1f %12.1f %6.2f %8.1f%% %4.1f GB/s\n", curve.name.c_str(),
                  static_cast<long long>(length), 1e6 * own.predicted, 1e6 * own.measured, own.measured / own.predicted,
                  100 * own.uncertainty, 1e-9 * own.bandwidth);
      std::fflush(stdout);
      json row = figuresOf(own.kernel);
      row.update({{"variant", findVariant(curve.variant)->name()},
                  {"page", curve.shape.page},
                  {"length", length},
                  {"predicted_us", 1e6 * own.predicted},
                  {"measured_us", 1e6 * own.measured},
                  {"ratio", own.measured / own.predicted},
                  {"uncertainty", own.uncertainty},
                  {"read_gbs", 1e-9 * own.bandwidth}});
      all["rows"].push_back(std::move(row));
    }
  write(all);
  return interruptCode();
}

int run(const Options &options) {
  if (!options.out.empty()) demandReplaceable(options.out);
  catchInterrupts();
  if (const int threads = environment::threads(); threads > 0) torch::set_num_threads(threads);
  torch::NoGradGuard guard;
  Cost cost(options);
  return options.check ? cost.check() : cost.predict();
}

}  // namespace

void addDecodeCost(CLI::App &app, Action &action) {
  auto options = std::make_shared<Options>();
  CLI::App *command =
      app.add_subcommand("decode-cost", "What decoding a token reads, multiplies and takes, by length and device");
  command->add_option("variants", options->variants, "Library variants or files; causal is always beside them");
  const auto size = CLI::Range(int64_t{1}, int64_t{1} << 20);
  command->add_option("--batch", options->batch, "Sequences decoded together")->check(size)->capture_default_str();
  command
      ->add_option("--length", options->lengths,
                   "Tokens so far, several apart by spaces (default 1024 to 131072; of --check 1024 to 65536)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  auto *layers = command->add_option("--layers", options->layers)->check(size)->capture_default_str();
  auto *heads = command->add_option("--heads", options->heads, "Heads of queries")->check(size)->capture_default_str();
  auto *groups = command->add_option("--group-heads", options->groups, "Heads of keys and values (default: as --heads)")
                     ->check(size);
  auto *dim = command->add_option("--dim", options->dim, "Width of a head")
                  ->check(CLI::Range(int64_t{1}, int64_t{256}))
                  ->capture_default_str();
  command->add_option("--type", options->type, "f32, bf16 or f16")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}))
      ->capture_default_str();
  command->add_option("--span", options->span, "Reach of spans and windows in tokens (default: half of the length)")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 30));
  command->add_option("--set", options->values, "NAME=NUMBER: an input's value, as window=1024 or tiles=8");
  command->add_option("--page", options->page, "Each variant also with its keys in pages of so many tokens")
      ->check(CLI::Range(int64_t{16}, int64_t{1} << 20));
  command
      ->add_option("--model", options->model,
                   "A config of weft train: its layers, heads and attention, and its weights")
      ->excludes(layers)
      ->excludes(heads)
      ->excludes(groups)
      ->excludes(dim);
  command->add_option("--device", options->device, "cpu: this one, measured; a100, h100, h200, ...: by its data sheet")
      ->capture_default_str();
  command->add_flag("--check", options->check, "Measure decoding on this CPU beside what is predicted");
  auto *out = command->add_option("--out", options->out, "Write JSON to this file");
  command->add_option("--report", options->report, "Write a page with charts of it")->needs(out);
  command->callback([&action, options] { action = [options] { return run(*options); }; });
}

}  // namespace weft::cli
