// How kernels are cut up: which schedules there are, which fit, and what to take without tuning.
#include <numeric>

#include "compiler/default_schedule.h"
#include "compiler/internal_error.h"
#include "compiler/pipeline.h"
#include "compiler/target/target.h"

namespace weft {

static int64_t sharedBytesOf(const CompileRequest &request) {
  OwnedModule tiles = buildTiles(request);
  return target::targetOf(request.target).sharedBytes(*tiles.module, request);
}

bool fitsShared(const Variant &variant, const std::string &target, const std::map<std::string, int64_t> &dims,
                ElementType type, const Schedule &schedule, bool backward, int64_t sharedBytes) {
  CompileRequest request;
  request.target = target;
  request.variant = std::shared_ptr<const Variant>(std::shared_ptr<const Variant>(), &variant);  // outlives the call
  request.dims = dims;
  request.type = type;
  request.schedule = schedule;
  try {
    for (const std::string &kernel : kernelNames(variant, true, true)) {
      // Kernels that plan and choose use none.
      if (kernel == "forward" ? backward : !backward || kernel.rfind("backward", 0) != 0) continue;
      if (kernel.starts_with("backward_keys") && schedule.form != BackwardForm::FusedKeys) continue;
      request.kernel = kernel;
      if (sharedBytesOf(request) > sharedBytes) return false;
    }
  } catch (const InternalError &) {
    return false;  // compiling it says why
  }
  return true;
}

Schedule defaultSchedule(const Variant &variant, const std::string &target, const std::map<std::string, int64_t> &dims,
                         bool backward, ElementType type, int64_t sharedBytes) {
  return target::targetOf(target).defaultSchedule(variant, target, dims, backward, type, sharedBytes);
}

Schedule defaultSchedule(const Variant &variant, const std::string &target, const std::map<std::string, int64_t> &dims,
                         bool backward) {
  return defaultSchedule(variant, target, dims, backward, ElementType::F32, leastSharedBytes);
}

static bool isOverKeys(const std::string &kernel) {
  return kernel.starts_with("backward_dkdv") || kernel.starts_with("backward_keys") ||
         kernel.starts_with("plan_lists_keys");
}

Schedule scheduleOf(const Schedule &schedule, const std::string &kernel) {
  Schedule own = schedule;
  if (isOverKeys(kernel) && schedule.keysQ) own.tileQ = schedule.keysQ, own.tileK = schedule.keysK;
  own.keysQ = own.keysK = 0;
  own.form = BackwardForm::Automatic;
  return own;
}

/// Queries of a tile that one list serves; 0: any number. Where each query has its own, a tile is of one query anyway.
static int queriesOfList(const Variant &variant) {
  return variant.rows() == TileRows::Queries ? variant.keyList().tile : 0;
}

static void fit(int &tileQ, int &tileK, const Variant &variant) {
  if (const int tile = queriesOfList(variant)) tileQ = std::gcd(tileQ, tile);
  if (!variant.selects()) return;
  tileQ = std::gcd(tileQ, variant.selection().rounds.back().tileQ);
  if (!variant.selectsKeys()) tileK = std::gcd(tileK, variant.selection().rounds.back().tileK);
}

Schedule fitted(Schedule schedule, const Variant &variant) {
  fit(schedule.tileQ, schedule.tileK, variant);
  if (schedule.keysQ) fit(schedule.keysQ, schedule.keysK, variant);
  return schedule;
}

static std::string illegalTiles(int tileQ, int tileK) {
  for (int tile : {tileQ, tileK})
    if (tile % 16 || tile < 16 || tile > 256)
      return "expected tile sizes that are multiples of 16 from 16 to 256, got " + std::to_string(tileQ) + " and " +
             std::to_string(tileK);
  return {};
}

std::string illegal(const Schedule &schedule) {
  if (std::string wrong = illegalTiles(schedule.tileQ, schedule.tileK); !wrong.empty()) return wrong;
  if (schedule.keysQ || schedule.keysK)
    if (std::string wrong = illegalTiles(schedule.keysQ, schedule.keysK); !wrong.empty()) return wrong;
  if (schedule.stages < 1 || schedule.stages > 4)
    return "expected 1 to 4 stages, got " + std::to_string(schedule.stages);
  if (schedule.blockRows != 1 && schedule.blockRows != 6 && schedule.blockRows != 8 && schedule.blockRows != 12)
    return "expected register blocks of 6, 8 or 12 rows, or 1, got " + std::to_string(schedule.blockRows);
  return {};
}

static std::string illegalTiles(int tileQ, int tileK, const Variant &variant) {
  if (const int tile = queriesOfList(variant); tile && tile % tileQ)
    return "expected queries of a tile to divide those that share a list, " + std::to_string(tile) + ", got " +
           std::to_string(tileQ);
  if (variant.selects()) {
    const SelectionInfo::Round &round = variant.selection().rounds.back();
    if (variant.selectsKeys() && round.tileQ % tileQ)
      return "expected queries of a tile to divide those that share a choice of keys, " + std::to_string(round.tileQ) +
             ", got " + std::to_string(tileQ);
    if (!variant.selectsKeys() && (round.tileQ % tileQ || round.tileK % tileK))
      return "expected tile sizes that divide those selected, " + std::to_string(round.tileQ) + " and " +
             std::to_string(round.tileK) + ", got " + std::to_string(tileQ) + " and " + std::to_string(tileK);
  }
  return {};
}

std::string illegal(const Schedule &schedule, const Variant &variant) {
  if (std::string wrong = illegal(schedule); !wrong.empty()) return wrong;
  if (std::string wrong = illegalTiles(schedule.tileQ, schedule.tileK, variant); !wrong.empty()) return wrong;
  return schedule.keysQ ? illegalTiles(schedule.keysQ, schedule.keysK, variant) : std::string();
}

const char *name(BackwardForm form) {
  switch (form) {
    case BackwardForm::Automatic: return "automatic";
    case BackwardForm::Fused: return "fused";
    case BackwardForm::TwoPass: return "two_pass";
    case BackwardForm::FusedQueries: return "fused_queries";
    case BackwardForm::FusedKeys: return "fused_keys";
  }
  return "?";
}

BackwardForm backwardFormOf(const std::string &text) {
  for (int at = 0; at < backwardForms; ++at)
    if (text == name(static_cast<BackwardForm>(at))) return static_cast<BackwardForm>(at);
  return BackwardForm::Automatic;
}

std::string describe(const Schedule &schedule, const std::string &target) {
  std::string text = std::to_string(schedule.tileQ) + "x" + std::to_string(schedule.tileK);
  if (schedule.keysQ) text += " keys " + std::to_string(schedule.keysQ) + "x" + std::to_string(schedule.keysK);
  text += " " + target::targetOf(target).describe(schedule);
  text += schedule.order == Order::TilesInner ? " tiles_inner" : " heads_inner";
  if (schedule.form != BackwardForm::Automatic) text += std::string(" ") + name(schedule.form);
  return text;
}

}  // namespace weft
