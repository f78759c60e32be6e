#include "compiler/target/nvptx/target.h"

#include "compiler/default_schedule.h"
#include "compiler/dialect/cta.h"
#include "compiler/language/cost.h"
#include "compiler/passes.h"
#include "compiler/target/nvptx/ptx_code.h"
#include "mlir/Transforms/Passes.h"

namespace weft::nvptx {
namespace {

/// Of all dims that rows end in, together.
int64_t widthOf(const std::map<std::string, int64_t> &dims) {
  int64_t width = 0;
  for (const auto &[dim, size] : dims) width += size;
  return width;
}

/// Queries have other rows beside those of q.
bool hasFurtherQueries(const Variant &variant) {
  return llvm::count_if(variant.inputs(), [](const InputInfo &input) { return input.querySide; }) > 1;
}

/// What a pair costs beside its dots takes registers; by times of library variants on an H200.
bool isHeavy(const Variant &variant) { return ast::compileSteps(variant.tree()) >= 250; }

class Nvptx : public target::Target {
 public:
  bool claims(const std::string &name) const override { return name.starts_with("sm_"); }
  bool knows(const std::string &name) const override { return isKnownTarget(name); }
  bool isGpu() const override { return true; }

  void addPasses(mlir::OpPassManager &passes, const CompileRequest &request) const override {
    addCtaPasses(passes, request);
    passes.addPass(createInsertBarriers());
    passes.addPass(createLowerToNvvm({hasWarpgroups(request.target)}));
    passes.addPass(createFoldBounds());
    passes.addPass(createApproximateFunctions({request.type != ElementType::F32}));
  }

  std::string generate(mlir::ModuleOp module, const CompileRequest &request) const override {
    return nvptx::generate(module, request.target, request.stage == Stage::Llvm ? Output::Llvm : Output::Ptx);
  }

  Schedule defaultSchedule(const Variant &variant, const std::string &name, const std::map<std::string, int64_t> &dims,
                           bool backward, ElementType type, int64_t sharedBytes) const override {
    if (type == ElementType::F64) return fitted(Schedule(), variant);  // compile refuses these kernels
    const bool warpgroups = hasWarpgroups(name);
    const std::string target = warpgroups ? name : "sm_80";
    if (warpgroups && type != ElementType::F32)
      if (const auto own = warpgroupSchedule(variant, target, dims, backward, type, sharedBytes)) return *own;
    const int64_t width = widthOf(dims);
    const bool wide = width > 128 || variant.scansKeys(), newer = std::atoi(name.c_str() + 3) >= 100;
    const bool narrowTypes = type != ElementType::F32;
    const bool light = ast::compileSteps(variant.tree()) <= 215, heavy = isHeavy(variant);
    const bool further = hasFurtherQueries(variant);
    // Wide gradients fill a thread's registers: smaller tiles leave room for the logits. From compute capability 10
    // on ptxas wants a few registers more. Running sums along the keys keep more tiles alive, so do further dots, and
    // gradients of both sides in one pass. Where there is room, a warp has 32 queries: it reads each key from shared
    // memory half as often.
    int mostQ = 64, mostK = 64;
    const bool twoPass = variant.hasTwoPassBackward(false);
    const bool known = narrowTypes && !newer && width <= 256 && !variant.scansKeys();
    if (backward && (wide || newer) && !(known && !heavy && twoPass)) mostQ = mostK = 32;
    else if (backward && !narrowTypes && !twoPass) mostQ = mostK = 32;
    else if (backward && narrowTypes && !heavy) mostK = 32;
    else if (!backward && known && !further && light && !(wide && variant.hasWeight())) mostQ = 128;
    // A program over keys carries two sums: four warps of 16 keys each, and half the queries where little room is left;
    // of 32 keys where pairs take few registers: each query is then read half as often (by the timing model).
    int keysQ = 0, keysK = 0;
    if (backward && known && twoPass) {
      const bool few = light && !further;
      keysQ = few ? (wide ? 64 : 32) : wide || heavy ? 32 : 64;
      keysK = few && !wide ? 128 : 64;
    }
    // Where two tiles ahead leave no room, one; then smaller ones.
    auto ofPart = [&](int part, int stages) {
      Schedule schedule;
      schedule.order = Order::HeadsInner;
      schedule.tileQ = std::max(16, mostQ / part);
      schedule.tileK = std::max(16, mostK / part);
      schedule.keysQ = keysQ ? std::max(16, keysQ / part) : 0;
      schedule.keysK = keysK ? std::max(16, keysK / part) : 0;
      schedule.stages = stages;
      return fitted(schedule, variant);
    };
    // Forward two blocks on an SM, one of which multiplies while the other waits, are worth more than a tile ahead.
    if (!backward && known)
      for (const int stages : {2, 1}) {
        const Schedule schedule = ofPart(1, stages);
        if (fitsShared(variant, target, dims, type, schedule, backward, sharedBytes / 2)) return schedule;
      }
    for (int part = 1;; part *= 2)
      for (const int stages : {2, 1}) {
        const Schedule schedule = ofPart(part, stages);
        if ((part >= 8 && stages == 1) || fitsShared(variant, target, dims, type, schedule, backward, sharedBytes))
          return schedule;
      }
  }
  int64_t sharedBytes(mlir::ModuleOp module, const CompileRequest &request) const override {
    mlir::PassManager passes(module.getContext());
    addCtaPasses(passes, request);
    internalCheck(mlir::succeeded(passes.run(module)), "shared memory", "a pass failed");
    auto bytes = (*module.getOps<tile::KernelOp>().begin())->getAttrOfType<mlir::IntegerAttr>(cta::sharedBytes);
    return bytes.getInt();
  }
  std::string describe(const Schedule &schedule) const override { return "stages " + std::to_string(schedule.stages); }

