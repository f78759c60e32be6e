// The compiler's public face: variant text in, checked variant and kernels out. Plain data only.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "compiler/diagnostic.h"
#include "compiler/dims.h"
#include "compiler/input_range.h"
#include "compiler/kernel_image.h"

namespace weft {

namespace ast {
struct Variant;
}

/// A declared input, as callers of a variant need it.
struct InputInfo {
  std::string name;
  std::vector<std::string> dims;
  bool isFloat = true, isInt = false, isBool = false;
  InputRange values;         ///< what its values are
  bool isRow = false;        ///< operand of a dot, or v: has the call's element type
  bool querySide = false;    ///< isRow: its rows are queries
  bool isPooled = false;     ///< isRow: a selection pools it
  bool hasGradient = false;  ///< a gradient can reach it
  /// Not isRow: the dims of its gradient's partial sums, behind B and H.
  std::vector<std::string> gradientDims;
  bool perEntry = false;  ///< not isRow: several queries or keys may add to an entry of these
  bool wideSums = false;  ///< so many may that a CPU's sums of them are f64 (CallForm::wideSums)

  /// Which of `dims` counts groups of heads; -1 where none does.
  int groupAxis() const {
    const auto found = std::ranges::find_if(dims, isGroupDim);
    return found == dims.end() ? -1 : static_cast<int>(found - dims.begin());
  }
};

/// What a variant's `select`s write, in the order in which their kernels run: pool_0, ..., select_0, ...
struct SelectionInfo {
  struct Pool {
    std::string
        buffer;  ///< f32, room for [B, dim 1 of the input, tiles up to a multiple of `block`, dim 3 of the input]
    int input;   ///< position in Variant::inputs
    int tile;    ///< rows of a tile
    int block;   ///< rows that lie column by column
  };
  struct Round {
    std::string buffer;  ///< bool [B, H, query tiles, key tiles]: which tiles are chosen; the last one is "selection"
    int tileQ, tileK;
    int queryTiles;  ///< of one program of its kernel
    int planes;      ///< rows of key tiles in the workspace, for each of them
  };
  std::vector<Pool> pools;
  std::vector<Round> rounds;  ///< empty: all tiles that the masks leave are kept
};

/// Keys named by lists of positions.
struct KeyListInfo {
  int input = -1;         ///< position in Variant::inputs; below 0: all keys are looked at
  int tile = 0;           ///< queries that share a list; 0: all; 1: the heads of a query are the rows of a tile
  std::string dim = "S";  ///< the dim that counts a row's keys
};

/// Keys that share the variant's normaliser; the first ones are those of v. Their kernels and buffers are named by
/// ofKeys.
struct KeySetInfo {
  std::string dim;  ///< counts the keys
  int values;       ///< position in Variant::inputs
  bool lists;       ///< kept tiles come as lists (see compiler/transforms/build_plan.h)
};

/// A checked variant. Immutable; share it freely between threads.
class Variant {
 public:
  explicit Variant(std::shared_ptr<const ast::Variant> tree);
  const std::string &name() const;
  const std::string &source() const;
  const std::vector<InputInfo> &inputs() const { return inputList; }
  const std::vector<KeySetInfo> &keySets() const { return sets; }
  /// Dims of the keys whose kept tiles come as lists.
  std::set<std::string> listedDims() const;
  /// True where those of the keys of v do.
  bool needsLists() const { return sets[0].lists; }
  /// True where the two-pass backward form can compute every gradient of a call; `grouped`: one with G < H.
  bool hasTwoPassBackward(bool grouped) const { return grouped ? twoPassGrouped : twoPass; }
  /// True where a pair's probability follows from running sums over the keys.
  bool scansKeys() const;
  /// True where a row has a log-sum-exp to give out, and takes a cotangent of it.
  bool hasLogSumExp() const;
  /// True where the backward pass starts with the kernel backward_delta, which reads dlse and writes delta.
  bool hasDelta() const;
  /// What the forward pass keeps of each query for the backward one, f32 [B, H, T] each: first lse.
  std::vector<std::string> keptRows() const;
  bool hasDropout() const;
  bool hasWeight() const;
  /// True where only distances count, not where keys stand: a query may be computed without the keys it does not reach.
  bool seesDistancesAlone() const;
  const SelectionInfo &selection() const { return selectionInfo; }
  const KeyListInfo &keyList() const { return keys; }
  /// What the rows of a tile on the query side are.
  TileRows rows() const;
  bool selects() const { return !selectionInfo.rounds.empty(); }
  /// True where single keys are chosen: list_keys makes lists of them, selectedKeys.
  bool selectsKeys() const { return selects() && selectionInfo.rounds.back().tileK == 1; }
  const ast::Variant &tree() const { return *checked; }

