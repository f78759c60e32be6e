#include "runtime/kernel_file.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <stdexcept>

#include <nlohmann/json.hpp>

#include "runtime/sha256.h"

namespace weft {
namespace {

using nlohmann::json;

constexpr char magic[] = "weftkernel5\n";
constexpr size_t digestDigits = 64, mostLengthDigits = 9;

// Beyond what any target has: what is out of these is no kernel.
constexpr int64_t mostScratchBytes = int64_t{1} << 32, mostSharedBytes = 1 << 20, mostResidents = 32;
constexpr int mostTileRows = 1 << 16, mostThreads = 1024, mostDims = 8;
constexpr size_t mostSlots = 4096, mostMaps = 64;

void demand(bool ok, const char *what) {
  if (!ok) throw std::runtime_error(what);
}

std::string describe(const KernelImage &image, const std::string &key) {
  json slots = json::array();
  for (const ArgumentSlot &slot : image.slots) slots.push_back({static_cast<int>(slot.kind), slot.name, slot.index});
  json maps = json::array();
  for (const TensorMapSlot &map : image.maps) maps.push_back({map.tensor, map.rows});
  return json({{"key", key},
               {"entry", image.entry},
               {"maps", maps},
               {"slots", slots},
               {"grid", static_cast<int>(image.grid)},
               {"keyDim", image.keyDim},
               {"tileQ", image.tileQ},
               {"tileK", image.tileK},
               {"scratchBytes", image.scratchBytes},
               {"threads", image.threads},
               {"programsPerBlock", image.programsPerBlock},
               {"residents", image.residents},
               {"sharedBytes", image.sharedBytes}})
      .dump();
}

int64_t number(const json &value, int64_t least, int64_t most) {
  demand(value.is_number_integer(), "a number is none");
  const int64_t own = value.get<int64_t>();
  demand(own >= least && own <= most, "a number is out of range");
  return own;
}

/// "weft_causal_plan_lists_keys_M": what both targets call a kernel.
std::string entryOf(const CompileRequest &request) {
  std::string entry = "weft_" + request.variant->name() + "_" + request.kernel;
  std::replace(entry.begin(), entry.end(), '.', '_');
  return entry;
}

bool starts(const std::string &text, const char *start) { return text.rfind(start, 0) == 0; }

bool suits(Grid grid, const std::string &kernel, TileRows rows) {
  if (starts(kernel, "pool_")) return grid == Grid::QueryTile || grid == Grid::KeyTile || grid == Grid::HeadKeyTile;
  if (starts(kernel, "plan_lists_keys")) return grid == Grid::HeadKeyTile;
  if (starts(kernel, "plan_band")) return grid == Grid::Head;
  if (starts(kernel, "backward_dkdv") || starts(kernel, "backward_keys")) return grid == Grid::KeyTile;
  if (kernel == "backward") return grid == Grid::Group;
  for (const char *byQuery : {"forward", "backward_", "plan_lists", "select_", "list_keys"})
    if (starts(kernel, byQuery)) return grid == (rows == TileRows::Queries ? Grid::QueryTile : Grid::PositionTile);
  return true;
}

ArgumentSlot slotOf(const json &value, const Variant &variant) {
  demand(value.is_array() && value.size() == 3, "an argument is none");
  const auto kind = static_cast<ArgumentSlot::Kind>(number(value[0], 0, static_cast<int>(ArgumentSlot::Kind::Stride)));
  ArgumentSlot slot{kind, value[1].get<std::string>(), static_cast<int>(number(value[2], 0, mostDims - 1))};
  demand(!slot.name.empty(), "an argument has no name");
  if (kind == ArgumentSlot::Kind::Stride)
    for (const InputInfo &input : variant.inputs())
      if (slot.name == input.name)
        demand(slot.index < static_cast<int>(input.dims.size()), "an argument is the stride of no dim");
  return slot;
}

TensorMapSlot mapOf(const json &value) {
  demand(value.is_array() && value.size() == 2, "a tensor map is none");
  TensorMapSlot map{value[0].get<std::string>(), static_cast<int>(number(value[1], 1, 256))};
  demand(!map.tensor.empty(), "a tensor map has no name");
  return map;
}

void demandTiles(const KernelImage &image, const CompileRequest &request) {
  const std::string &kernel = request.kernel;
  // A selection's tiles are its own.
  if (!starts(kernel, "forward") && !starts(kernel, "backward") && !starts(kernel, "plan_")) return;
  const Schedule schedule = scheduleOf(request.schedule, kernel);
  demand(image.tileQ == schedule.tileQ && image.tileK == schedule.tileK, "of other tiles");
}

}  // namespace

std::string printKernelFile(const KernelImage &image, const std::string &key) {
  const std::string header = describe(image, key);
  const std::string rest = std::to_string(header.size()) + "\n" + header + image.code;
  return magic + sha256(rest) + "\n" + rest;
}

KernelImage parseKernelFile(const std::string &text, const CompileRequest &request, const std::string &key) {
  const size_t digest = std::strlen(magic), start = digest + digestDigits + 1;
  demand(text.compare(0, digest, magic) == 0, "not a kernel file of this version");
  demand(text.size() > start && text[start - 1] == '\n', "truncated");
  demand(std::string_view(text).substr(digest, digestDigits) == sha256(std::string_view(text).substr(start)),
         "damaged");
  const size_t lineEnd = text.find('\n', start);
  demand(lineEnd != std::string::npos && lineEnd > start && lineEnd - start <= mostLengthDigits, "no header");
  demand(std::all_of(text.begin() + start, text.begin() + lineEnd, [](unsigned char c) { return std::isdigit(c); }),
         "no header");
  const size_t headerSize = std::stoul(text.substr(start, lineEnd - start));
  demand(text.size() - lineEnd - 1 > headerSize, "truncated");
  const json header = json::parse(text.begin() + lineEnd + 1, text.begin() + lineEnd + 1 + headerSize);
  demand(header.at("key") == key, "of another kernel");

  KernelImage image;
  image.code = text.substr(lineEnd + 1 + headerSize);
  image.entry = header.at("entry").get<std::string>();
  demand(image.entry == entryOf(request), "of another entry");
  const size_t maps = isGpu(request.target) && !request.anyRows ? mostMaps : 0;
  demand(header.at("maps").is_array() && header.at("maps").size() <= maps, "too many tensor maps");
  for (const json &map : header.at("maps")) image.maps.push_back(mapOf(map));
  demand(header.at("slots").is_array() && header.at("slots").size() <= mostSlots, "too many arguments");
  for (const json &slot : header.at("slots")) image.slots.push_back(slotOf(slot, *request.variant));
  image.grid = static_cast<Grid>(number(header.at("grid"), 0, static_cast<int>(Grid::PositionTile)));
  demand(suits(image.grid, request.kernel, request.variant->rows()), "of another grid");
  image.keyDim = header.at("keyDim").get<std::string>();
  const auto &sets = request.variant->keySets();
  demand(image.keyDim == "S" ||
             std::any_of(sets.begin(), sets.end(), [&](const KeySetInfo &set) { return set.dim == image.keyDim; }),
         "of other keys");
  image.tileQ = static_cast<int>(number(header.at("tileQ"), 1, mostTileRows));
  image.tileK = static_cast<int>(number(header.at("tileK"), 1, mostTileRows));
  demandTiles(image, request);
  const bool gpu = isGpu(request.target);
  image.scratchBytes = number(header.at("scratchBytes"), 0, gpu ? 0 : mostScratchBytes);
  image.threads = static_cast<int>(number(header.at("threads"), gpu, gpu ? mostThreads : 0));
  image.programsPerBlock = static_cast<int>(number(header.at("programsPerBlock"), 1, gpu ? mostThreads : 1));
  // Of kernels that copy by tensor maps alone, which plan nothing.
  const bool takesPrograms = !image.maps.empty() && image.programsPerBlock == 1;
  image.residents = static_cast<int>(number(header.at("residents"), 0, takesPrograms ? mostResidents : 0));
  image.sharedBytes = number(header.at("sharedBytes"), 0, gpu ? mostSharedBytes : 0);
  return image;
}

}  // namespace weft
