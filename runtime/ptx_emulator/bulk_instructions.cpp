// cp.async.bulk.*, cp.reduce.async.bulk.* and prefetches of tensor maps. Semantics: PTX ISA manual, "Data movement".
#include <bit>
#include <set>

#include "runtime/ptx_emulator/handlers.h"

namespace weft::ptx {
namespace {

/// Instruction::variant: how many dimensions; 0: no tensor.
enum Variant : int { Dimensions = 7, Reduces = 8 };

TensorMap mapAt(const Warp &warp, int lane, uint64_t address) {
  const auto &parameters = warp.block.launch.parameters;
  const uint8_t *bytes = nullptr;
  if (address % 64) warp.fail("misaligned tensor map at " + hex(address) + ", expected a multiple of 64", lane);
  const uint64_t offset = address >= parameterWindow ? address - parameterWindow : address;
  if (offset < parameters.size()) {
    if (parameters.size() - offset < sizeof(EncodedTensorMap)) warp.fail("read past the parameters", lane);
    bytes = &parameters[offset];
  } else {
    bytes = warp.block.global(warp, lane, address, sizeof(EncodedTensorMap), GlobalRaces::Read);
  }
  const std::optional<TensorMap> map = decodeTensorMap(bytes);
  if (!map) warp.fail("no tensor map at " + hex(address), lane);
  return *map;
}

void checkShared(const Warp &warp, int lane, uint64_t address, uint64_t multiple) {
  if (address % multiple)
    warp.fail("misaligned bulk copy at shared address " + hex(address) + ", expected a multiple of " +
                  std::to_string(multiple),
              lane);
}

void checkRank(const Warp &warp, const Instruction &in, int lane, const TensorMap &map) {
  if (map.rank != (in.variant & Dimensions))
    warp.fail("a tensor map of " + std::to_string(map.rank) + " dimensions in a copy of " +
                  std::to_string(in.variant & Dimensions),
              lane);
}

BulkRegion boxOf(const Warp &warp, const Instruction &in, int lane, const TensorMap &map, const Lanes *coordinates,
                 uint64_t shared) {
  checkRank(warp, in, lane, map);
  checkShared(warp, lane, shared, 128);
  const int64_t width = widthOf(map.swizzle), inner = bytesOf(map.type) * map.box[0];
  if (width && width != inner)
    warp.fail("a box with rows of " + std::to_string(inner) + " bytes and a swizzle of " + std::to_string(width) +
                  ": only rows as long as the swizzle are known",
              lane);
  BulkRegion region{shared, boxBytes(map), map.swizzle, {}};
  if (region.bytes > warp.block.shared.size())
    warp.fail("a box of " + std::to_string(region.bytes) + " bytes, shared memory has " +
                  std::to_string(warp.block.shared.size()),
              lane);
  int32_t begin[TensorMap::mostDimensions] = {};
  for (int at = 0; at < map.rank; ++at) begin[at] = static_cast<int32_t>(coordinates[at][lane]);
  eachRow(map, begin,
          [&](int64_t offset, uint64_t address, int bytes) { region.rows.push_back({offset, address, bytes}); });
  return region;
}

BulkRegion lineOf(const Warp &warp, int lane, uint64_t global, uint64_t shared, uint64_t bytes) {
  checkShared(warp, lane, shared, 16);
  if (global % 16)
    warp.fail("misaligned bulk copy at global address " + hex(global) + ", expected a multiple of 16", lane);
  if (bytes % 16 || bytes > static_cast<uint64_t>(warp.block.shared.size()))
    warp.fail("a bulk copy of " + std::to_string(bytes) + " bytes, expected a multiple of 16 that fits", lane);
  BulkRegion region{shared, static_cast<int64_t>(bytes), Swizzle::None, {}};
  if (bytes) region.rows.push_back({0, global, static_cast<int>(bytes)});
  return region;
}

/// The values of an operand's parts.
std::vector<Lanes> partsOf(Warp &warp, const std::vector<Operand> &operand, uint32_t lanes) {
  std::vector<Lanes> all;
  for (const Operand &part : operand) all.push_back(warp.read(part, lanes));
  return all;
}

/// [shared], [map, {coordinates}], [mbarrier] {, policy}
void loadBox(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes to = addresses(warp, in.operands[0][0], lanes), maps = addresses(warp, in.operands[1][0], lanes),
              barriers = addresses(warp, in.operands[3][0], lanes);
  const std::vector<Lanes> coordinates = partsOf(warp, in.operands[2], lanes);
  each(lanes, [&](int lane) {
    const TensorMap map = mapAt(warp, lane, maps[lane]);
    warp.block.bulk.load(warp, lane, boxOf(warp, in, lane, map, coordinates.data(), to[lane]), barriers[lane]);
  });
}

/// [map, {coordinates}], [shared] {, policy}
void storeBox(Warp &warp, const Instruction &in, uint32_t lanes) {
  using Effect = BulkCopies::Effect;
  const Lanes maps = addresses(warp, in.operands[0][0], lanes), from = addresses(warp, in.operands[2][0], lanes);
  const std::vector<Lanes> coordinates = partsOf(warp, in.operands[1], lanes);
  each(lanes, [&](int lane) {
    const TensorMap map = mapAt(warp, lane, maps[lane]);
    Effect effect = Effect::Store;
    if (in.variant & Reduces) {
      effect = map.type == TensorMap::Type::F32   ? Effect::AddF32
               : map.type == TensorMap::Type::F16 ? Effect::AddF16
                                                  : Effect::AddBF16;
      if (effect == Effect::AddBF16 && map.type != TensorMap::Type::BF16)
        warp.fail("a sum of elements that are none of f32, f16 and bf16", lane);
    }
    warp.block.bulk.store(warp, lane, boxOf(warp, in, lane, map, coordinates.data(), from[lane]), effect);
  });
}

/// [shared], [global], bytes, [mbarrier] {, policy}
void loadLine(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes to = addresses(warp, in.operands[0][0], lanes), from = addresses(warp, in.operands[1][0], lanes),
              bytes = warp.read(in.operands[2][0], lanes), barriers = addresses(warp, in.operands[3][0], lanes);
  each(lanes, [&](int lane) {
    warp.block.bulk.load(warp, lane, lineOf(warp, lane, from[lane], to[lane], bytes[lane]), barriers[lane]);
  });
}

/// [global], [shared], bytes {, policy}
void storeLine(Warp &warp, const Instruction &in, uint32_t lanes) {
  using Effect = BulkCopies::Effect;
  const Lanes to = addresses(warp, in.operands[0][0], lanes), from = addresses(warp, in.operands[1][0], lanes),
              bytes = warp.read(in.operands[2][0], lanes);
  const Effect effect = !(in.variant & Reduces) ? Effect::Store
                        : in.type == Type::F32  ? Effect::AddF32
                        : in.type == Type::F16  ? Effect::AddF16
                                                : Effect::AddBF16;
  each(lanes, [&](int lane) {
    warp.block.bulk.store(warp, lane, lineOf(warp, lane, to[lane], from[lane], bytes[lane]), effect);
  });
}

void commit(Warp &warp, const Instruction &, uint32_t lanes) {
  each(lanes, [&](int lane) { warp.block.bulk.commit(warp, lane); });
}
template <bool Reading>
void wait(Warp &warp, const Instruction &in, uint32_t lanes) {
  warp.block.bulk.wait(warp, lanes, in.operands[0][0].value, Reading);
}

void prefetch(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes maps = addresses(warp, in.operands[0][0], lanes);
  each(lanes, [&](int lane) { mapAt(warp, lane, maps[lane]); });
}

OperandRule coordinatesOf(int dimensions) {
  OperandRule rule = from(32, dimensions);
  rule.joined = true;
  return rule;
}

/// The words of an opcode, taken one after the other.
class Words {
 public:
  explicit Words(const Opcode &opcode) : all(opcode.words) {}
  bool accept(const std::string &word) {
    if (at >= all.size() || all[at] != word) return false;
    ++at;
    return true;
  }
  bool accept(const std::string &first, const std::string &second) {
    const size_t before = at;
    if (accept(first) && accept(second)) return true;
    at = before;
    return false;
  }
  std::string next() { return at < all.size() ? all[at++] : std::string(); }
  bool done() const { return at == all.size(); }

