// Roles of warps: their registers, their turns at the tensor cores, the numbers that one hands to the other, and the
// programs that a block runs. PTX ISA, "setmaxnreg", "barrier", "atom".
#include "compiler/target/nvptx/inline_ptx.h"
#include "compiler/target/nvptx/kernel_code.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

namespace weft::nvptx {
namespace {

namespace arith = mlir::arith;
namespace llvmir = mlir::LLVM;
namespace nvvm = mlir::NVVM;
namespace scf = mlir::scf;

Value isFirstProducer(KernelCode &code) { return code.emit.equals(code.producers().number, 0); }

/// Of a thread of each role.
struct RoleRegisters {
  bool apart;  ///< they differ from what a thread begins with
  int64_t producer, consumer;
};

/// A warpgroup that copies leaves its registers to those that multiply. A block has what its threads begin with: their
/// share of the 64 Ki of an SM, 512 for each thread of a warpgroup, among `residents` blocks. They are dealt out in
/// eights, from `least` on.
RoleRegisters registersOf(int64_t consumers, int64_t residents, int64_t least) {
  constexpr int64_t all = 512, most = 240, mostAtFirst = 255;
  const int64_t groups = consumers + 1, first = all / residents / groups / 8 * 8;
  if (first > mostAtFirst) return {false, 0, 0};
  const int64_t consumer = std::min((first * groups - least) / consumers / 8 * 8, most);
  return {true, first * groups - consumers * consumer, consumer};
}

/// i32: of those that consume.
Value warpgroup(KernelCode &code) {
  static_assert(cta::warpsOfGroup == 4);
  return arith::ShRUIOp::create(code.emit.b, code.emit.loc, code.thread.warp, code.emit.i32(2));
}

/// Each warpgroup has a barrier that the one before it arrives at and it waits at; 0 and 1 are the block's and the
/// consumers'.
constexpr int64_t firstTurn = 2, threadsOfTurn = 2 * 32 * cta::warpsOfGroup;

void passTurn(KernelCode &code) {
  Emitter &emit = code.emit;
  Value next = emit.add(warpgroup(code), emit.i32(1));
  next = code.select(emit.equals(next, code.thread.warps / cta::warpsOfGroup), emit.i32(0), next);
  code.ptx("barrier.cta.arrive.aligned $0, " + std::to_string(threadsOfTurn) + ";", "r",
           {emit.add(next, emit.i32(firstTurn))});
}

/// Of shared memory that follows on what came before: mbarriers of numbers, then words.
struct Places {
  Value next;

