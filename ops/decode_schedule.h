// How the kernels of decoding are cut up, and which variants can be decoded.
#pragma once

#include <map>
#include <string>

#include "compiler/compiler.h"
#include "runtime/device.h"

namespace weft::ops {

/// The schedule of calls with so many queries (see fewQueries); with pages, of `page` tokens each (0: without).
Schedule decodeSchedule(const Variant &variant, ElementType type, const std::map<std::string, int64_t> &headDims,
                        const Device &device, int64_t page, bool few);
/// True where so many queries are multiplied one by one.
inline bool fewQueries(int64_t queries, const Device &device) {
  return queries <= 8 && device.kind == Device::Kind::Cpu;
}
/// True where the newest query can be a call of its own, at the end of its sequence; else it is the last of T = S: what
/// a selection pools of queries, or a list of keys for a tile of them, is of whole tiles, and an entry of another query
/// must be there.
bool standsAlone(const Variant &variant);
/// Throws c10::Error where each query of the variant has a list of keys of its own: it cannot be decoded so.
void demandSharedKeys(const Variant &variant, const char *operation);

}  // namespace weft::ops
