#include "models/keeper.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <utility>
#include <vector>

#include "models/checkpoint.h"
#include "models/user_files.h"

namespace weft {
namespace {

namespace fs = std::filesystem;

/// The file `from` gets a second name, `to`, at once in the place of what had it.
void addName(const fs::path &from, const fs::path &to) {
  const fs::path temporary = to.parent_path() / ".weft-name.tmp";
  unlink(temporary.c_str());
  if (link(from.c_str(), temporary.c_str()) == 0 && rename(temporary.c_str(), to.c_str()) == 0) {
    unlink(temporary.c_str());  // stays where `to` was a name of this file already
    return;
  }
  // File systems without such names: a copy.
  writeFile(to.string(), readWhole(from.string()));
}

constexpr std::string_view start = "checkpoint-", end = ".pt";

/// The step of a file named checkpoint-STEP.pt.
std::optional<int64_t> stepOf(std::string_view name) {
  if (!name.starts_with(start) || !name.ends_with(end)) return std::nullopt;
  const std::string_view digits = name.substr(start.size(), name.size() - start.size() - end.size());
  int64_t step = 0;
  const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  if (error != std::errc{} || stop != digits.data() + digits.size() || step < 0 || std::to_string(step) != digits)
    return std::nullopt;
  return step;
}

std::string nameOf(int64_t step) { return std::string(start) + std::to_string(step) + std::string(end); }

/// The bits per character of a best.pt; infinite where it does not compare with what will be measured.
double bestOf(const std::string &path, const TrainConfig &now) {
  constexpr double none = std::numeric_limits<double>::infinity();
  if (!fs::exists(path)) return none;
  try {
    const Checkpoint best = loadCheckpoint(path);
    if (best.bpc && best.config.train.validateBytes == now.validateBytes) return *best.bpc;
    std::fprintf(stderr, "%s was validated on other bytes; the next validation replaces it\n", path.c_str());
  } catch (const std::exception &error) {
    std::fprintf(stderr, "%s\nThe next validation replaces it\n", error.what());
  }
  return none;
}

}  // namespace

Keeper::Keeper(std::string own, const TrainConfig &settings, std::optional<int64_t> saved, std::optional<double> bpc,
               Write how)
    : directory(std::move(own)), config(settings), savedStep(saved), savedBpc(bpc), write(std::move(how)) {
  if (!saved || config.validateEvery == 0) return;
  best = bestOf(path("best.pt"), config);
  // Killed between the two.
  if (bpc && *bpc < best) {
    addName(checkpointIn(directory), path("best.pt"));
    best = *bpc;
  }
}

std::string Keeper::path(const std::string &name) const { return (fs::path(directory) / name).string(); }

bool Keeper::due(int64_t step) const {
  const double minutes = std::chrono::duration<double, std::ratio<60>>(Clock::now() - savedAt).count();
  return step % config.saveEvery == 0 || (config.saveMinutes > 0 && minutes >= config.saveMinutes);
}

void Keeper::stepDone(int64_t step, std::optional<double> bpc) {
  if (due(step) || step == config.steps || (savedStep == step && bpc)) save(step, bpc);
  if (!bpc || *bpc >= best) return;
  if (savedStep == step) addName(checkpointIn(directory), path("best.pt"));
  else write(path("best.pt"), bpc);
  best = *bpc;
}

void Keeper::save(int64_t step, std::optional<double> bpc) {
  if (savedStep == step && (!bpc || savedBpc == bpc)) return;
  // Under keep = 1 files named so are not ours.
  if (config.keep > 1 && savedStep && savedStep != step) addName(checkpointIn(directory), path(nameOf(*savedStep)));
  write(checkpointIn(directory), bpc);
  savedStep = step;
  savedBpc = bpc;
  savedAt = Clock::now();
  if (config.keep > 1) removeOld();
}

/// Those of steps to come are not of this run: they are replaced when it comes there.
void Keeper::removeOld() const {
  std::vector<int64_t> steps;
  std::error_code code;
  for (const fs::directory_entry &entry : fs::directory_iterator(directory, code))
    if (const auto step = stepOf(entry.path().filename().string()); step && *step < *savedStep) steps.push_back(*step);
  std::ranges::sort(steps, std::greater<>());
  for (size_t at = static_cast<size_t>(config.keep) - 1; at < steps.size(); ++at)
    fs::remove(path(nameOf(steps[at])), code);
}

}  // namespace weft
