#include "compiler/call_plan.h"

#include <algorithm>

#include "compiler/internal_error.h"
#include "compiler/language/ast.h"
#include "compiler/origin.h"

namespace weft {
namespace {

using Owner = CallPlan::Owner;

bool has(const std::vector<std::string> &list, const std::string &name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

Extent times(Extent a, const Extent &b) {
  a.scale *= b.scale;
  a.factors.insert(a.factors.end(), b.factors.begin(), b.factors.end());
  return a;
}
Extent product(const std::vector<Extent> &extents) {
  Extent all;
  for (const Extent &extent : extents) all = times(std::move(all), extent);
  return all;
}

class Planner {
 public:
  Planner(const Variant &variant, ElementType type, const Schedule &schedule, const CallForm &form)
      : variant(variant), type(type), real(floatsBeside(type)), schedule(schedule) {
    plan.form = form;
    for (std::string &name : dimNames(variant)) plan.dims.push_back({std::move(name), {}});
    if (form.paged)
      for (const char *name : {"page", "pages", poolPages}) plan.dims.push_back({name, {}});
  }

  CallPlan build() {
    inputs();
    switch (plan.form.purpose) {
      case Purpose::Select: choose(Owner::Output); break;
      case Purpose::KeptTiles: keptTiles(Owner::Output); break;
      case Purpose::Forward: forward(); break;
      case Purpose::Backward: backward(); break;
    }
    return std::move(plan);
  }

 private:
  const Variant &variant;
  const ElementType type, real;  ///< of rows, and of other floats
  const Schedule &schedule;
  CallPlan plan;

  // ---- sizes -------------------------------------------------------------------------------

  Extent size(const std::string &dim) const {
    const int position = plan.dim(dim);
    internalCheck(position >= 0, "call_plan", "no dim named " + dim);
    return {1, {{position}}};
  }
  /// Tiles of `dim`, a number of them at a time.
  Extent tiles(const std::string &dim, int64_t tile) const {
    Extent extent = size(dim);
    extent.factors[0].step = tile;
    return extent;
  }
  std::vector<Extent> sizes(const std::vector<std::string> &dims) const {
    std::vector<Extent> shape;
    for (const std::string &dim : dims) shape.push_back(size(dim));
    return shape;
  }
  /// The dim of v's rows.
  const std::string &width() const { return variant.inputs()[variant.keySets()[0].values].dims.back(); }

  // ---- buffers and steps -------------------------------------------------------------------

  int add(std::string name, ElementType element, std::vector<Extent> shape, Owner owner) {
    const bool zeros = owner == Owner::Zeros;
    plan.buffers.push_back({std::move(name), element, std::move(shape), owner, zeros, false, false});
    return static_cast<int>(plan.buffers.size()) - 1;
  }
  int addZeroed(std::string name, ElementType element, std::vector<Extent> shape, Owner owner) {
    const int at = add(std::move(name), element, std::move(shape), owner);
    plan.buffers[at].zeroed = true;
    return at;
  }
  int addGiven(std::string name, ElementType element, std::vector<Extent> shape, bool given) {
    return add(std::move(name), element, std::move(shape), given ? Owner::Input : Owner::Zeros);
  }

  CallPlan::Step &run(std::string kernel, Extent programs, Extent work) {
    return plan.steps.emplace_back(std::move(kernel), std::move(programs), std::move(work));
  }
  /// Kernels over tiles of queries: of each head, or the last tile of each.
  Extent queryPrograms(int64_t tile) const {
    const QueryTiles own = rowTiles(tile);
    return plan.form.lastTileOnly ? product(own.heads) : programsOf(own);
  }
  QueryTiles rowTiles(int64_t tile) const {
    return queryTiles(variant.rows(), tile, [&](const char *name) { return plan.dim(name); });
  }
  /// Products over all pairs of queries and keys.
  Extent pairWork() const {
    const Extent queries = plan.form.lastTileOnly ? Extent{schedule.tileQ, {}} : size("T");
    return product({size("B"), size("H"), queries, size("S"), size(width())});
  }

  // ---- parts of a call ---------------------------------------------------------------------

  void inputs() {
    for (const InputInfo &input : variant.inputs()) {
      const ElementType element = input.isRow    ? type
                                  : input.isInt  ? ElementType::I32
                                  : input.isBool ? ElementType::Bool
                                                 : real;
      const bool pooled = plan.form.paged && input.isRow && input.dims[2] == "S";
      add(input.name, element, pooled ? sizes({poolPages, input.dims[1], "page", input.dims[3]}) : sizes(input.dims),
          Owner::Input);
    }
    if (plan.form.paged) plan.pages = add("pages", ElementType::I32, sizes({"B", "pages"}), Owner::Input);
    if (variant.hasDropout() && plan.form.purpose >= Purpose::Forward)
      plan.seed = addGiven("seed", ElementType::I64, {Extent{2, {}}}, plan.form.seedGiven);
    plan.status = addZeroed("status", ElementType::I32, {Extent{}}, Owner::Temporary);
  }

  void pool(size_t number) {
    const SelectionInfo::Pool &pool = variant.selection().pools[number];
    const InputInfo &input = variant.inputs()[pool.input];
    Extent room = tiles(input.dims[2], int64_t{pool.tile} * pool.block);
    room.scale = pool.block;
    add(pool.buffer, ElementType::F32, {size("B"), size(input.dims[1]), room, size(input.dims[3])}, Owner::Temporary);
    const bool queries = input.dims[2] == "T";
    Extent programs =
        queries ? queryPrograms(pool.tile) : product({size("B"), size(input.dims[1]), tiles(input.dims[2], pool.tile)});
    run("pool_" + std::to_string(number), std::move(programs),
        product({size("B"), size(input.dims[1]), size(input.dims[2]), size(input.dims[3])}));
  }

  void round(size_t number, Owner owner) {
    const SelectionInfo::Round &round = variant.selection().rounds[number];
    const std::vector<Extent> shape{size("B"), size("H"), tiles("T", round.tileQ), tiles("S", round.tileK)};
    const bool last = number + 1 == variant.selection().rounds.size();
    const int map = add(round.buffer, ElementType::Bool, shape, last ? owner : Owner::Temporary);
    plan.buffers[map].filled = plan.buffers[map].counted = true;
    if (last) plan.selection = map;
    Extent row = tiles("S", round.tileK);
    row.scale = int64_t{round.planes} * round.queryTiles;
    const std::string suffix = "." + std::to_string(number);
    plan.dims.push_back({workspaceRow + suffix, row});
    const int64_t queries = int64_t{round.tileQ} * round.queryTiles;
    Extent work = product({shape[0], shape[1], shape[2], shape[3]});
    work.scale = 64;  // estimates and bisections
    CallPlan::Step &step = run("select_" + std::to_string(number), queryPrograms(queries), std::move(work));
    step.workspaceRow = static_cast<int>(plan.dims.size()) - 1;
    step.workspace = add(workspace + suffix, ElementType::F32,
                         {shape[0], shape[1], tiles("T", queries), size(plan.dims.back().name)}, Owner::Workspace);
  }

  /// The map of chosen tiles, where the variant selects any.
  void choose(Owner owner) {
    if (!variant.selects()) return;
    const SelectionInfo::Round &last = variant.selection().rounds.back();
    if (plan.form.selectionGiven) {
      plan.selection = add("selection", ElementType::Bool,
                           {size("B"), size("H"), tiles("T", last.tileQ), tiles("S", last.tileK)}, Owner::Input);
      plan.buffers.back().counted = true;
      return;
    }
    for (size_t at = 0; at < variant.selection().pools.size(); ++at) pool(at);
    for (size_t at = 0; at < variant.selection().rounds.size(); ++at) round(at, owner);
  }

  void listKeys() {
    const int64_t tile = variant.selection().rounds.back().tileQ;
    plan.dims.push_back({selectedRows, tiles("T", tile)});
    const std::vector<Extent> rows = sizes({"B", "H", selectedRows});
    add(selectedKeys, ElementType::I32, {rows[0], rows[1], rows[2], size("S")}, Owner::Temporary);
    add(selectedCounts, ElementType::I32, rows, Owner::Temporary);
    run("list_keys", queryPrograms(tile), product({rows[0], rows[1], rows[2], size("S")}));
  }

  /// The dim of a set's keys that a row can look at.
  const std::string &lookedAt(const KeySetInfo &keys) const {
    return keys.dim == "S" && variant.keyList().input >= 0 ? variant.keyList().dim : keys.dim;
  }

  void list(const KeySetInfo &keys, bool byKey, Owner owner, CallPlan::KeptTiles &kept) {
    const std::string side = byKey ? "_keys" : "", kernel = ofKeys("plan_lists" + side, keys.dim);
    const Schedule own = scheduleOf(schedule, kernel);
    const QueryTiles queryTiles = rowTiles(own.tileQ);
    const Extent heads = product(queryTiles.heads), &queries = queryTiles.tiles,
                 others = tiles(lookedAt(keys), own.tileK);
    auto shaped = [&](std::initializer_list<Extent> more) {
      std::vector<Extent> shape = queryTiles.heads;
      shape.insert(shape.end(), more);
      return shape;
    };
    // Room for all tiles of each row: how many are kept need not be known, nor waited for.
    const Extent &rows = byKey ? others : queries, &entries = byKey ? queries : others;
    kept.counts = add(ofKeys("counts" + side, keys.dim), ElementType::I32, shaped({rows}), owner);
    plan.buffers.back().zeroed = plan.form.lastTileOnly;  // rows of no program keep nothing
    kept.entries = add(ofKeys("entries" + side, keys.dim), ElementType::I32, shaped({rows, entries}), owner);
    plan.buffers.back().counted = true;
    Extent work = product({heads, queries, others});
    work.scale = 16;
    run(kernel, byKey ? times(heads, tiles(keys.dim, own.tileK)) : queryPrograms(own.tileQ), std::move(work));
  }

  /// Which tiles of each set of keys are kept, by query tile.
  void keptTiles(Owner owner) {
    add(takenPrograms, ElementType::I32, {Extent{}}, Owner::Temporary);
    choose(Owner::Temporary);
    if (variant.selectsKeys()) listKeys();
    for (const KeySetInfo &keys : variant.keySets()) {
      CallPlan::KeptTiles &kept = plan.kept.emplace_back();
      kept.keys = size(lookedAt(keys));
      if (keys.lists) {
        list(keys, false, owner, kept);
        continue;
      }
      kept.band = add(ofKeys("band", keys.dim), ElementType::I32, {size("B"), size("H"), Extent{4, {}}}, owner);
      const Extent heads = product({size("B"), size("H")});
      Extent work = heads;
      work.scale = 256;  // bisections
      run(ofKeys("plan_band", keys.dim), heads, std::move(work));
    }
  }

  void result(Owner owner) {
    Extent queries = size("T");
    if (plan.form.lastTileOnly) queries.factors[0] = {plan.dim("T"), schedule.tileQ, true};
    plan.o = add("o", type, {size("B"), size("H"), queries, size(width())}, owner);
    const Owner rows = owner == Owner::Input ? owner : plan.form.lastTileOnly ? Owner::Temporary : Owner::Kept;
    for (std::string &name : variant.keptRows())
      plan.rows.push_back(add(std::move(name), real, sizes({"B", "H", "T"}), rows));
  }

  void forward() {
    for (const char *dim : {"B", "H", "T"}) plan.needsAll.push_back(plan.dim(dim));
    result(Owner::Output);
    keptTiles(Owner::Temporary);
    run("forward", queryPrograms(schedule.tileQ), pairWork());
  }

  void gradient(int input) {
    const InputInfo &info = variant.inputs()[input];
    CallPlan::Gradient gradient;
    gradient.input = input;
    // A list may name a key twice.
    const bool listed = variant.keyList().input >= 0 || variant.selectsKeys();
    const bool queriesAdd = plan.form.backward == BackwardForm::FusedQueries,
               keysAdd = plan.form.backward == BackwardForm::FusedKeys;
    if (info.isRow) gradient.meeting = info.querySide ? keysAdd : listed || queriesAdd;
    else gradient.meeting = info.perEntry || keysAdd;
    std::vector<std::string> dims = info.dims;
    if (!info.isRow) {
      dims = {"B", "H"};
      dims.insert(dims.end(), info.gradientDims.begin(), info.gradientDims.end());
      if (info.groupAxis() >= 0) gradient.groups = plan.dim(info.dims[info.groupAxis()]);
      for (const std::string &dim : dims)
        gradient.axes.push_back(has(info.dims, dim)                  ? CallPlan::Gradient::Axis::Kept
                                : dim == "H" && gradient.groups >= 0 ? CallPlan::Gradient::Axis::Grouped
                                                                     : CallPlan::Gradient::Axis::Summed);
    }
    const ElementType sums = plan.form.wideSums && info.wideSums ? ElementType::F64 : real;
    gradient.buffer = addZeroed("d" + info.name, info.querySide && !keysAdd ? type : sums, sizes(dims), Owner::Output);
    plan.gradients.push_back(std::move(gradient));
  }

  void backward() {
    for (const char *dim : {"B", "H", "T"}) plan.needsAll.push_back(plan.dim(dim));
    // A sink has a gradient without any key.
    if (!variant.tree().sink)
      for (const KeySetInfo &keys : variant.keySets()) plan.needsAny.push_back(plan.dim(keys.dim));
    result(Owner::Input);
    plan.dO = add("do", type, sizes({"B", "H", "T", width()}), Owner::Input);
    for (size_t at = 0; at < variant.inputs().size(); ++at)
      if (variant.inputs()[at].isFloat) gradient(static_cast<int>(at));
    keptTiles(Owner::Temporary);
    if (variant.hasDelta()) {
      plan.dLse = addGiven("dlse", real, sizes({"B", "H", "T"}), plan.form.dLseGiven);
      add("delta", real, sizes({"B", "H", "T"}), Owner::Temporary);
      run("backward_delta", queryPrograms(schedule.tileQ), product({size("B"), size("H"), size("T"), size(width())}));
    }
    Extent work = pairWork();
    work.scale = 3;
    switch (plan.form.backward) {
      case BackwardForm::FusedQueries: run("backward_queries", queryPrograms(schedule.tileQ), work); break;
      case BackwardForm::FusedKeys:
        byKeys("backward_keys", work);
        if (variant.tree().sink)
          run("backward_sink", queryPrograms(schedule.tileQ), product({size("B"), size("H"), size("T")}));
        break;
      case BackwardForm::TwoPass:
        run("backward_dq", queryPrograms(schedule.tileQ), work);
        byKeys("backward_dkdv", work);
        break;
      default: run("backward", product({size("B"), size("G")}), work);
    }
  }

  /// A kernel over the tiles of each set of keys.
  void byKeys(const std::string &name, const Extent &work) {
    for (const KeySetInfo &keys : variant.keySets()) {
      CallPlan::KeptTiles byKey;
      if (keys.lists) list(keys, true, Owner::Temporary, byKey);
      const std::string kernel = ofKeys(name, keys.dim);
      run(kernel, product({size("B"), size("G"), tiles(keys.dim, scheduleOf(schedule, kernel).tileK)}), work);
    }
  }

  /// Pages of the pools that paged rows lie in; no kernel asks for it.
  static constexpr const char *poolPages = "pool.pages";
};

}  // namespace

int CallPlan::dim(const std::string &name) const {
  for (size_t at = 0; at < dims.size(); ++at)
    if (dims[at].name == name) return static_cast<int>(at);
  return -1;
}
int CallPlan::buffer(const std::string &name) const {
  for (size_t at = 0; at < buffers.size(); ++at)
    if (buffers[at].name == name) return static_cast<int>(at);
  return -1;
}
size_t CallPlan::dimsGiven() const {
  size_t count = 0;
  while (count < dims.size() && !dims[count].is) ++count;
  return count;
}

std::vector<std::string> dimNames(const Variant &variant) {
  std::vector<std::string> names{"B", "H", "G", "T", "S"};
  for (const InputInfo &input : variant.inputs())
    for (const std::string &dim : input.dims)
      if (!has(names, dim)) names.push_back(dim);
  if (hasOrigin(variant)) names.insert(names.end(), originDims.begin(), originDims.end());
  return names;
}

Extent programsOf(const QueryTiles &tiles) { return times(product(tiles.heads), tiles.tiles); }

QueryTiles queryTiles(TileRows rows, int64_t tileQ, const std::function<int(const char *)> &dim) {
  auto one = [&](const char *name) { return Extent{1, {{dim(name)}}}; };
  switch (rows) {
    case TileRows::Queries: return {{one("B"), one("H")}, {1, {{dim("T"), tileQ}}}};
    case TileRows::Heads: return {{one("B"), one("T"), one("G")}, {1, {{dim("H"), tileQ, false, dim("G")}}}};
    case TileRows::Head: return {{one("B"), one("T"), one("H")}, {}};
  }
  return {};
}

CallPlan planCall(const Variant &variant, ElementType type, const Schedule &schedule, const CallForm &form) {
  return Planner(variant, type, schedule, form).build();
}

std::vector<std::string> kernelNames(const Variant &variant, bool backward, bool gpu) {
  std::vector<CallForm> forms{{.purpose = Purpose::Forward}};
  auto add = [&](BackwardForm form) { forms.push_back({.purpose = Purpose::Backward, .backward = form}); };
  if (backward) add(BackwardForm::Fused);
  if (backward && gpu) add(BackwardForm::FusedQueries);
  if (backward && variant.hasTwoPassBackward(false)) add(BackwardForm::TwoPass);
  if (backward && gpu && variant.hasTwoPassBackward(false)) add(BackwardForm::FusedKeys);
  std::vector<std::string> names;
  for (const CallForm &form : forms)
    for (const CallPlan::Step &step : planCall(variant, ElementType::F32, {}, form).steps)
      if (!has(names, step.kernel)) names.push_back(step.kernel);
  return names;
}

}  // namespace weft
