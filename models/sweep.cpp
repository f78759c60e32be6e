#include "models/sweep.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <set>
#include <sstream>
#include <stdexcept>

#include "models/checkpoint.h"
#include "models/evaluate.h"
#include "models/interrupt.h"
#include "models/user_files.h"
#include "runtime/atomic_file.h"

namespace weft {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr size_t mostRuns = 10000;

/// The values of "1e-3,[0, 9],\"a,b\"": apart by commas that stand in no brackets and quotes.
std::vector<std::string> valuesOf(const std::string &list) {
  std::vector<std::string> values(1);
  int depth = 0;
  bool quoted = false;
  for (const char c : list) {
    if (c == '"') quoted = !quoted;
    if (!quoted) depth += c == '[' || c == '{' ? 1 : c == ']' || c == '}' ? -1 : 0;
    if (c == ',' && depth == 0 && !quoted) values.emplace_back();
    else values.back() += c;
  }
  return values;
}

/// As a part of the name of a folder.
std::string plain(std::string text) {
  for (char &c : text)
    if (!std::isalnum(static_cast<unsigned char>(c)) && std::string_view("._+-").find(c) == std::string_view::npos)
      c = '_';
  return text;
}

/// Of the newest entries of a run: batches alone are noisy.
constexpr size_t meanOf = 20;

/// The figures of a run that has come to its end. None where it was interrupted while it was validated.
json figuresOf(const std::string &directory, const SweepRun &run, const torch::Device device, const TextData &data) {
  std::string text, line;
  readFile(fs::path(directory) / "metrics.jsonl", text);
  std::vector<json> entries;
  for (std::istringstream in(text); std::getline(in, line);)
    if (json entry = json::parse(line, nullptr, false); entry.is_object()) entries.push_back(std::move(entry));
  if (entries.empty()) throw std::runtime_error(directory + "/metrics.jsonl has no entries");
  double sum = 0;
  const size_t counted = std::min(meanOf, entries.size());
  for (size_t at = entries.size() - counted; at < entries.size(); ++at) sum += entries[at].value("bpc", std::nan(""));
  json figures{{"train_bpc", sum / static_cast<double>(counted)},
               {"seconds", entries.back().value("seconds", 0.0)},
               {"step", entries.back().value("step", int64_t{0})}};
  if (entries.back().contains("val_bpc")) {
    figures["val_bpc"] = entries.back()["val_bpc"];
    return figures;
  }
  // The run itself was not validated at its end.
  Checkpoint checkpoint = loadCheckpoint(directory, device);
  const int64_t context = run.config.model.context;
  const Evaluation result = evaluate(checkpoint.model, data.validation, std::max<int64_t>(1, context / 2),
                                     std::max(context, run.config.train.validateBytes), false);
  if (!result.complete) return {};
  figures["val_bpc"] = result.bpc;
  return figures;
}

std::string noteIn(const std::string &directory) { return (fs::path(directory) / "sweep_run.json").string(); }

/// What is known of a run: {"config": ...}, and where it is done its figures.
json readNote(const std::string &directory) {
  std::string text;
  if (!fs::exists(noteIn(directory)) || !readFile(noteIn(directory), text)) return json::object();
  json note = json::parse(text, nullptr, false);
  return note.is_object() ? note : json::object();
}

bool isDone(const json &note) { return note.contains("val_bpc") || note.contains("error"); }

json resultOf(const SweepRun &run, const json &note) {
  json result{{"name", run.name}, {"settings", json::object()}};
  for (const auto &[key, value] : run.varied) result["settings"][key] = value;
  for (const char *key : {"val_bpc", "train_bpc", "seconds", "step", "error"})
    if (note.contains(key)) result[key] = note[key];
  return result;
}

/// Runs with an error, and those without a figure, come last.
double rank(const json &result) {
  const json &bpc = result.contains("val_bpc") ? result["val_bpc"] : json();
  return bpc.is_number() && std::isfinite(bpc.get<double>()) ? bpc.get<double>() : HUGE_VAL;
}

}  // namespace