 private:
  std::shared_ptr<const ast::Variant> checked;
  std::vector<InputInfo> inputList;
  SelectionInfo selectionInfo;
  KeyListInfo keys;
  std::vector<KeySetInfo> sets;
  bool twoPass = true, twoPassGrouped = true;
};

struct ParseResult {
  std::vector<std::shared_ptr<const Variant>> variants;  ///< empty where there are diagnostics
  std::vector<Diagnostic> diagnostics;
};

/// Parses and checks a text. Whatever the text, mistakes are diagnostics, our own too; throws std::bad_alloc alone.
ParseResult parse(std::string_view source, std::string_view fileName);

/// Vector: the target's dialect level (vector code of a CPU, NVVM of a GPU). Assembly: assembly, or PTX. Object:
/// an object file, or PTX, in the image.
enum class Stage { Ast, Weft, Tile, Vector, Llvm, Assembly, Object };

/// Which tile a program computes: neighbours differ by tile (of one head: its keys stay in a cache) or by head
/// (of one tile: the longest rows of all heads start first).
enum class Order : uint8_t { TilesInner, HeadsInner };
/// How gradients are computed. Fused: in one pass, a program a group. TwoPass: dq apart from dk and dv. Of GPUs alone,
/// in one pass, with atomic sums of the other side's gradients: FusedQueries, a program a tile of queries; FusedKeys,
/// where there are two passes, a program a tile of keys. Automatic: by the device and the count of programs.
enum class BackwardForm : uint8_t { Automatic, Fused, TwoPass, FusedQueries, FusedKeys };
constexpr int backwardForms = 5;

/// How a kernel is cut up: data that changes its speed, never its result beyond rounding.
struct Schedule {
  int tileQ = 64, tileK = 64;  ///< multiples of 16, from 16 to 256
  int stages = 2;              ///< GPU: tiles of a streamed operand in shared memory, 1 to 4
  int blockRows = 6;           ///< CPU: rows of a register block of products: 6, 8 or 12; 1: queries are few, and go
                               ///< through the keys one by one
  Order order = Order::TilesInner;
  BackwardForm form = BackwardForm::Automatic;
  int keysQ = 0, keysK = 0;  ///< the tiles of backward_dkdv or backward_keys, and of its lists; 0: tileQ, tileK

  bool operator==(const Schedule &) const = default;
};
/// What of a schedule decides a kernel's code: its own tiles, and nothing that others need.
Schedule scheduleOf(const Schedule &schedule, const std::string &kernel);
/// The empty string, or what is wrong with a schedule, of any variant or of this one.
std::string illegal(const Schedule &schedule);
std::string illegal(const Schedule &schedule, const Variant &variant);
/// The schedule with tiles that divide those a variant selects, or that share a list of keys.
Schedule fitted(Schedule schedule, const Variant &variant);
/// "fused_queries"; and back, Automatic where there is no form of that name.
const char *name(BackwardForm form);
BackwardForm backwardFormOf(const std::string &name);
/// "64x64 keys 32x64 stages 2 tiles_inner two_pass": only what `target` uses and what differs from automatic.
std::string describe(const Schedule &schedule, const std::string &target);

struct CompileRequest {
  std::shared_ptr<const Variant> variant;
  std::string kernel = "forward";  ///< forward, backward, backward_queries, backward_keys, backward_sink,
                                   ///< backward_delta, backward_dq, backward_dkdv, plan_*, pool_*, select_*, list_keys
  std::map<std::string, int64_t> dims;  ///< sizes of the dims that rows end in, 1 to 256
  ElementType type = ElementType::F32;
  Schedule schedule;
  bool paged = false;  ///< forward, plan, pool and select kernels: keys lie in pages of a multiple of tileK rows
  /// sm_90a: rows may lie so that no tensor map takes them (see KernelImage::maps); no kernel of the request has any.
  bool anyRows = false;
  std::string target = "host";  ///< "host", a CPU name LLVM knows, or a GPU: "sm_80", "sm_90a", ...
  Stage stage = Stage::Object;  ///< where to stop
  std::string dumpDirectory;    ///< where to write the IR after each pass; empty: nowhere
};

struct CompileResult {
  KernelImage image;  ///< complete at Stage::Object
  std::string text;   ///< of the stage asked for, before Object
  std::string error;  ///< empty on success
};

/// Pure, but for what it writes to `dumpDirectory`: the same request gives the same result. Thread-safe. Mistakes of
/// the request, and our own, are its `error`. Throws std::bad_alloc, and std::filesystem::filesystem_error for a
/// `dumpDirectory` that cannot be made.
CompileResult compile(const CompileRequest &request);

/// Kernels `variant` needs for a forward (and a backward) pass, in every form that a CPU or a GPU has.
std::vector<std::string> kernelNames(const Variant &variant, bool backward, bool gpu = false);

/// What runs well without tuning. The kernels of one direction (and its plan kernels) share a schedule.
Schedule defaultSchedule(const Variant &variant, const std::string &target, const std::map<std::string, int64_t> &dims,
                         bool backward);

/// What a CPU's registers allow, as the code generator sees it.
struct CpuFacts {
  int lanes = 4;       ///< f32 elements of a vector register
  int registers = 16;  ///< vector registers
  bool amx = false;    ///< products of bf16 tiles
  bool pairs = false;  ///< products of pairs of bf16
};
/// `target` is "host" or a CPU name LLVM knows.
CpuFacts cpuFacts(const std::string &target);

/// True for the names of GPUs.
bool isGpu(const std::string &target);

/// Identifies this build of the compiler; cached kernels of another one are not used.
const char *buildIdentity();
/// Name and features of the CPU that "host" means.
std::string hostIdentity();

}  // namespace weft
