#include "autotune/space.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "compiler/default_schedule.h"
#include "ops/schedules.h"

namespace weft::autotune {

namespace {

/// What a GPU's shared memory has no room for.
void eraseTooLarge(std::vector<Schedule> &space, const ops::Binding &call, bool backward) {
  const int64_t bytes = limitsOf(call.set.device).sharedBytesPerBlock;
  std::map<std::tuple<int, int, int, int, int, bool>, bool> fits;
  // The default, the first, is kept: results are compared with it.
  space.erase(std::remove_if(space.begin() + 1, space.end(),
                             [&](const Schedule &schedule) {
                               auto [slot, added] =
                                   fits.try_emplace({schedule.tileQ, schedule.tileK, schedule.keysQ, schedule.keysK,
                                                     schedule.stages, schedule.form == BackwardForm::FusedKeys},
                                                    false);
                               if (added)
                                 slot->second = fitsShared(*call.set.variant, targetOf(call.set.device),
                                                           call.set.headDims, call.set.type, schedule, backward, bytes);
                               return !slot->second;
                             }),
              space.end());
}

}  // namespace

std::vector<Schedule> searchSpace(const ops::Binding &call, bool backward) {
  const bool cpu = call.set.device.kind == Device::Kind::Cpu;
  const std::string target = targetOf(call.set.device);
  const CpuFacts facts = cpu && call.set.type == ElementType::BF16 ? cpuFacts(target) : CpuFacts();
  std::vector<BackwardForm> forms{BackwardForm::Automatic};
  if (backward && call.set.variant->hasTwoPassBackward(call.G != call.H))
    forms = cpu ? std::vector{BackwardForm::Fused, BackwardForm::TwoPass}
                : std::vector{BackwardForm::FusedQueries, BackwardForm::FusedKeys, BackwardForm::TwoPass};
  std::vector<int> tiles =
      cpu ? std::vector<int>{16, 32, 48, 64, 96, 128, 192, 256} : std::vector<int>{16, 32, 64, 128};
  // AMX works on steps of 32; other tiles would leave it unused.
  if (facts.amx) tiles = {32, 64, 96, 128, 192, 256};

  const int64_t rows = ops::rowCount(call.set.variant->rows(), call.H, call.G, call.T);
  std::vector<Schedule> space{call.set.schedule};
  for (int tileQ : tiles)
    for (int tileK : tiles) {
      if (facts.pairs && tileK % 32) continue;  // other tiles of keys would leave products of pairs unused
      // Nothing is gained by tiles past the end of a short sequence.
      if (tileQ >= 2 * std::max<int64_t>(rows, tiles[0]) || tileK >= 2 * std::max<int64_t>(call.S, tiles[0])) continue;
      for (BackwardForm form : forms)
        for (Order order : {Order::TilesInner, Order::HeadsInner}) {
          if (order == Order::HeadsInner && call.B * call.H == 1) continue;
          Schedule schedule{tileQ, tileK, 2, 6, order, form};
          if (cpu) {
            for (int blockRows : {6, 8, 12}) {
              if (facts.amx && blockRows != 6) continue;  // its products have no such blocks
              schedule.blockRows = blockRows;
              space.push_back(schedule);
            }
          } else {
            for (int stages : {1, 2, 3, 4}) {
              schedule.stages = stages;
              space.push_back(schedule);
              const bool overKeys = form == BackwardForm::TwoPass || form == BackwardForm::FusedKeys;
              if (!overKeys || tileQ == tileK) continue;
              // Tiles of keys that are as tall as those of queries.
              Schedule turned = schedule;
              turned.keysQ = tileK, turned.keysK = tileQ;
              space.push_back(turned);
            }
          }
        }
    }
  const Schedule first = space[0];
  std::erase_if(space, [&](const Schedule &schedule) { return !illegal(schedule, *call.set.variant).empty(); });
  if (!cpu) eraseTooLarge(space, call, backward);
  space.erase(std::remove(space.begin() + 1, space.end(), first), space.end());
  return space;
}

}  // namespace weft::autotune