std::vector<SweepRun> sweepRuns(const SweepOptions &options) {
  std::vector<std::vector<std::pair<std::string, std::string>>> combinations(1);
  std::set<std::string> keys;
  for (const std::string &given : options.varied) {
    const size_t equals = given.find('=');
    if (equals == std::string::npos) throw std::invalid_argument("expected key=value,value,..., got '" + given + "'");
    const std::string key = given.substr(0, equals);
    if (!keys.insert(key).second) throw std::invalid_argument("'" + key + "' is varied twice");
    std::vector<std::vector<std::pair<std::string, std::string>>> longer;
    for (const auto &combination : combinations)
      for (const std::string &value : valuesOf(given.substr(equals + 1))) {
        longer.push_back(combination);
        longer.back().emplace_back(key, value);
        if (longer.size() > mostRuns)
          throw std::invalid_argument("expected at most " + std::to_string(mostRuns) + " runs of a sweep");
      }
    combinations = std::move(longer);
  }
  std::vector<SweepRun> runs;
  std::set<std::string> names;
  for (const auto &combination : combinations) {
    SweepRun run;
    std::vector<std::string> settings = options.settings;
    for (const auto &[key, value] : combination) {
      settings.push_back(key + "=" + value);
      run.name += (run.name.empty() ? "" : ",") + plain(key.substr(key.rfind('.') + 1)) + "=" + plain(value);
    }
    run.varied = combination;
    run.config = parseConfig(options.config, options.origin, settings);
    if (run.name.size() > 200)
      throw std::invalid_argument("expected values whose names a folder can have, got " + run.name);
    if (!names.insert(run.name).second) throw std::invalid_argument("two runs of the sweep would be " + run.name);
    runs.push_back(std::move(run));
  }
  return runs;
}

json sweep(const SweepOptions &options, const TextData &data) {
  const std::vector<SweepRun> runs = sweepRuns(options);
  auto folder = [&](const SweepRun &run) { return (fs::path(options.directory) / run.name).string(); };
  const std::string text = digest(data);
  std::vector<json> notes;
  for (const SweepRun &run : runs) {
    notes.push_back(readNote(folder(run)));
    if (notes.back().contains("config") && notes.back()["config"] != json::parse(printConfig(run.config)))
      throw std::runtime_error(folder(run) + " is a run of other settings; give a new --out");
    if (notes.back().contains("text") && notes.back()["text"] != text)
      throw std::runtime_error(folder(run) + " is a run on another text; give a new --out");
  }
  makeFolder(options.directory);
  auto save = [&](bool complete) {
    std::vector<json> done;
    for (size_t at = 0; at < runs.size(); ++at)
      if (isDone(notes[at])) done.push_back(resultOf(runs[at], notes[at]));
    std::ranges::stable_sort(done, {}, rank);
    const json results{{"complete", complete}, {"data", data.description}, {"runs", done}};
    // A path may hold bytes that are not UTF-8.
    writeFile((fs::path(options.directory) / "sweep.json").string(),
              results.dump(1, ' ', false, json::error_handler_t::replace) + "\n");
    return results;
  };
  for (size_t at = 0; at < runs.size(); ++at) {
    const SweepRun &run = runs[at];
    std::fprintf(stderr, "\n[%zu/%zu] %s%s\n", at + 1, runs.size(), run.name.c_str(),
                 isDone(notes[at]) ? ": done before" : "");
    if (isDone(notes[at])) continue;
    json note{{"config", json::parse(printConfig(run.config))}, {"text", text}};
    makeFolder(folder(run));
    writeFile(noteIn(folder(run)), note.dump(1) + "\n");
    try {
      TrainOptions training;
      training.config = run.config;
      training.directory = folder(run);
      training.resume = true;
      training.device = options.device;
      if (train(training, data) != 0) return save(false);
      const json figures = figuresOf(folder(run), run, options.device, data);
      if (figures.is_null()) return save(false);
      note.update(figures);
    } catch (const Diverged &error) {
      std::fprintf(stderr, "%s\n", error.what());
      note["error"] = error.what();
    }
    writeFile(noteIn(folder(run)), note.dump(1, ' ', false, json::error_handler_t::replace) + "\n");
    notes[at] = note;
    save(false);
  }
  return save(true);
}

std::string sweepTable(const json &results) {
  std::vector<std::vector<std::string>> rows;
  auto number = [](const json &result, const char *key, const char *format) {
    char text[32] = "";
    if (result.contains(key) && result[key].is_number())
      std::snprintf(text, sizeof text, format, result[key].get<double>());
    return std::string(text);
  };
  for (const json &result : results["runs"]) {
    if (rows.empty()) rows.push_back({"val bpc", "train bpc", "seconds", "run"});
    rows.push_back({result.contains("error") ? "diverged" : number(result, "val_bpc", "%.4f"),
                    number(result, "train_bpc", "%.4f"), number(result, "seconds", "%.1f"),
                    result["name"].get<std::string>()});
  }
  std::string table;
  for (const auto &row : rows) {
    for (size_t at = 0; at + 1 < row.size(); ++at)
      table += std::string(11 - std::min<size_t>(11, row[at].size()), ' ') + row[at];
    table += "  " + row.back() + "\n";
  }
  return table;
}

}  // namespace weft
