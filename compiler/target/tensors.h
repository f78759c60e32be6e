// Where a kernel's tensors live: their dims, element types, argument slots and addresses.
#pragma once

#include <map>

#include "compiler/dialect/dialects.h"
#include "compiler/target/emitter.h"

namespace weft::target {

struct TensorInfo {
  std::vector<std::string> dims;
  ElementType element = ElementType::F32;
  bool strided = false;  ///< strides come with the call; otherwise the tensor is contiguous
  bool paged = false;    ///< rows lie in pages, see tile.tensor
};

ElementType elementOf(mlir::Type type);
/// The element type of the rows that the kernel's products take: f32 where it has none.
ElementType rowType(tile::KernelOp kernel);
/// True where the rows of a tensor are those of keys that a list names.
bool rowsAreListed(tile::KernelOp kernel, tile::TensorOp tensor);

/// Argument slots of one kernel, in the order in which the code first asked for them.
class KernelArguments {
 public:
  KernelArguments(Emitter &emit, tile::KernelOp kernel);

  /// Where slot loads go: the start of the function; so many 64-bit words before the first slot.
  void setEntry(mlir::Block *block, Value pointer, int64_t before = 0) {
    entry = block;
    slotPointer = pointer;
    wordsBefore = before;
  }
  Value dim(const std::string &name);                  ///< i64
  Value pointer(const std::string &name);              ///< !llvm.ptr
  Value stride(const std::string &tensor, int index);  ///< i64, elements
  Value seed(int word);                                ///< i64
  const TensorInfo &info(const std::string &name) const;
  /// h, or the group of h where the tensor's second dim counts groups; the kernel's own h, as row takes it.
  Value headOf(const std::string &tensor, Value head);
  Value headsPerGroup(const std::string &group = "G");
  Value groupOf(Value head, const std::string &group = "G");

  /// Where the rows of query-side tiles are heads, a kernel's b is a position and its h a group or a head (see
  /// tile.kernel): what they stand for. All i64.
  bool headRows() const { return rowsAre != tile::Rows::Queries; }
  Value batches();                                                ///< how many b there are
  Value heads();                                                  ///< how many h
  Value rows();                                                   ///< of a (b, h)
  Value headsOfGroup();                                           ///< how many h share a group of keys
  Value batchOf(Value batch);                                     ///< of the tensors
  Value queryOf(Value batch);                                     ///< where rows are heads: i
  Value firstHead(Value head);                                    ///< that of row 0
  Value headOfRow(Value head, Value row);                         ///< that of the tensors
  Value groupOfRows(Value head, const std::string &group = "G");  ///< that all rows are of
  Value rowNumber(Value batch, Value head, Value row);            ///< b H + h of the tensors
  Value rowElement(Value batch, Value head, Value row);           ///< of a contiguous [B, H, T] tensor
  Value extent(const std::string &tensor);     ///< of a [B, heads, rows, ...] tensor: its rows, or its lists'
  Value rowStride(const std::string &tensor);  ///< from row to row, elements
  /// Address of [b, h, row, 0] of a tensor whose first dims are B and heads (i64 values).
  Value row(const std::string &tensor, Value batch, Value head, Value index);
  /// The same as elements after the tensor's first (i64).
  Value rowOffset(const std::string &tensor, Value batch, Value head, Value index);
  /// True where the keys that `keyDim` counts come from lists.
  bool listed(const std::string &keyDim) const { return keys && keyDim == "S"; }
  /// The dim that counts a row's keys: `keyDim`, or that of its list.
  const std::string &keyExtent(const std::string &keyDim) const { return listed(keyDim) ? listDim : keyDim; }
  /// Where keys come from lists: the list of (b, h, query) is the one that keyAt reads from here on.
  void enterRow(Value batch, Value head, Value query);
  /// Position of a row's n-th key in its list, and whether there is one; where there is none the position is one that
  /// can be read. All i64.
  std::pair<Value, Value> keyAt(Value n);
  tile::ListedKeysAttr keys;  ///< null: all keys are looked at
  std::string listDim;        ///< of `keys`

  /// True where a tensor's rows lie in pages.
  bool inPages(const std::string &tensor) const;
  /// Where [b, ..., row, ...] of a tensor lies: the same, or what its page says.
  void locate(const std::string &tensor, Value &batch, Value &index);

  std::vector<ArgumentSlot> list;

 private:
  Emitter &emit;
  const tile::Rows rowsAre;
  std::map<std::string, TensorInfo> tensors;
  mlir::Block *entry = nullptr;
  Value slotPointer, keyPointer;
  int64_t wordsBefore = 0;
  std::vector<Value> values;

  llvm::DenseMap<Value, std::pair<Value, Value>> positions;  ///< batch entry and query, by the kernel's b

  std::pair<Value, Value> positionOf(Value batch);
  Value get(ArgumentSlot slot, mlir::Type type);
};

}  // namespace weft::target
