// Products by wgmma: four warps together, both sides, or the right one, from swizzled tiles in shared memory.
// PTX ISA, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate Instructions".
#include <optional>

#include "compiler/target/nvptx/inline_ptx.h"
#include "compiler/target/nvptx/kernel_code.h"
#include "llvm/ADT/StringExtras.h"

namespace weft::nvptx {
namespace {

namespace arith = mlir::arith;
namespace llvmir = mlir::LLVM;

constexpr int64_t blockRows = 64, depthOfStep = 16;
constexpr int64_t panelColumns = cta::SwizzledAttr::panelBytes / 2;

/// A matrix descriptor counts 16 bytes.
constexpr int64_t units(int64_t bytes) { return bytes / 16; }

/// One side of a product in shared memory.
class Side {
 public:
  /// `acrossRows`: the depth runs along the tile's rows, else along its columns.
  Side(Emitter &emit, const SharedTile &tile, bool acrossRows)
      : emit(emit), tile(tile), acrossRows(acrossRows), panel(tile.type.panelBytes()) {
    Value address = llvmir::PtrToIntOp::create(emit.b, emit.loc, emit.b.getI32Type(), tile.base);
    address = arith::AndIOp::create(emit.b, emit.loc, address, emit.i32(0x3ffff));
    address = arith::ShRUIOp::create(emit.b, emit.loc, address, emit.i32(4));
    // Swizzled by 128 bytes; 1,024 bytes from eight rows to the next; where columns are no depth: from panel to panel.
    const int64_t fixed =
        int64_t{1} << 62 | units(cta::SwizzledAttr::alignment) << 32 | (acrossRows ? units(panel) : 1) << 16;
    descriptor =
        arith::OrIOp::create(emit.b, emit.loc, arith::ExtUIOp::create(emit.b, emit.loc, emit.b.getI64Type(), address),
                             emit.i64(fixed));
  }

  /// i64: of what begins at line `line` of the result.
  Value from(Value line) const {
    Value bytes = acrossRows ? emit.mul(arith::DivUIOp::create(emit.b, emit.loc, line, emit.i32(panelColumns)),
                                        emit.i32(units(panel)))
                             : emit.mul(line, emit.i32(units(cta::SwizzledAttr::panelBytes)));
    return emit.add(descriptor, emit.toI64(bytes));
  }
  Value whole() const { return descriptor; }
  /// What a step of the depth adds to a descriptor.
  int64_t step(int64_t k) const {
    if (acrossRows) return units(k * depthOfStep * cta::SwizzledAttr::panelBytes);
    const int64_t column = k * depthOfStep;
    return units(column / panelColumns * panel + column % panelColumns * 2);
  }

 private:
  Emitter &emit;
  const SharedTile &tile;
  const bool acrossRows;
  const int64_t panel;
  Value descriptor;
};

/// One asm statement, its operands numbered in the order in which they are taken: first the sums.
class Statement {
 public:
  Statement(KernelCode &code, int64_t sums) : code(code), sums(sums), next(sums) {
    for (int64_t at = 0; at < sums; ++at) constraints += at ? ",=&f" : "=&f";
  }

  /// Returns the operand's name.
  std::string take(Value value, const std::string &constraint) {
    operands.push_back(value);
    constraints += "," + constraint;
    return "$" + std::to_string(next++);
  }
  /// What the sums begin with.
  void begin(llvm::ArrayRef<Value> values) {
    for (auto [at, value] : llvm::enumerate(values)) take(value, std::to_string(at));
  }
  std::string sumList() const {
    std::string text = "{";
    for (int64_t at = 0; at < sums; ++at) text += (at ? ", $" : "$") + std::to_string(at);
    return text + "}";
  }

  Registers run(const std::string &text) {
    mlir::OpBuilder &b = code.builder;
    const llvm::SmallVector<mlir::Type> types(sums, b.getF32Type());
    Value all = inlinePtx(b, code.emit.loc, llvmir::LLVMStructType::getLiteral(b.getContext(), types), text,
                          constraints + ",~{memory}", operands);
    Registers result;
    for (int64_t at = 0; at < sums; ++at)
      result.push_back(llvmir::ExtractValueOp::create(b, code.emit.loc, all, llvm::ArrayRef<int64_t>{at}));
    return result;
  }