 private:
  /// wgmma is of one architecture alone.
  static bool hasWarpgroups(const std::string &name) { return name == "sm_90a"; }
  static bool addsPairs(const std::string &name) { return std::atoi(name.c_str() + 3) >= 90; }

  /// Tiles of whole blocks of 64 rows, by the timing model's word; none where a variant has smaller ones. Forward two
  /// warpgroups share the keys: there the way from L2 is near its limit; so do those of wide dq. Elsewhere in the
  /// backward pass several blocks of one warpgroup share an SM: one multiplies while another does not.
  static std::optional<Schedule> warpgroupSchedule(const Variant &variant, const std::string &target,
                                                   const std::map<std::string, int64_t> &dims, bool backward,
                                                   ElementType type, int64_t sharedBytes) {
    const int64_t width = widthOf(dims);
    // Sums of wide rows leave a warpgroup no registers for pairs.
    if (backward && width > 256) return std::nullopt;
    const bool twoPass = variant.hasTwoPassBackward(false);
    // Further rows of queries and keys are further sums of a program over keys; so are those of other sets of keys.
    const bool further = hasFurtherQueries(variant), heavy = isHeavy(variant);
    const bool plain = !further && variant.keySets().size() == 1;
    Schedule schedule;
    schedule.order = Order::HeadsInner;
    if (!backward) {
      schedule.tileQ = 128;
      const bool many = heavy || variant.hasWeight();
      schedule.tileK = plain && !variant.scansKeys() && width <= (many ? 128 : 256) ? 128 : 64;
    } else if (twoPass) {
      if (width > 128) schedule.tileQ = 128;
      if (width > 128 && plain && ast::compileSteps(variant.tree()) <= 216) schedule.tileK = 128;
      schedule.keysQ = further || (heavy && width > 128) ? 32 : 64;
      schedule.keysK = 64;
    }
    for (const int rows : {128, 64})
      for (const int stages : {2, 1}) {
        Schedule own = schedule;
        own.stages = stages;
        own.tileQ = std::min(own.tileQ, rows);
        own.tileK = std::min(own.tileK, rows);
        own = fitted(own, variant);
        // Rows of registers are queries; in the backward pass keys as well.
        const int keys = own.keysK ? own.keysK : own.tileK;
        const bool whole = own.tileQ % 64 == 0 && (!backward || keys % 64 == 0);
        if (whole && fitsShared(variant, target, dims, type, own, backward, sharedBytes)) return own;
      }
    return std::nullopt;
  }

  /// To the cta level, up to where its buffers are.
  static void addCtaPasses(mlir::OpPassManager &passes, const CompileRequest &request) {
    // A load of the same rows in every turn of a loop leaves it: what is left inside is what streams by.
    passes.addPass(mlir::createLoopInvariantCodeMotionPass());
    passes.addPass(createOrientProducts());
    passes.addPass(createChooseInstructions({hasWarpgroups(request.target), addsPairs(request.target)}));
    if (!request.anyRows) {
      passes.addPass(createMakeRings({request.schedule.stages}));
      passes.addPass(createStaggerProducts());
    }
    passes.addPass(createPipelineLoads({request.schedule.stages}));
    passes.addPass(createOverlapProducts());
    passes.addPass(createTakeTurns());
    passes.addPass(createAllocateShared());
  }
};

}  // namespace

const target::Target &nvptxTarget() {
  static const Nvptx target;
  return target;
}

}  // namespace weft::nvptx