 private:
  const std::vector<std::string> &all;
  size_t at = 0;
};

std::optional<Signature> withPolicy(Words &words, std::vector<OperandRule> operands) {
  if (words.accept("L2::cache_hint")) operands.push_back(from(64));
  if (!words.done()) return {};
  return Signature{std::move(operands)};
}

bool intoShared(Words &words) {
  return words.accept("shared::cluster", "global") || words.accept("shared::cta", "global");
}

/// [map, {coordinates}] {, policy}
void prefetchBox(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes maps = addresses(warp, in.operands[0][0], lanes);
  partsOf(warp, in.operands[1], lanes);
  each(lanes, [&](int lane) { checkRank(warp, in, lane, mapAt(warp, lane, maps[lane])); });
}

std::optional<Signature> decodeTensorCopy(Words &words, Instruction &in, bool prefetches) {
  const std::string dimensions = words.next();
  if (dimensions.size() != 2 || dimensions[0] < '1' || dimensions[0] > '5' || dimensions[1] != 'd') return {};
  const int count = dimensions[0] - '0';
  in.variant |= count;
  if (prefetches) {
    if (!words.accept("L2", "global")) return {};
    words.accept("tile");
    in.execute = prefetchBox;
    return withPolicy(words, {address(64), coordinatesOf(count)});
  }
  if (!(in.variant & Reduces) && intoShared(words)) {
    words.accept("tile");
    if (!words.accept("mbarrier::complete_tx::bytes")) return {};
    in.execute = loadBox;
    return withPolicy(words, {address(32), address(64), coordinatesOf(count), address(32)});
  }
  if (!words.accept("global", "shared::cta") || ((in.variant & Reduces) && !words.accept("add"))) return {};
  words.accept("tile");
  if (!words.accept("bulk_group")) return {};
  in.execute = storeBox;
  return withPolicy(words, {address(64), coordinatesOf(count), address(32)});
}

std::optional<Signature> decodeLineCopy(Words &words, Instruction &in) {
  if (!(in.variant & Reduces) && intoShared(words)) {
    if (!words.accept("mbarrier::complete_tx::bytes")) return {};
    in.execute = loadLine;
    return withPolicy(words, {address(32), address(64), from(32), address(32)});
  }
  if (!words.accept("global", "shared::cta") || !words.accept("bulk_group")) return {};
  in.execute = storeLine;
  std::vector<OperandRule> operands = {address(64), address(32), from(32)};
  if (!(in.variant & Reduces)) return withPolicy(words, operands);
  if (words.accept("L2::cache_hint")) operands.push_back(from(64));
  if (!words.accept("add")) return {};
  // Of 16 bits only what keeps subnormal numbers.
  const bool keeps = words.accept("noftz");
  in.type = typeOf(words.next());
  const bool narrow = in.type == Type::F16 || in.type == Type::BF16;
  if (!words.done() || (!narrow && in.type != Type::F32) || keeps != narrow) return {};
  return Signature{operands};
}

}  // namespace

std::optional<Signature> decodeBulkCopies(const Opcode &opcode, Instruction &in) {
  static const std::map<std::string, std::pair<Handler, Signature>> whole = {
      {"cp.async.bulk.commit_group", {commit, {}}},
      {"cp.async.bulk.wait_group", {wait<false>, {{number()}}}},
      {"cp.async.bulk.wait_group.read", {wait<true>, {{number()}}}},
      {"prefetch.tensormap", {prefetch, {{address(64)}}}},
      {"prefetch.param.tensormap", {prefetch, {{address(64)}}}}};
  in.needs = Instruction::Needs::Sm90;
  std::optional<Signature> signature;
  Words words(opcode);
  if (auto found = whole.find(opcode.text); found != whole.end()) {
    in.execute = found->second.first;
    signature = found->second.second;
  } else if (words.accept("cp")) {
    if (words.accept("reduce")) in.variant = Reduces;
    if (words.accept("async", "bulk")) {
      const bool prefetches = !in.variant && words.accept("prefetch");
      if (words.accept("tensor")) signature = decodeTensorCopy(words, in, prefetches);
      else if (!prefetches) signature = decodeLineCopy(words, in);
    }
  }
  if (!signature) in = {};
  return signature;
}

}  // namespace weft::ptx