  Value take(Emitter &emit, int64_t bytes) {
    Value own = next;
    next = emit.add(next, emit.i32(bytes));
    return own;
  }
};

/// Where in shared memory the numbers are; their mbarriers are set up.
std::pair<Numbers, Numbers> placeNumbers(KernelCode &code, cta::RolesOp op) {
  Emitter &emit = code.emit;
  internalCheck(op.getNumbers().has_value(), "nvptx lowering", "roles without a place for numbers");
  Value base = llvmir::PtrToIntOp::create(emit.b, emit.loc, emit.b.getI32Type(), code.sharedBase);
  Places places{emit.add(base, emit.i32(static_cast<int64_t>(*op.getNumbers())))};
  Numbers programs{cta::RolesOp::programsAhead, {}, {}, {}}, given{cta::RolesOp::givenAhead, {}, {}, {}};
  for (Numbers *own : {&programs, &given})
    own->barriers = places.take(emit, 2 * cta::RingOp::bytesOfBarrier * own->stages);
  for (Numbers *own : {&programs, &given}) own->words = places.take(emit, cta::RingOp::bytesOfWord * own->stages);
  emit.when(emit.equals(code.thread.number, 0), [&] {
    initBarriers(code, programs.barriers, programs.stages, 1, code.thread.warps + producerThreads / 32);
    initBarriers(code, given.barriers, given.stages, 1, code.thread.warps);
  });
  return {programs, given};
}

/// By the producer's first thread.
void give(KernelCode &code, const Numbers &numbers, Value number) {
  waitEmpty(code, numbers.barriers, numbers.cursor);
  storeWord(code, number, wordOf(code, numbers.words, numbers.cursor));
  arrive(code, barrierOf(code, numbers.barriers, numbers.cursor, Side::Full));
}

/// By all threads of the warps that read it.
Value take(KernelCode &code, const Numbers &numbers) {
  waitFull(code, numbers.barriers, numbers.cursor);
  Value number = loadWord(code, wordOf(code, numbers.words, numbers.cursor));
  arriveOnce(code, barrierOf(code, numbers.barriers, numbers.cursor, Side::Empty));
  advance(code, numbers.cursor);
  return code.thread.firstLanes(number);
}

/// i32: a program that no block has taken, below 0 where there is none. Blocks begin with those of their own numbers;
/// where there are more, each takes until none is left: with the last of these the count begins anew for the next
/// kernel.
Value untaken(KernelCode &code) {
  Emitter &emit = code.emit;
  mlir::Type i32 = emit.b.getI32Type();
  Value blocks = nvvm::GridDimXOp::create(emit.b, emit.loc, i32), all = emit.toI32(code.programs);
  Value count = llvmir::PtrToIntOp::create(emit.b, emit.loc, emit.b.getI64Type(), code.slots.pointer(takenPrograms));
  auto next = scf::IfOp::create(emit.b, emit.loc, mlir::TypeRange(i32), emit.less(blocks, all), true);
  mlir::OpBuilder::InsertionGuard guard(emit.b);
  emit.b.setInsertionPointToStart(next.thenBlock());
  Value taken = inlinePtx(emit.b, emit.loc, i32, "atom.relaxed.gpu.global.inc.u32 $0, [$1], $2;", "=r,l,r,~{memory}",
                          {count, emit.sub(all, emit.i32(1))});
  Value own = emit.add(blocks, taken);
  scf::YieldOp::create(emit.b, emit.loc, code.select(emit.less(own, all), own, emit.i32(-1)));
  emit.b.setInsertionPointToStart(next.elseBlock());
  scf::YieldOp::create(emit.b, emit.loc, emit.i32(-1));
  return next.getResult(0);
}

/// Only in the block itself, once: what the operation does is done once a program.
template <class Op>
bool onceIn(mlir::Block &role, llvm::function_ref<bool(Op)> isOwn) {
  int64_t all = 0, own = 0;
  role.walk([&](Op op) { all += isOwn(op); });
  for (Op op : role.getOps<Op>()) own += isOwn(op);
  return all == own && own <= 1;
}

/// What a role does in one program after another, its cursors going on. What goes on once a program, whatever it is,
/// has one cursor: each would take a register from the loops inside.
void runPrograms(KernelCode &code, mlir::Block &role, Numbers programs, bool produces) {
  Emitter &emit = code.emit;
  const Cursor ofPrograms = beginCursor(code, 1);
  Cursor once = ofPrograms;
  once.ofPrograms = true;
  static_assert(cta::RolesOp::programsAhead == 1 && cta::RolesOp::givenAhead == 1);
  programs.cursor = once;
  const bool given = onceIn<cta::GiveOp>(role, [](cta::GiveOp) { return true; }) &&
                     onceIn<cta::TakeOp>(role, [](cta::TakeOp) { return true; });
  code.given->cursor = given ? once : beginCursor(code, 1);
  for (auto cursor : role.getOps<cta::CursorOp>()) {
    const bool own = cursor.getStages() == 1 &&
                     onceIn<cta::AdvanceOp>(role, [&](cta::AdvanceOp op) { return op.getCursor() == cursor; });
    code.cursors[cursor] = own ? once : beginCursor(code, static_cast<int64_t>(cursor.getStages()));
  }
  mlir::Type i32 = emit.b.getI32Type();
  Value first = nvvm::BlockIdXOp::create(emit.b, emit.loc, i32);
  auto loop = scf::WhileOp::create(emit.b, emit.loc, mlir::TypeRange(i32), mlir::ValueRange(first));
  mlir::OpBuilder::InsertionGuard guard(emit.b);
  mlir::Block *again = emit.b.createBlock(&loop.getAfter(), {}, i32, emit.loc);
  scf::YieldOp::create(emit.b, emit.loc, again->getArguments());
  mlir::Block *program = emit.b.createBlock(&loop.getBefore(), {}, i32, emit.loc);
  code.enterProgram(arith::ExtUIOp::create(emit.b, emit.loc, emit.b.getI64Type(), program->getArgument(0)));
  // What is the same in all programs is computed in each: it would take registers from the loops inside.
  Thread &own = code.thread;
  own.withOwn({&own.number, &own.warp, &own.lane, &own.group, &own.quad}, [&] { code.lower(role); });
  // The next one, when all copies of this one have been started.
  if (produces) emit.when(isFirstProducer(code), [&] { give(code, programs, untaken(code)); });
  Value next = take(code, programs);
  advance(code, ofPrograms);
  Value some = arith::CmpIOp::create(emit.b, emit.loc, arith::CmpIPredicate::sge, next, emit.i32(0));
  scf::ConditionOp::create(emit.b, emit.loc, some, next);
}

}  // namespace

void lower(KernelCode &code, cta::TakeTurnOp) {
  code.ptx("barrier.cta.sync.aligned $0, " + std::to_string(threadsOfTurn) + ";", "r",
           {code.emit.add(warpgroup(code), code.emit.i32(firstTurn))});
}

void lower(KernelCode &code, cta::PassTurnOp) { passTurn(code); }

void lower(KernelCode &code, cta::GiveOp op) {
  Emitter &emit = code.emit;
  emit.when(isFirstProducer(code), [&] { give(code, *code.given, emit.toI32(code.scalar(op.getNumber()))); });
  advance(code, code.given->cursor);
}

void lower(KernelCode &code, cta::TakeOp op) {
  code.scalars[op.getNumber()] = code.emit.toI64(take(code, *code.given));
}

void lower(KernelCode &code, cta::RolesOp op) {
  Emitter &emit = code.emit;
  code.hasRoles = true;
  auto [programs, given] = placeNumbers(code, op);
  code.given = given;
  // The mbarriers are there, for TMA as well.
  code.ptx("fence.mbarrier_init.release.cluster;", "", {});
  nvvm::BarrierOp::create(code.builder, emit.loc);
  Value warp = code.thread.firstLanes(code.thread.warp);
  // Threads that copy shares of tiles compute an address for each.
  const bool shares = llvm::any_of(code.rings, [](auto &own) { return own.second.isShared(); });
  const RoleRegisters registers = registersOf(code.thread.warps / cta::warpsOfGroup, code.residents, shares ? 32 : 24);
  auto take = [&](const char *change, int64_t count) {
    if (!registers.apart) return;
    code.ptx(std::string("setmaxnreg.") + change + ".sync.aligned.u32 " + std::to_string(count) + ";", "", {});
  };
  bool turns = false;
  op.getConsumers().walk([&](cta::TakeTurnOp) { turns = true; });
  auto consume = [&] {
    take("inc", registers.consumer);
    const int64_t last = code.thread.warps / cta::warpsOfGroup - 1;
    if (turns) emit.when(emit.equals(warpgroup(code), last), [&] { passTurn(code); });
    runPrograms(code, op.getConsumers().front(), programs, false);
  };
  auto produce = [&] {
    take("dec", registers.producer);
    runPrograms(code, op.getProducer().front(), programs, true);
  };
  emit.choose(emit.less(warp, emit.i32(code.thread.warps)), consume, produce);
}

}  // namespace weft::nvptx
