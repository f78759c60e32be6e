// What a call of a variant computes with, as data: buffers with shapes in its dims, and kernels in their order. The
// compiler decides it, runtime/call.h executes it; hosts only find memory.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "compiler/compiler.h"

namespace weft {

/// A size that dims decide: `scale` times the product of the factors.
struct Extent {
  struct Factor {
    int dim = 0;        ///< position in CallPlan::dims
    int64_t step = 1;   ///< counted in steps of so many, the last one perhaps in part
    bool last = false;  ///< instead of the number of steps: how much of the dim the last one has
    int by = -1;        ///< of the dim divided by this one; below 0: of the dim

    bool operator==(const Factor &) const = default;
  };
  int64_t scale = 1;
  std::vector<Factor> factors;

  bool operator==(const Extent &) const = default;
};

/// What a call is asked for: the map of chosen tiles, the tiles that are kept, o, or gradients.
enum class Purpose : uint8_t { Select, KeptTiles, Forward, Backward };

/// Which of a variant's calls it is. What is not given is made: chosen, or zeros.
struct CallForm {
  Purpose purpose = Purpose::Forward;
  BackwardForm backward = BackwardForm::Fused;
  bool lastTileOnly = false;    ///< the last tile of queries of every head; the schedule's order must be HeadsInner
  bool paged = false;           ///< rows of keys lie in pages (see CompileRequest)
  bool selectionGiven = false;  ///< the map of chosen tiles
  bool seedGiven = false;       ///< of dropout
  bool dLseGiven = false;       ///< Backward: a cotangent of the log-sum-exp
  bool wideSums = false;        ///< Backward: of entries that many pairs share, in f64; as its kernels (CompileRequest)

  auto operator<=>(const CallForm &) const = default;
};

struct CallPlan {
  /// The call says how large a dim is, or others do.
  struct Dim {
    std::string name;
    std::optional<Extent> is;
  };

  /// Who finds a buffer's memory. Zeros: nobody writes it. Workspace: a row for each program of its step; a CPU's
  /// threads have their own (see kernel_image.h).
  enum class Owner : uint8_t { Input, Output, Kept, Temporary, Zeros, Workspace };
  struct Buffer {
    std::string name;
    ElementType type = ElementType::F32;
    std::vector<Extent> shape;  ///< contiguous, but for Inputs and Outputs of rows, whose strides come with the call
    Owner owner = Owner::Temporary;
    bool zeroed = false;   ///< holds zeros before the first step
    bool filled = false;   ///< the steps write all of it
    bool counted = false;  ///< elements are counted in 32 bits
  };

  struct Step {
    std::string kernel;
    Extent programs;
    Extent work;         ///< operations on numbers, roughly
    int workspace = -1;  ///< the buffer and the dim that it calls workspace and workspaceRow; below 0: none
    int workspaceRow = -1;
  };

  /// From the partial sums in a buffer to the gradient of an input. No axes: it is complete.
  struct Gradient {
    enum class Axis : uint8_t { Kept, Grouped, Summed };  ///< Grouped: heads are summed up to their groups
    int input = 0;                                        ///< position in Variant::inputs
    int buffer = 0;
    std::vector<Axis> axes;  ///< of the buffer
    int groups = -1;         ///< the dim of them, where heads are
    bool meeting = false;    ///< on a GPU warps or programs meet at its entries and add up in no fixed order
  };

  /// What is kept of one set of keys: a band a head, or lists by query tile. Positions of buffers, below 0: none.
  struct KeptTiles {
    Extent keys;  ///< that a row can look at
    int band = -1, counts = -1, entries = -1;
  };

  CallForm form;
  std::vector<Dim> dims;        ///< first those that come with the call
  std::vector<Buffer> buffers;  ///< first the variant's inputs, in their order
  std::vector<Step> steps;
  /// Steps run where all of the former dims are above 0, and any of the latter, if there are any.
  std::vector<int> needsAll, needsAny;
  std::vector<Gradient> gradients;
  std::vector<KeptTiles> kept;  ///< of each of the variant's sets of keys
  std::vector<int> rows;        ///< buffers of what is kept of each query, in the order of Variant::keptRows
  /// Buffers; below 0: the plan has none.
  int o = -1, dO = -1, dLse = -1, selection = -1, seed = -1, pages = -1, status = -1;

  int dim(const std::string &name) const;     ///< position; -1: none
  int buffer(const std::string &name) const;  ///< position; -1: none
  size_t dimsGiven() const;
};

/// The dims of a variant's calls: B, H, G, T, S, then the others of its signature.
std::vector<std::string> dimNames(const Variant &variant);

/// How many (b, h) the kernels over query tiles have programs for, and query tiles of each (TileRows). `dim`: the
/// position of a dim in the plan.
struct QueryTiles {
  std::vector<Extent> heads;  ///< their product
  Extent tiles;
};
Extent programsOf(const QueryTiles &tiles);
QueryTiles queryTiles(TileRows rows, int64_t tileQ, const std::function<int(const char *)> &dim);

CallPlan planCall(const Variant &variant, ElementType type, const Schedule &schedule, const CallForm &form);

/// "B H tiles(T, 64)".
std::string print(const Extent &extent, const CallPlan &plan);
/// A table of the buffers, then the steps, for people.
std::string print(const CallPlan &plan);

}  // namespace weft
