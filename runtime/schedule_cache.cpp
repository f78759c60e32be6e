#include "runtime/schedule_cache.h"

#include <algorithm>
#include <stdexcept>

#include <nlohmann/json.hpp>

#include "runtime/atomic_file.h"
#include "runtime/cache_folder.h"
#include "runtime/device_backend.h"
#include "runtime/environment.h"
#include "runtime/log.h"
#include "runtime/sha256.h"

namespace weft {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int schema = 2;

/// "Intel Xeon; +avx512f,..." -> letters that suit a file name, and a hash of all of it.
std::string fileName(const std::string &identity) {
  std::string slug;
  for (char c : identity.substr(0, identity.find_first_of(";,+\n"))) {
    if (slug.size() >= 40) break;
    if (std::isalnum(static_cast<unsigned char>(c)) || c == '_') slug += c;
    else if (!slug.empty() && slug.back() != '-') slug += '-';
  }
  while (!slug.empty() && slug.back() == '-') slug.pop_back();
  return slug + "-" + sha256(identity).substr(0, 16) + ".json";
}

json toJson(const Schedule &s) {
  return {{"tile_q", s.tileQ},
          {"tile_k", s.tileK},
          {"keys_q", s.keysQ},
          {"keys_k", s.keysK},
          {"stages", s.stages},
          {"block_rows", s.blockRows},
          {"order", s.order == Order::TilesInner ? "tiles_inner" : "heads_inner"},
          {"form", name(s.form)}};
}

Schedule scheduleFrom(const json &value) {
  Schedule s;
  s.tileQ = value.at("tile_q");
  s.tileK = value.at("tile_k");
  s.keysQ = value.at("keys_q");
  s.keysK = value.at("keys_k");
  s.stages = value.at("stages");
  s.blockRows = value.at("block_rows");
  const std::string order = value.at("order"), form = value.at("form");
  s.order = order == "heads_inner" ? Order::HeadsInner : Order::TilesInner;
  s.form = backwardFormOf(form);
  if (const std::string wrong = illegal(s); !wrong.empty()) throw std::runtime_error(wrong);
  return s;
}

json toJson(const TuningEntry &entry) {
  const TuningKey &key = entry.key;
  json points = json::array();
  for (const TuningPoint &point : entry.points)
    points.push_back({{"schedule", toJson(point.schedule)},
                      {"predicted", point.predicted},
                      {"samples", point.samples},
                      {"note", point.note}});
  return {{"variant", key.variant},
          {"variant_hash", key.variantHash},
          {"type", name(key.type)},
          {"head_dims", key.headDims},
          {"direction", key.backward ? "backward" : "forward"},
          {"bucket", {{"heads", key.heads}, {"queries", key.queries}, {"keys", key.keys}}},
          {"threads", key.threads},
          {"build", entry.build},
          {"shape", entry.shape},
          {"complete", entry.complete},
          {"schedule", toJson(entry.schedule)},
          {"seconds", entry.seconds},
          {"default_seconds", entry.defaultSeconds},
          {"clock_ghz", entry.clockGhz},
          {"points", points}};
}

TuningEntry entryOf(const json &value) {
  TuningEntry entry;
  entry.key.variant = value.at("variant");
  entry.key.variantHash = value.at("variant_hash");
  entry.key.type = rowTypeNamed(value.at("type").get<std::string>()).value_or(ElementType::F32);
  entry.key.headDims = value.at("head_dims").get<std::map<std::string, int64_t>>();
  entry.key.backward = value.at("direction") == "backward";
  const json &bucket = value.at("bucket");
  entry.key.heads = bucket.at("heads");
  entry.key.queries = bucket.at("queries");
  entry.key.keys = bucket.at("keys");
  entry.key.threads = value.at("threads");
  entry.build = value.at("build");
  entry.shape = value.at("shape");
  entry.complete = value.at("complete");
  entry.schedule = scheduleFrom(value.at("schedule"));
  entry.seconds = value.at("seconds");
  entry.defaultSeconds = value.at("default_seconds");
  entry.clockGhz = value.at("clock_ghz");
  for (const json &point : value.at("points"))
    entry.points.push_back({scheduleFrom(point.at("schedule")), point.at("predicted"),
                            point.at("samples").get<std::vector<double>>(), point.at("note")});
  return entry;
}

/// Throws std::exception where the text is no cache of this schema for this device.
std::vector<TuningEntry> parseCache(const std::string &text, const std::string &identity) {
  const json all = json::parse(text);
  if (all.at("schema") != schema)
    throw std::runtime_error("schema " + all.at("schema").dump() + ", expected " + std::to_string(schema));
  if (all.at("device").at("name") != identity)
    throw std::runtime_error("of another device: " + all.at("device").at("name").get<std::string>().substr(0, 80));
  std::vector<TuningEntry> entries;
  for (const json &entry : all.at("entries")) entries.push_back(entryOf(entry));
  return entries;
}

std::string printCache(const std::vector<TuningEntry> &entries, const std::string &identity) {
  json list = json::array();
  for (const TuningEntry &entry : entries) list.push_back(toJson(entry));
  return json({{"schema", schema}, {"device", {{"name", identity}}}, {"entries", list}}).dump(1) + "\n";
}

constexpr char part[] = "schedules";

/// Code for one architecture alone has schedules of its own.
std::string identityOf(const Device &device) {
  const std::string own = backendOf(device).identity(device.index);
  const bool alone = capabilityOf(device) >= 80 && targetOf(device) != "sm_80";
  return alone ? own + "; " + targetOf(device) : own;
}

void put(std::vector<TuningEntry> &entries, const TuningEntry &entry) {
  auto same =
      std::find_if(entries.begin(), entries.end(), [&](const TuningEntry &other) { return other.key == entry.key; });
  if (same == entries.end()) entries.push_back(entry);
  else *same = entry;
}

}  // namespace

