// weft eval --mass: what a selection misses of exact attention, and dials set by a target.
#include <cstdio>

#include <nlohmann/json.hpp>

#include "cli/eval_options.h"
#include "models/dials.h"
#include "models/mass.h"
#include "models/spelling.h"
#include "models/user_files.h"
#include "ops/variant_library.h"

namespace weft::cli {
namespace {

/// Windows that are read where no --limit says how many bytes.
constexpr int64_t defaultWindows = 32;

/// The dial of a head, and whether its target is met.
double valueOf(const SolvedDial &solved, const HeadMass &head) {
  const std::vector<double> &layer = solved.values[static_cast<size_t>(head.layer)];
  return layer[solved.scale.byHead ? static_cast<size_t>(head.head) : 0];
}
bool metBy(const SolvedDial &solved, const HeadMass &head) {
  return solved.met[static_cast<size_t>(head.layer)][solved.scale.byHead ? static_cast<size_t>(head.head) : 0];
}

void printTable(const MassFigures &figures, const std::optional<SolvedDial> &solved) {
  std::printf("\nlayer head    mass  low 1%%   least  pairs%%  tiles%%");
  if (solved) std::printf(" %10s", solved->scale.name.c_str());
  std::printf("\n");
  bool missed = false;
  for (const HeadMass &head : figures.heads) {
    std::printf("%5lld %4lld  %.4f  %.4f  %.4f  %6.2f  %6.2f", static_cast<long long>(head.layer),
                static_cast<long long>(head.head), head.mean, head.low, head.least, 100 * head.pairs, 100 * head.tiles);
    if (solved) {
      const bool met = metBy(*solved, head);
      missed |= !met;
      std::printf(" %10.6g%s", valueOf(*solved, head), met ? "" : " *");
    }
    std::printf("\n");
  }
  if (missed)
    std::printf("* below the target at the end of the range; --dial %s=LOW..HIGH looks further\n",
                solved->scale.name.c_str());
  std::printf("\nlayer         mass  pairs%%  tiles%%\n");
  HeadMass all{0, 0}, layer{0, 0};
  const auto add = [](HeadMass &sum, const HeadMass &head) {
    sum.mean += head.mean;
    sum.pairs += head.pairs;
    sum.tiles += head.tiles;
  };
  const auto show = [](const char *name, const HeadMass &sum, size_t count) {
    const auto of = static_cast<double>(count);
    std::printf("%5s       %.4f  %6.2f  %6.2f\n", name, sum.mean / of, 100 * sum.pairs / of, 100 * sum.tiles / of);
  };
  size_t heads = 0;
  for (size_t at = 0; at < figures.heads.size(); ++at) {
    add(all, figures.heads[at]);
    add(layer, figures.heads[at]);
    ++heads;
    if (at + 1 < figures.heads.size() && figures.heads[at + 1].layer == figures.heads[at].layer) continue;
    show(std::to_string(figures.heads[at].layer).c_str(), layer, heads);
    layer = {0, 0};
    heads = 0;
  }
  show("all", all, figures.heads.size());
}

nlohmann::json toJson(const MassFigures &figures, const std::optional<SolvedDial> &solved) {
  nlohmann::json rows = nlohmann::json::array();
  for (const HeadMass &head : figures.heads) {
    rows.push_back({{"layer", head.layer},
                    {"head", head.head},
                    {"mass", head.mean},
                    {"mass_low", head.low},
                    {"mass_least", head.least},
                    {"kept_pairs", head.pairs},
                    {"kept_tiles", head.tiles}});
    if (!solved) continue;
    rows.back()["dial"] = valueOf(*solved, head);
    rows.back()["met"] = metBy(*solved, head);
  }
  return rows;
}

}  // namespace

std::string checkpointName(const std::string &place) {
  return std::filesystem::is_directory(place) ? "checkpoint.pt" : std::filesystem::path(place).filename().string();
}

int runMass(const EvalOptions &options, const Checkpoint &checkpoint, const Gpt &selecting,
            const std::filesystem::path &folder, const TextData &data, const torch::Tensor &text,
            const std::shared_ptr<Processes> &processes) {
  const std::string &attention = selecting->config.attention;
  const std::string name = findVariant(attention)->name(),
                    stem = options.target ? name + "_" + shortNumber(*options.target) : name,
                    figuresPath = (folder / ("mass_" + stem + ".json")).string(),
                    configPath = (folder / ("dials_" + stem + ".json")).string();
  if (processes->first()) {
    demandReplaceable(figuresPath);
    if (options.target) demandReplaceable(configPath);
  }
  const int64_t limit = options.limit > 0 ? options.limit : defaultWindows * checkpoint.config.model.context;
  MassMeasure measure(checkpoint.model, selecting, text, limit, processes);
  std::optional<SolvedDial> solved;
  if (options.target) {
    solved = solveDial(measure, chosenDial(measure, options.dial), *options.target);
    if (!solved->complete) return processes->interruptCode();
  }
  const MassFigures figures = measure.measure(solved ? toValues(solved->scale, solved->values) : DialValues());
  processes->wait();
  if (!processes->first() || !figures.complete) return processes->interruptCode();
  std::printf("data     %s\n", data.description.c_str());
  std::printf("model    %s, step %lld\n", checkpoint.config.model.attention.c_str(),
              static_cast<long long>(checkpoint.step));
  std::printf("mass     what %s keeps of exact attention, over %lld bytes of %s\n", name.c_str(),
              static_cast<long long>(figures.bytes), options.split.c_str());
  std::printf("shares   of the pairs up to the query; of dense tiles, of which exact attention has %.2f%%\n",
              100 * figures.exactTiles);
  if (solved)
    std::printf("dial     %s, the least for a mean mass of %g, in steps of %g from %g\n", solved->scale.name.c_str(),
                *options.target, solved->scale.step, solved->scale.tight);
  printTable(figures, solved);
  nlohmann::json all({{"variant", name},
                      {"model", checkpoint.config.model.attention},
                      {"split", options.split},
                      {"bytes", figures.bytes},
                      {"step", checkpoint.step},
                      {"checkpoint", checkpointName(options.checkpoint)},
                      {"data", data.description},
                      {"exact_tiles", figures.exactTiles},
                      {"heads", toJson(figures, solved)}});
  Config config{selecting->config, checkpoint.config.train};
  if (solved) {
    all["target"] = *options.target;
    all["dial"] = {{"name", solved->scale.name}, {"tight", solved->scale.tight}, {"step", solved->scale.step}};
    config.model.inputs[solved->scale.name] = {{0, 0}, solved->values};
  }
  const auto settings = nlohmann::json::parse(printConfig(config))["model"];
  if (settings.contains("inputs")) all["inputs"] = settings["inputs"];
  writeFile(figuresPath, all.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  std::printf("\nfigures  %s\n", figuresPath.c_str());
  if (solved) {
    writeFile(configPath, printConfig(config) + "\n");
    std::printf("config   %s: weft eval --config %s tells the bits per character\n", configPath.c_str(),
                configPath.c_str());
  }
  return processes->interruptCode();
}

}  // namespace weft::cli
