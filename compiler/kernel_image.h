// What the runtime knows of a compiled kernel: plain data, the same for every target.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weft {

enum class ElementType : uint8_t { F32, BF16, F16, F64, I32, I64, Bool };

/// Types that rows may have: what multiplies, and o.
inline constexpr ElementType rowTypes[] = {ElementType::F32, ElementType::BF16, ElementType::F16, ElementType::F64};

const char *name(ElementType type);
/// Of a name as `name` gives it; none where it is no type of rows.
std::optional<ElementType> rowTypeNamed(std::string_view text);
int64_t bytesOf(ElementType type);
/// The type of all floats of a call that are no rows: f32, beside rows of f64 f64.
ElementType floatsBeside(ElementType rows);
/// Whether the sums of entries that pairs share are f64, where a call asks for it: not where an entry is of a pair,
/// whose sums are of a few terms and as many as the pairs. `dims`: of the input.
bool hasWideSums(const std::vector<std::string> &dims);

/// One 64-bit argument of a kernel.
struct ArgumentSlot {
  enum class Kind : uint8_t {
    Dim,      ///< size of the dim `name`
    Pointer,  ///< address of the tensor or buffer `name`
    Stride,   ///< stride of dim `index` of the tensor `name`, in elements
  };
  Kind kind;
  std::string name;
  int index = 0;

  bool operator==(const ArgumentSlot &) const = default;
};

/// One tensor map of a kernel, 128 bytes: boxes of `rows` rows of 128 bytes of the tensor, swizzled by 128 bytes, in
/// dims [B, heads, rows, columns].
struct TensorMapSlot {
  std::string tensor;
  int rows = 0;

  static constexpr int64_t bytes = 128, words = bytes / 8, boxBytes = 128;
  bool operator==(const TensorMapSlot &) const = default;
};

/// Threads of a block that copy for the others, the last ones, in kernels with tensor maps: a warpgroup.
inline constexpr int producerThreads = 128;

/// The name that a kernel or a buffer has for the keys that `dim` counts: those of v, S, have the plain one.
inline std::string ofKeys(const std::string &name, const std::string &dim) {
  return dim == "S" ? name : name + "." + dim;
}

/// Of variants that choose single keys: the lists of chosen keys, i32 [B, H, selectedRows, S], and how many each holds.
/// The rest of the last tile of keys is -1; what comes after it is not written.
inline const char *const selectedKeys = "selection.keys", *const selectedCounts = "selection.counts",
                         *const selectedRows = "selection.rows";

/// 32-bit elements of each program's own, `workspaceRow` of them: on CPUs behind the thread's scratch, so that they
/// stay in its caches (LaunchContext::workspaceBytes); on GPUs a buffer with a row for each program.
inline const char *const workspace = "workspace", *const workspaceRow = "workspace.row";

/// i32 [1]: how many programs of a kernel its blocks have taken beside their first ones (KernelImage::residents). Zero
/// before and after each kernel that takes any: those that find what is kept, one of which comes before, write it.
inline const char *const takenPrograms = "programs.taken";

/// What the kernels call their own tensors, beside `d` before an input's name for its gradient and what the forward
/// pass keeps of each query (Variant::keptRows); inputs must be called otherwise.
inline const char *const ownTensors[] = {"o",          "do",           "delta", "dlse", workspace, "selection",
                                         selectedKeys, selectedCounts, "pages", "seed", "status",  takenPrograms};
/// Those of each set of keys (see ofKeys).
inline const char *const ownTensorsOfKeys[] = {"band", "counts", "entries", "counts_keys", "entries_keys"};

/// The largest size of a dim: positions and their sums fit 32 bits.
inline constexpr int64_t largestExtent = int64_t{1} << 28;

/// What the rows of a tile on the query side are: queries of a head, heads of a group at one query, or one head at one
/// query.
enum class TileRows : uint8_t { Queries, Heads, Head };

/// What one program of the kernel's grid is. PositionTile: some rows of one query.
enum class Grid : uint8_t { QueryTile, KeyTile, HeadKeyTile, Group, Head, PositionTile };

struct KernelImage {
  /// CPU: the symbol of void(int64_t *slots, int64_t begin, int64_t end, void *scratch). GPU: the kernel's name; its
  /// one parameter, by value, is its tensor maps, then the slots.
  std::string entry;
  /// GPU. Where the rows of one of the tensors do not lie as TMA wants them, the kernel cannot run: that of
  /// CompileRequest::anyRows can.
  std::vector<TensorMapSlot> maps;
  std::vector<ArgumentSlot> slots;
  Grid grid = Grid::QueryTile;
  std::string keyDim = "S";  ///< KeyTile, HeadKeyTile: the dim that the tiles divide
  int tileQ = 0, tileK = 0;
  int64_t scratchBytes = 0;  ///< CPU: for each thread, aligned to 64
  int threads = 0;           ///< GPU: of a block
  int programsPerBlock = 1;  ///< GPU
  int residents = 0;  ///< GPU: blocks that each SM is given, at most, to take programs until none is left: of the whole
                      ///< grid; 0: all
  int64_t sharedBytes = 0;  ///< GPU: dynamic shared memory of a block
  std::string code;         ///< object code (CPU) or PTX text
};

}  // namespace weft
