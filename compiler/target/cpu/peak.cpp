#include "compiler/peak.h"

#include <stdexcept>

#include "compiler/target/cpu/object_code.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/IntrinsicsAArch64.h"
#include "llvm/IR/IntrinsicsX86.h"
#include "llvm/IR/Module.h"

namespace weft {
namespace {

using llvm::Value;
using llvm::Intrinsic::getOrInsertDeclaration;

constexpr int repeats = 4;  ///< of each chain in a turn: the loop's own instructions hide behind them

/// entry(slots, begin, end, scratch) with `turn` in its loop, `before` and `after` around it.
struct Loop {
  llvm::IRBuilder<> b;
  Value *scratch;
  llvm::PHINode *counter;
  llvm::BasicBlock *body, *exit;
  Value *end;

  Loop(llvm::Module &module, const std::string &entry) : b(module.getContext()) {
    llvm::Type *word = b.getInt64Ty(), *address = b.getPtrTy();
    auto *function =
        llvm::Function::Create(llvm::FunctionType::get(b.getVoidTy(), {address, word, word, address}, false),
                               llvm::Function::ExternalLinkage, entry, module);
    scratch = function->getArg(3);
    end = function->getArg(2);
    auto *start = llvm::BasicBlock::Create(module.getContext(), "", function);
    body = llvm::BasicBlock::Create(module.getContext(), "", function);
    exit = llvm::BasicBlock::Create(module.getContext(), "", function);
    b.SetInsertPoint(body);
    counter = b.CreatePHI(word, 2);
    counter->addIncoming(function->getArg(1), start);
    b.SetInsertPoint(start);
  }
  Value *at(int64_t bytes) { return b.CreateConstGEP1_64(b.getInt8Ty(), scratch, bytes); }
  void enter() {
    b.CreateBr(body);
    b.SetInsertPoint(body);
  }
  void leave() {
    Value *next = b.CreateAdd(counter, b.getInt64(1));
    counter->addIncoming(next, body);
    b.CreateCondBr(b.CreateICmpSLT(next, end), body, exit);
    b.SetInsertPoint(exit);
  }
};

/// sum = step(sum, a, b) in `chains` registers of `sums`; the other operands are of the type `operands`.
template <class Step>
void registerChains(Loop &loop, int chains, llvm::Type *sums, llvm::Type *operands, Step step) {
  auto &b = loop.b;
  Value *x = b.CreateAlignedLoad(operands, loop.at(0), llvm::Align(64)),
        *y = b.CreateAlignedLoad(operands, loop.at(64), llvm::Align(64));
  // Each from a place of its own: chains that begin alike would be made one.
  std::vector<Value *> first;
  for (int chain = 0; chain < chains; ++chain)
    first.push_back(b.CreateAlignedLoad(sums, loop.at(128 + 64 * chain), llvm::Align(64)));
  llvm::BasicBlock *before = b.GetInsertBlock();
  loop.enter();
  std::vector<llvm::PHINode *> carried;
  for (Value *value : first) {
    carried.push_back(b.CreatePHI(sums, 2));
    carried.back()->addIncoming(value, before);
  }
  std::vector<Value *> now(carried.begin(), carried.end());
  for (int repeat = 0; repeat < repeats; ++repeat)
    for (Value *&value : now) value = step(value, x, y);
  for (int chain = 0; chain < chains; ++chain) carried[chain]->addIncoming(now[chain], loop.body);
  loop.leave();
  for (int chain = 0; chain < chains; ++chain)
    b.CreateAlignedStore(now[chain], loop.at(128 + 64 * chain), llvm::Align(64));
  b.CreateRetVoid();
}

PeakLoop fma(const cpu::Machine &machine, const std::string &target) {
  const int chains = machine.registers - 4;  // of those left, two hold the other operands
  PeakLoop out{"", "weft_peak_fma",
               std::to_string(chains) + " chains of f32 fma in " + std::to_string(machine.lanes) + " lanes",
               2.0 * repeats * chains * machine.lanes};
  out.code = cpu::generate(target, [&](llvm::Module &module) {
    Loop loop(module, out.entry);
    llvm::Type *vector = llvm::FixedVectorType::get(loop.b.getFloatTy(), static_cast<unsigned>(machine.lanes));
    // The sum is a factor: a product of the others alone would leave the loop where fma is two instructions.
    registerChains(loop, chains, vector, vector, [&](Value *sum, Value *x, Value *y) {
      return loop.b.CreateIntrinsic(llvm::Intrinsic::fmuladd, {vector}, {sum, x, y});
    });
  });
  return out;
}

/// Of a register of sums and two of pairs, or of fours.
Value *ofHalves(llvm::IRBuilder<> &b, const cpu::Machine &machine, Value *sum, Value *x, Value *y) {
  if (machine.pairs != cpu::Machine::Pairs::Matrices)
    return b.CreateIntrinsic(llvm::Intrinsic::x86_avx512bf16_dpbf16ps_512, {}, {sum, x, y});
  if (machine.scalable) return b.CreateIntrinsic(llvm::Intrinsic::aarch64_sve_bfmmla, {}, {sum, x, y});
  return b.CreateIntrinsic(llvm::Intrinsic::aarch64_neon_bfmmla, {sum->getType(), x->getType()}, {sum, x, y});
}

PeakLoop halves(const cpu::Machine &machine, const std::string &target) {
  const int chains = machine.registers - 4;
  const bool matrices = machine.pairs == cpu::Machine::Pairs::Matrices;
  PeakLoop out{"", matrices ? "weft_peak_matrices" : "weft_peak_dot",
               std::to_string(chains) + " chains of bf16 " +
                   (matrices ? "products of 2 x 4 and 4 x 2" : "dot products of pairs") + " in " +
                   std::to_string(machine.lanes) + " lanes",
               (matrices ? 8.0 : 4.0) * repeats * chains * machine.lanes};
  out.code = cpu::generate(target, [&](llvm::Module &module) {
    Loop loop(module, out.entry);
    auto registers = [&](llvm::Type *element, int elements) -> llvm::Type * {
      if (!machine.scalable) return llvm::FixedVectorType::get(element, static_cast<unsigned>(elements));
      return llvm::ScalableVectorType::get(element, static_cast<unsigned>(elements * 4 / machine.lanes));
    };
    registerChains(loop, chains, registers(loop.b.getFloatTy(), machine.lanes),
                   registers(loop.b.getBFloatTy(), 2 * machine.lanes),
                   [&](Value *sum, Value *x, Value *y) { return ofHalves(loop.b, machine, sum, x, y); });
  });
  return out;
}

PeakLoop tiles(const char *type, llvm::Intrinsic::ID product, const std::string &target) {
  constexpr int chains = 6;  // of eight tile registers; two hold the operands
  PeakLoop out{"", std::string("weft_peak_amx_") + type, std::string("6 chains of AMX products of 16 x 32 ") + type,
               2.0 * repeats * chains * 16 * 16 * 32};
  out.code = cpu::generate(target, [&](llvm::Module &module) {
    Loop loop(module, out.entry);
    auto &b = loop.b;
    auto call = [&](llvm::Intrinsic::ID intrinsic, const std::vector<Value *> &arguments) {
      b.CreateCall(getOrInsertDeclaration(&module, intrinsic), arguments);
    };
    // Palette 1, rows of 64 bytes, 16 rows: as in amx.cpp.
    const int64_t words[8] = {1, 0, 0x0040004000400040, 0x0040004000400040, 0, 0, 0x1010101010101010, 0};
    constexpr int configuration = 4096;
    for (int at = 0; at < 8; ++at)
      b.CreateAlignedStore(b.getInt64(static_cast<uint64_t>(words[at])), loop.at(configuration + 8 * at),
                           llvm::Align(8));
    call(llvm::Intrinsic::x86_ldtilecfg, {loop.at(configuration)});
    for (int tile = 0; tile < 8; ++tile)
      call(llvm::Intrinsic::x86_tileloadd64, {b.getInt8(static_cast<uint8_t>(tile)), loop.at(0), b.getInt64(64)});
    loop.enter();
    for (int repeat = 0; repeat < repeats; ++repeat)
      for (int chain = 0; chain < chains; ++chain)
        call(product, {b.getInt8(static_cast<uint8_t>(chain)), b.getInt8(6), b.getInt8(7)});
    loop.leave();
    call(llvm::Intrinsic::x86_tilerelease, {});
    b.CreateRetVoid();
  });
  return out;
}

}  // namespace

std::vector<PeakLoop> peakLoops(ElementType type, const std::string &target) {
  if (type != ElementType::F32 && type != ElementType::BF16 && type != ElementType::F16)
    throw std::runtime_error(std::string("expected f32, bf16 or f16, got ") + name(type));
  const cpu::Machine machine = cpu::machineOf(target);
  std::vector<PeakLoop> all{fma(machine, target)};
  const bool pairs = machine.pairs != cpu::Machine::Pairs::None || cpu::hasFeatures(target, "+avx512bf16,+avx512bw");
  if (type == ElementType::BF16 && pairs) all.push_back(halves(machine, target));
  if (type == ElementType::BF16 && machine.amx) all.push_back(tiles("bf16", llvm::Intrinsic::x86_tdpbf16ps, target));
  if (type == ElementType::F16 && cpu::hasFeatures(target, "+amx-fp16"))
    all.push_back(tiles("f16", llvm::Intrinsic::x86_tdpfp16ps, target));
  return all;
}

}  // namespace weft
