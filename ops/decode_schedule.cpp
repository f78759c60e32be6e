#include "ops/decode_schedule.h"

#include <numeric>

#include <c10/util/Exception.h>

#include "compiler/origin.h"
#include "ops/schedules.h"

namespace weft::ops {

/// Small tiles, of few queries; the last tiles of all heads are the first programs.
static constexpr int tileQ = 16;

Schedule decodeSchedule(const Variant &variant, ElementType type, const std::map<std::string, int64_t> &headDims,
                        const Device &device, int64_t page, bool few) {
  Schedule schedule = untunedSchedule(variant, type, headDims, device, false);
  schedule.tileQ = tileQ;  // divides every tile that a variant can select
  schedule.order = Order::HeadsInner;
  if (few) schedule.blockRows = 1;
  if (page > 0) schedule.tileK = static_cast<int>(std::gcd<int64_t>(schedule.tileK, page));  // a tile lies in one page
  return schedule;
}

bool standsAlone(const Variant &variant) {
  return !variant.selects() && variant.keyList().tile == 0 && !readsOtherQueries(variant);
}

void demandSharedKeys(const Variant &variant, const char *operation) {
  TORCH_CHECK(
      variant.rows() == TileRows::Queries, "weft: ", operation, " '", variant.name(),
      "': expected keys that queries share; with a list for each query, call attention with T = 1 and the query's "
      "position as an input, as in: where pos >= j");
}

}  // namespace weft::ops