int64_t bucketOf(int64_t size) {
  int64_t bucket = 1;
  while (bucket < size) bucket *= 2;
  return bucket;
}

std::string describe(const TuningKey &key) {
  std::string text = key.variant + (key.backward ? " backward " : " forward ") + name(key.type);
  for (const auto &[dim, size] : key.headDims) text += " " + dim + "=" + std::to_string(size);
  text += ", " + std::to_string(key.heads) + " x " + std::to_string(key.queries) + " x " + std::to_string(key.keys);
  if (key.threads) text += ", " + std::to_string(key.threads) + (key.threads == 1 ? " thread" : " threads");
  return text;
}

ScheduleCache::ScheduleCache(const Device &device) : identity(identityOf(device)), file(fileName(identity)) {}

fs::path ScheduleCache::path() const { return fs::path(environment::cacheDirectory()) / part / file; }

/// The entries of the file, or what is wrong with it.
std::vector<TuningEntry> ScheduleCache::read(const PrivateFolder &folder, std::string &wrong) const {
  std::string text;
  if (!folder.read(file, text, wrong)) return {};
  try {
    return parseCache(text, identity);
  } catch (const std::exception &error) {
    wrong = error.what();
    return {};
  }
}

/// Puts a file that cannot be read aside. Only with the lock held: else it could be the good one that another process
/// has just put in its place.
std::vector<TuningEntry> ScheduleCache::readLocked(const PrivateFolder &folder) const {
  std::string wrong, aside;
  std::vector<TuningEntry> entries = read(folder, wrong);
  if (wrong.empty()) return entries;
  constexpr int mostAside = 1000;
  for (int number = 1; number < mostAside; ++number)
    if (aside = file + ".damaged-" + std::to_string(number); folder.rename(file, aside)) break;
  log().warn("{} cannot be read ({}); put aside as {}, tuning starts anew", path().string(), wrong, aside);
  return {};
}

void ScheduleCache::write(const PrivateFolder &folder, const std::vector<TuningEntry> &entries) const {
  if (const std::string reason = folder.replace(file, printCache(entries, identity)); !reason.empty())
    throw std::runtime_error("tuning results cannot be kept in " + path().string() + ": " + reason);
}

FileLock ScheduleCache::lock(const PrivateFolder &folder) const {
  return FileLock(folder, file + ".lock", FileLock::Wait::Yes);
}

std::vector<TuningEntry> ScheduleCache::entries() const {
  const PrivateFolder folder = cacheFolder(part, false);
  std::string wrong;
  std::vector<TuningEntry> found = read(folder, wrong);
  if (wrong.empty()) return found;
  const FileLock held = lock(folder);
  return readLocked(folder);
}

std::unique_ptr<FileLock> ScheduleCache::tuningLock() const {
  return std::make_unique<FileLock>(cacheFolder(part, true), file + ".tuning", FileLock::Wait::No);
}

std::optional<TuningEntry> ScheduleCache::find(const TuningKey &key) const {
  for (TuningEntry &entry : entries())
    if (entry.key == key) return std::move(entry);
  return {};
}

void ScheduleCache::store(const TuningEntry &entry) const {
  const PrivateFolder folder = cacheFolder(part, true);
  const FileLock held = lock(folder);
  std::vector<TuningEntry> all = readLocked(folder);
  put(all, entry);
  write(folder, all);
}

size_t ScheduleCache::merge(const fs::path &other) const {
  std::string text;
  if (!readFile(other, text)) throw std::runtime_error("cannot open " + other.string());
  std::vector<TuningEntry> theirs;
  try {
    theirs = parseCache(text, identity);
  } catch (const std::exception &error) {
    throw std::runtime_error(other.string() + " is not a tuning cache for this device: " + error.what());
  }
  const PrivateFolder folder = cacheFolder(part, true);
  const FileLock held = lock(folder);
  std::vector<TuningEntry> all = readLocked(folder);
  size_t added = 0;
  for (const TuningEntry &entry : theirs) {
    if (!entry.complete) continue;
    auto ours = std::find_if(all.begin(), all.end(), [&](const TuningEntry &own) { return own.key == entry.key; });
    if (ours != all.end() && ours->complete && ours->build == entry.build && ours->seconds <= entry.seconds) continue;
    put(all, entry);
    ++added;
  }
  if (added) write(folder, all);
  return added;
}

void ScheduleCache::exportTo(const fs::path &other) const {
  if (const std::string reason = replaceFile(other, printCache(entries(), identity)); !reason.empty())
    throw std::runtime_error("cannot write " + other.string() + ": " + reason);
}

}  // namespace weft
