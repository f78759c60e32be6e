// weft train, weft eval: the GPT at the terminal.
#include <cstdio>
#include <filesystem>

#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/eval_options.h"
#include "cli/model_options.h"
#include "cli/settings_table.h"
#include "cli/tuning.h"
#include "models/checkpoint.h"
#include "models/evaluate.h"
#include "models/interrupt.h"
#include "models/other_attention.h"
#include "models/statistics.h"
#include "models/trainer.h"
#include "models/user_files.h"
#include "ops/attention.h"
#include "ops/variant_library.h"

namespace weft::cli {
namespace {

/// Of dense causal attention over `context` bytes, the share of a dense kernel's tiles of 64 that it keeps.
double causalShare(int64_t context) {
  const auto tiles = static_cast<double>((context + 63) / 64);
  return (tiles + 1) / 2 / tiles;
}

void printHeads(const std::vector<HeadStatistics> &heads) {
  std::printf("\nlayer head   kept%%   bits");
  for (const auto &[name, value] : heads[0].learned) std::printf(" %9s", name.c_str());
  std::printf("\n");
  for (const HeadStatistics &head : heads) {
    std::printf("%5lld %4lld  %6.1f %6.2f", static_cast<long long>(head.layer), static_cast<long long>(head.head),
                100 * head.keptTiles, head.entropy);
    for (const auto &[name, value] : head.learned) std::printf(" %9.3f", value);
    std::printf("\n");
  }
}

nlohmann::json toJson(const std::vector<HeadStatistics> &heads, const std::vector<double> &unmaskedKeys) {
  nlohmann::json rows = nlohmann::json::array();
  for (const HeadStatistics &head : heads)
    rows.push_back({{"layer", head.layer},
                    {"head", head.head},
                    {"kept_tiles", head.keptTiles},
                    {"entropy_bits", head.entropy},
                    {"unmasked_keys", unmaskedKeys[rows.size()]},
                    {"learned", head.learned}});
  return rows;
}

int runEval(const EvalOptions &options) {
  const Launch launch = readLaunch();
  const torch::Device device = prepare(options.device, launch);
  const auto processes = std::make_shared<Processes>(launch, device);
  // The first process alone reads the checkpoint, prints and writes: the others may be on machines without its folder.
  Checkpoint checkpoint = parseCheckpoint(processes->fromFirst([&] { return readCheckpoint(options.checkpoint); }),
                                          options.checkpoint, device);
  // Another attention than the checkpoint's: to be measured, or to be evaluated with.
  std::vector<std::string> settings = options.settings;
  if (!options.mass.empty()) settings.insert(settings.begin(), "model.attention=" + options.mass);
  const std::string config = processes->fromFirst(
      [&] { return options.config.empty() ? std::string() : readUserFile(options.config, configLimit); });
  Gpt model =
      withWeightsOf(checkpoint.model, withOtherAttention(checkpoint.config.model, config, options.config, settings));
  const bool changed = model.ptr() != checkpoint.model.ptr();
  const std::string &attention = model->config.attention;
  const std::filesystem::path place = options.checkpoint;
  const std::filesystem::path folder = std::filesystem::is_directory(place) ? place : place.parent_path();
  const std::string suffix = changed ? "_" + findVariant(attention)->name() : "",
                    picture =
                        options.picture.empty() ? (folder / ("masks" + suffix + ".svg")).string() : options.picture,
                    figures = (folder / ("eval_" + options.split + suffix + ".json")).string();
  if (processes->first() && !options.measuresMass)
    for (const std::string &written : {picture, figures}) demandReplaceable(written);
  const TextData data = loadText(dataPath(options.data), static_cast<int64_t>(options.dataLimit));
  const torch::Tensor &text = options.split == "test"  ? data.test
                              : options.split == "val" ? data.validation
                                                       : data.train;
  processes->demandSameText(text);
  if (options.measuresMass) return runMass(options, checkpoint, model, folder, data, text, processes);
  const int64_t context = checkpoint.config.model.context;
  const int64_t stride = options.stride > 0 ? options.stride : context / 2;
  const Evaluation result = evaluate(model, text, stride, options.limit, true, processes);
  processes->wait();
  if (!processes->first()) return processes->interruptCode();
  const torch::Tensor tokens = text.slice(0, 0, context).to(torch::kInt64).unsqueeze(0).to(device);
  model->eval();
  const auto heads = headStatistics(model, tokens);
  const double kept = meanKept(heads);
  std::printf("data     %s\n", data.description.c_str());
  std::printf("model    %s%s, step %lld\n", attention.c_str(),
              changed ? (", of weights trained with " + checkpoint.config.model.attention).c_str() : "",
              static_cast<long long>(checkpoint.step));
  std::printf("%-8s %.4f bpc over %lld bytes of %s, stride %lld%s\n", "result", result.bpc,
              static_cast<long long>(result.bytes), options.split.c_str(), static_cast<long long>(stride),
              result.complete ? "" : " (interrupted)");
  std::printf("kept     %.1f%% of dense tiles; attention FLOPs saved against dense causal: %.1f%%\n", 100 * kept,
              100 * (1 - kept / causalShare(context)));
  printHeads(heads);
  // The figure of a part would pass for that of the split.
  if (!result.complete) return processes->interruptCode();
  nlohmann::json all({{"bpc", result.bpc},
                      {"bytes", result.bytes},
                      {"split", options.split},
                      {"stride", stride},
                      {"step", checkpoint.step},
                      {"checkpoint", checkpointName(options.checkpoint)},
                      {"attention", attention},
                      {"data", data.description},
                      {"kept_tiles", kept},
                      {"heads", toJson(heads, unmaskedKeys(model, tokens))}});
  if (const auto own = nlohmann::json::parse(printConfig({model->config, {}}))["model"];
      changed && own.contains("inputs"))
    all["inputs"] = own["inputs"];
  // A path may hold bytes that are not UTF-8.
  writeFile(figures, all.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  writeFile(picture, maskPicture(model, tokens));
  std::printf("\nmasks    %s\n", picture.c_str());
  return processes->interruptCode();
}

}  // namespace

void addTrain(CLI::App &app, Action &action) {
  struct Options {
    std::string config, data, out, init, device;
    uint64_t dataLimit;
    bool resume = false, tune = false;
    std::string tuneBudget = "60s";
    std::vector<std::string> settings;
  };
  auto o = std::make_shared<Options>();
  CLI::App *command = app.add_subcommand("train", "Train the GPT with generated attention kernels");
  command->add_option("--config", o->config, "JSON file, see models/configs")->required();
  addText(command, o->data, o->dataLimit);
  command->add_option("--out", o->out, "Directory of the run: checkpoints, metrics.jsonl, TensorBoard's events")
      ->required();
  command->add_option_function<std::string>(
      "--steps", [o](const std::string &steps) { o->settings.push_back("train.steps=" + steps); },
      "Overrides train.steps");
  command->add_option_function<std::string>(
      "--context-parallel",
      [o](const std::string &processes) { o->settings.push_back("train.context_parallel=" + processes); },
      "Processes that share each text (train.context_parallel), of those that torchrun starts");
  command->add_flag("--resume", o->resume, "Go on from the checkpoint in --out");
  command->add_option("--init", o->init, "Begin with the weights of this checkpoint or .safetensors file");
  command->add_flag("--tune", o->tune, "Tune the model's attention before the first step");
  command->add_option("--tune-budget", o->tuneBudget, "Time for --tune")->capture_default_str();
  command->add_option_function<std::vector<std::string>>(
      "--set",
      [o](const std::vector<std::string> &given) {
        o->settings.insert(o->settings.begin(), given.begin(), given.end());
      },
      "Overrides, as train.lr=3e-4");
  command
      ->add_flag_callback(
          "--help-settings", [] { throw CLI::CallForVersion(describeSettings(), 0); },
          "Print every setting with its default, range and meaning")
      ->trigger_on_parse();
  addDevice(command, o->device);
  command->callback([&action, o] {
    action = [o] {
      const Launch launch = readLaunch();
      const torch::Device device = prepare(o->device, launch);
      TrainOptions options;
      options.config = parseConfig(readUserFile(o->config, configLimit), o->config, o->settings);
      options.directory = o->out;
      options.resume = o->resume;
      options.device = device;
      options.init = o->init;
      if (o->tune)
        options.beforeFirstStep = [budget = parseSeconds(o->tuneBudget)](Gpt &model, const torch::Tensor &tokens) {
          return tuneModel(model, tokens, budget);
        };
      const TextData data = loadText(dataPath(o->data), static_cast<int64_t>(o->dataLimit));
      options.processes = std::make_shared<Processes>(launch, device);
      return train(options, data);
    };
  });
}

void addEval(CLI::App &app, Action &action) {
  auto o = std::make_shared<EvalOptions>();
  CLI::App *command = app.add_subcommand("eval", "Bits per character, and what each head does");
  command->footer(
      "A trained model with another attention, as training-free methods are used:\n"
      "  weft eval --checkpoint runs/a --set attention=flex_prefill inputs.share=0.9\n"
      "What a selection misses of exact attention, by layer and head, without evaluating:\n"
      "  weft eval --checkpoint runs/a --mass flex_prefill --set inputs.share=0.9\n"
      "The least share of each head that keeps 95 % of the mass, and what it costs in bits:\n"
      "  weft eval --checkpoint runs/a --mass flex_prefill --target 0.95\n"
      "  weft eval --checkpoint runs/a --config runs/a/dials_flex_prefill_0.95.json");
  addCheckpoint(command, o->checkpoint);
  addText(command, o->data, o->dataLimit);
  command->add_option("--split", o->split, "val or test")
      ->check(CLI::IsMember({"val", "test", "train"}))
      ->capture_default_str();
  CLI::Option *stride =
      command->add_option("--stride", o->stride, "Bytes each window moves on (default: half the context)")
          ->check(CLI::Range(int64_t{1}, INT64_MAX));
  command->add_option("--limit", o->limit, "Evaluate only this many bytes (with --mass, default: 32 times the context)")
      ->check(CLI::Range(int64_t{1}, INT64_MAX));
  CLI::Option *picture = command->add_option("--picture", o->picture,
                                             "SVG of every head's mask (default: masks.svg beside the checkpoint)");
  command->add_option("--config", o->config,
                      "Attention and its inputs from this config, such as a dials_*.json, not those of the checkpoint");
  command->add_option("--set", o->settings, "The same by settings: attention=block_sparse inputs.tiles=2");
  CLI::Option *mass =
      command
          ->add_option("--mass", o->mass,
                       "Measure the share of exact attention's mass that this variant (default: the model's) keeps, by "
                       "layer and head: mean, lowest rows, kept pairs and tiles; written to mass_VARIANT.json")
          ->expected(0, 1)
          ->excludes(stride)
          ->excludes(picture);
  CLI::Option *target =
      command
          ->add_option("--target", o->target,
                       "Solve for the least of the variant's dial, in each layer or head, that keeps this mean mass; "
                       "written to dials_VARIANT_TARGET.json, a config")
          ->needs(mass)
          ->check(CLI::Range(0.01, 0.9999));
  command
      ->add_option("--dial", o->dial,
                   "The input to solve for where a variant has several, and where to look: share, or share=0.2..0.9")
      ->needs(target);
  addDevice(command, o->device);
  command->callback([&action, o, mass] {
    o->measuresMass = mass->count() > 0;
    action = [o] { return runEval(*o); };
  });
}

}  // namespace weft::cli