 private:
  KernelCode &code;
  const int64_t sums;
  int64_t next;
  llvm::SmallVector<Value> operands;
  std::string constraints;
};

class WarpgroupProduct {
 public:
  WarpgroupProduct(KernelCode &code, cta::MmaOp op)
      : code(code),
        emit(code.emit),
        op(op),
        form(op.getForm()),
        columns(KernelCode::columnTiles(KernelCode::shapeOf(op.getResult())[1]) * 8),
        blocks(code.thread.blocks(KernelCode::shapeOf(op.getResult())[0])),
        rightTile(code.buffer(op.getRhs())),
        right(emit, rightTile, form != tile::DotForm::NT) {}

  Registers run() {
    if (form == tile::DotForm::NN) leftWords = code.packed(op.getLhs(), rightTile.type.getElement());
    Registers all;
    for (int64_t block = 0; block < blocks; ++block) llvm::append_range(all, runBlock(block));
    return all;
  }

 private:
  KernelCode &code;
  Emitter &emit;
  cta::MmaOp op;
  const tile::DotForm form;
  const int64_t columns, blocks;
  const SharedTile rightTile;
  const Side right;
  Registers leftWords;  ///< of a left side in registers: four for each step

  int64_t steps() const {
    const int64_t depth = form == tile::DotForm::NT ? rightTile.padded() : rightTile.rows();
    return depth / depthOfStep;
  }

  /// i32: the first of the 64 rows of this thread's warpgroup.
  Value firstRow(int64_t block) {
    Value group = arith::ShRUIOp::create(emit.b, emit.loc, code.thread.warp, emit.i32(2));
    return emit.add(emit.mul(group, emit.i32(blockRows)), emit.i32(block * 16 * code.thread.warps));
  }

  /// Of 64 rows.
  Registers runBlock(int64_t block) {
    const int64_t sums = columns / 2;
    Statement statement(code, sums);
    if (op.getAcc()) statement.begin(llvm::ArrayRef(code.registersOf(op.getAcc())).slice(block * sums, sums));
    const std::string b = statement.take(right.whole(), "l");
    llvm::SmallVector<std::string> lefts;
    std::optional<SharedTile> leftTile;
    std::optional<Side> left;
    if (form == tile::DotForm::NN) {
      for (Value word : llvm::ArrayRef(leftWords).slice(block * 4 * steps(), 4 * steps()))
        lefts.push_back(statement.take(word, "r"));
    } else {
      leftTile = code.buffer(op.getLhs());
      left.emplace(emit, *leftTile, form == tile::DotForm::TN);
      lefts.push_back(statement.take(left->from(firstRow(block)), "l"));
    }

    const std::string type = cta::isBf16(op.getKind()) ? "bf16" : "f16";
    const std::string instruction = "wgmma.mma_async.sync.aligned.m64n" + std::to_string(columns) + "k16.f32." + type +
                                    "." + type + " " + statement.sumList() + ", ";
    // Sides whose depth runs across rows are transposed.
    const std::string sides = form == tile::DotForm::NN   ? ", 1, 1, 1;\n"
                              : form == tile::DotForm::NT ? ", 1, 1, 0, 0;\n"
                                                          : ", 1, 1, 1, 1;\n";
    std::string text = "{\n.reg .pred p;\n.reg .b64 a, b;\nwgmma.fence.sync.aligned;\n";
    for (int64_t k = 0; k < steps(); ++k) {
      if (k < 2) text += std::string("setp.ne.b32 p, ") + (k || op.getAcc() ? "1" : "0") + ", 0;\n";
      auto descriptor = [&](const char *name, const std::string &from, const Side &side) {
        text += std::string("add.s64 ") + name + ", " + from + ", " + std::to_string(side.step(k)) + ";\n";
      };
      descriptor("b", b, right);
      std::string own = "a";
      if (left) descriptor("a", lefts[0], *left);
      else own = "{" + llvm::join(llvm::ArrayRef(lefts).slice(4 * k, 4), ", ") + "}";
      text += instruction + own + ", b, p" + sides;
    }
    text += "wgmma.commit_group.sync.aligned;\n";
    if (!op.getAsync()) text += "wgmma.wait_group.sync.aligned 0;\n";
    return statement.run(text + "}");
  }
};

}  // namespace

Registers lowerWgmma(KernelCode &code, cta::MmaOp op) { return WarpgroupProduct(code, op).run(); }

void lower(KernelCode &code, cta::WaitMmaOp op) {
  // What is read of the sums stands after it: they go through the statement.
  Registers all;
  for (Value product : op.getProducts()) llvm::append_range(all, code.registersOf(product));
  Statement statement(code, static_cast<int64_t>(all.size()));
  statement.begin(all);
  code.spread(op.getResults(), statement.run("wgmma.wait_group.sync.aligned " + std::to_string(op.getLeft()) + ";"));
}

}  // namespace weft::nvptx
