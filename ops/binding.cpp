#include "ops/binding.h"

#include <sys/mman.h>

#include <atomic>
#include <mutex>

#include <ATen/Parallel.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "compiler/default_schedule.h"
#include "ops/attention.h"
#include "ops/variant_library.h"
#include "runtime/environment.h"
#include "runtime/sha256.h"

namespace weft::ops {
namespace {

/// Kernels share torch's threads.
const bool onTorchThreads = [] {
  setExecutor([](int threads, const std::function<void(int)> &work) {
    at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t worker = begin; worker < end; ++worker) work(static_cast<int>(worker));
    });
  });
  return true;
}();

/// Bytes from a tensor's first element to the end of its last.
size_t extentOf(const at::Tensor &tensor) {
  int64_t last = 0;
  for (int64_t dim = 0; dim < tensor.dim(); ++dim) {
    if (tensor.size(dim) == 0) return 0;
    last += (tensor.size(dim) - 1) * tensor.stride(dim);
  }
  return static_cast<size_t>((last + 1) * tensor.element_size());
}

/// As at::empty. A large one on a CPU asks for huge pages: faults of small ones would take as long as the kernels that
/// fill it.
at::Tensor emptyLarge(at::IntArrayRef sizes, const at::TensorOptions &options) {
  at::Tensor tensor = at::empty(sizes, options);
#ifdef MADV_HUGEPAGE
  constexpr uintptr_t page = uintptr_t{2} << 20;
  const auto begin = reinterpret_cast<uintptr_t>(tensor.data_ptr()), first = (begin + page - 1) / page * page;
  const uintptr_t end = (begin + tensor.nbytes()) / page * page;
  if (tensor.is_cpu() && end > first)
    madvise(reinterpret_cast<void *>(first), end - first, MADV_HUGEPAGE);  // advice: may fail
#endif
  return tensor;
}

/// torch's current stream, asked of the guard that CUDA builds of torch register: no CUDA header is needed.
void *currentStream(int index) {
  const c10::impl::VirtualGuardImpl guard(c10::DeviceType::CUDA);
  const c10::Stream stream = guard.getStream(c10::Device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index)));
  return stream.native_handle();
}

}  // namespace

int threadCount() {
  const int own = environment::threads();
  return own > 0 ? std::min(own, at::get_num_threads()) : at::get_num_threads();
}

Device deviceOf(at::TensorList tensors) {
  if (!tensors.empty() && tensors[0].device().is_cuda()) return {Device::Kind::Cuda, tensors[0].device().index()};
  return hostDevice();
}

static Device hostOf(const Device &device) { return device.kind == Device::Kind::PtxEmulator ? device : Device{}; }
static std::atomic<Device> &ownHost() {
  static std::atomic<Device> host = [] {
    try {
      return hostOf(parseDevice(environment::device()));
    } catch (const std::exception &error) {
      TORCH_CHECK(false, "weft: WEFT_DEVICE: ", error.what());
    }
  }();
  return host;
}
Device hostDevice() { return ownHost(); }
torch::Device useDevice(const std::string &name) {
  const Device device = parseDevice(name);
  ownHost() = hostOf(device);
  if (device.kind != Device::Kind::Cuda) return at::kCPU;
  targetOf(device);  // says what is missing
  if (!torch::cuda::is_available())
    throw std::runtime_error("this torch was built without CUDA; install one with it, or use device cpu");
  return torch::Device(at::kCUDA, static_cast<c10::DeviceIndex>(device.index));
}

static std::mutex reportMutex;
static EmulatorReport reportTotal;
EmulatorReport emulatorReport() {
  std::lock_guard lock(reportMutex);
  return reportTotal;
}

at::Tensor readable(const at::Tensor &tensor, const Device &device) {
  bool fits = tensor.size(3) <= 1 || tensor.stride(3) == 1;
  // A GPU copies rows in pieces of up to 16 bytes; each must lie at a multiple of its size.
  if (device.kind != Device::Kind::Cpu) {
    const int64_t item = tensor.element_size(), row = tensor.size(3) * item;
    const int64_t piece = row % 16 == 0 ? 16 : row % 8 == 0 ? 8 : row % 4 == 0 ? 4 : item;
    fits &= reinterpret_cast<uintptr_t>(tensor.data_ptr()) % piece == 0;
    for (int dim = 0; dim < 3; ++dim) fits &= tensor.stride(dim) * item % piece == 0;
  }
  return fits ? tensor : tensor.clone(at::MemoryFormat::Contiguous);
}

KernelSet::KernelSet(std::shared_ptr<const Variant> variant, ElementType type, std::map<std::string, int64_t> dims,
                     Device device, const Schedule &schedule, bool paged)
    : variant(std::move(variant)),
      type(type),
      headDims(std::move(dims)),
      device(device),
      schedule(schedule),
      paged(paged) {
  dimNames = weft::dimNames(*this->variant);
  for (const InputInfo &input : this->variant->inputs()) tensorNames.push_back(input.name);
  dimNames.insert(dimNames.end(), {selectedRows, workspaceRow});
  if (paged) dimNames.insert(dimNames.end(), {"page", "pages"});
  for (const InputInfo &input : this->variant->inputs()) tensorNames.push_back("d" + input.name);
  for (const SelectionInfo::Pool &pool : this->variant->selection().pools) tensorNames.push_back(pool.buffer);
  for (const SelectionInfo::Round &round : this->variant->selection().rounds) tensorNames.push_back(round.buffer);
  tensorNames.insert(tensorNames.end(), std::begin(ownTensors), std::end(ownTensors));
  for (std::string &rows : this->variant->keptRows()) tensorNames.push_back(std::move(rows));
  for (const KeySetInfo &keys : this->variant->keySets())
    for (const char *name : ownTensorsOfKeys) tensorNames.push_back(ofKeys(name, keys.dim));
}

int KernelSet::dimPosition(const std::string &name) const { return find(dimNames, name); }
int KernelSet::tensorPosition(const std::string &name) const { return find(tensorNames, name); }

const KernelSet::Kernel &KernelSet::kernel(const char *name) {
  std::lock_guard lock(mutex);
  if (auto found = kernels.find(name); found != kernels.end()) return found->second;
  CompileRequest request;
  request.variant = variant;
  request.kernel = name;
  request.dims = headDims;
  request.type = type;
  request.schedule = schedule;
  request.paged = paged;
  if (device.kind == Device::Kind::Cpu) request.target = environment::cpu();
  Kernel kernel;
  try {
    kernel.code = loadKernel(request, device);
  } catch (const std::exception &error) {
    TORCH_CHECK(false, "weft: variant '", variant->name(), "': ", error.what());
  }
  for (const ArgumentSlot &slot : kernel.code->image().slots) {
    int position = 0;
    if (slot.kind == ArgumentSlot::Kind::Dim) position = dimPosition(slot.name);
    if (slot.kind == ArgumentSlot::Kind::Pointer || slot.kind == ArgumentSlot::Kind::Stride)
      position = tensorPosition(slot.name);
    TORCH_CHECK(position >= 0, "weft: internal error: kernel argument ", slot.name);
    kernel.arguments.push_back({slot.kind, position, slot.index});
  }
  return kernels.try_emplace(name, std::move(kernel)).first->second;
}

namespace {

/// Sizes a schedule depends on, read off the tensors of a call.
struct CallShape {
  std::map<std::string, int64_t> headDims;
  int64_t B = 1, H = 1, T = 1, S = 1;
  at::ScalarType type = at::kFloat;
};

CallShape shapeOf(const Variant &variant, const std::vector<std::string> &names, at::TensorList tensors) {
  TORCH_CHECK(names.size() == tensors.size(), "weft: expected as many names as tensors, got ", names.size(), " and ",
              tensors.size());
  TORCH_CHECK(find(names, "v") >= 0, "weft: expected a tensor named 'v' among the names");
  CallShape shape;
  for (const InputInfo &input : variant.inputs()) {
    const int at = input.isRow ? find(names, input.name) : -1;
    if (at < 0 || tensors[at].dim() != 4) continue;  // the binding says what is wrong
    const at::Tensor &tensor = tensors[at];
    shape.headDims[input.dims.back()] = tensor.size(3);
    shape.B = tensor.size(0);
    if (input.dims[1] == "H") shape.H = tensor.size(1);
    if (input.dims[2] == "T") shape.T = tensor.size(2);
    if (input.dims[2] == "S") shape.S = tensor.size(2);
    if (input.name == "v") shape.type = tensor.scalar_type();
  }
  return shape;
}

TuningKey keyOf(const Variant &variant, const CallShape &shape, const Device &device, bool backward) {
  TuningKey key;
  key.variant = variant.name();
  key.variantHash = sha256(variant.source());
  key.type = elementType(shape.type);
  key.headDims = shape.headDims;
  key.backward = backward;
  key.heads = bucketOf(shape.B * shape.H);
  key.queries = bucketOf(shape.T);
  key.keys = bucketOf(shape.S);
  key.threads = device.kind == Device::Kind::Cpu ? threadCount() : 0;
  return key;
}

std::atomic<int> scheduleGeneration{0};
std::atomic<Tuner> tuner{nullptr};

/// The tuned schedule of this compiler's code, or the default.
Schedule chosenSchedule(const Variant &variant, const CallShape &shape, const Device &device, bool backward) {
  // Read once: tuning in another process shows in the next one.
  static std::mutex mutex;
  static std::map<std::string, std::pair<int, std::vector<TuningEntry>>> known;
  const TuningKey key = keyOf(variant, shape, device, backward);
  std::lock_guard lock(mutex);
  auto &[generation, entries] = known.try_emplace(name(device), -1, std::vector<TuningEntry>()).first->second;
  if (generation != scheduleGeneration) {
    entries = ScheduleCache(device).entries();
    generation = scheduleGeneration;
  }
  for (const TuningEntry &entry : entries)
    if (entry.key == key && entry.build == buildIdentity() && entry.seconds > 0) return entry.schedule;
  return untunedSchedule(variant, elementType(shape.type), shape.headDims, device, backward);
}

}  // namespace

Schedule untunedSchedule(const Variant &variant, ElementType type, const std::map<std::string, int64_t> &headDims,
                         const Device &device, bool backward) {
  if (device.kind == Device::Kind::Cpu) return defaultSchedule(variant, "host", headDims, backward);
  using Key = std::tuple<std::string, ElementType, std::map<std::string, int64_t>, std::string, bool>;
  static std::mutex mutex;
  static std::map<Key, Schedule> known;
  std::lock_guard lock(mutex);
  auto [slot, added] = known.try_emplace(Key{variant.source(), type, headDims, architectureOf(device), backward});
  if (added)
    slot->second = defaultSchedule(variant, architectureOf(device), headDims, backward, type,
                                   limitsOf(device).sharedBytesPerBlock);
  return slot->second;
}

TuningKey tuningKey(const Variant &variant, const std::vector<std::string> &names, at::TensorList tensors,
                    bool backward) {
  return keyOf(variant, shapeOf(variant, names, tensors), deviceOf(tensors), backward);
}
void forgetSchedules() { ++scheduleGeneration; }
void setTuner(Tuner own) { tuner = own; }

KernelSet &kernelSet(const std::string &variantText, const std::vector<std::string> &names, at::TensorList tensors,
                     bool backward) {
  const std::shared_ptr<const Variant> variant = variantOrThrow(variantText);
  const CallShape shape = shapeOf(*variant, names, tensors);
  const Device device = deviceOf(tensors);
  const ElementType element = elementType(shape.type);
  // Schedules are tuned for sizes up to powers of two.
  using Key = std::tuple<const Variant *, ElementType, std::map<std::string, int64_t>, int, int, int64_t, int64_t,
                         int64_t, int, bool, int>;
  Key key{variant.get(),
          element,
          shape.headDims,
          static_cast<int>(device.kind),
          device.index,
          bucketOf(shape.B * shape.H),
          bucketOf(shape.T),
          bucketOf(shape.S),
          threadCount(),
          backward,
          scheduleGeneration.load()};
  static std::mutex mutex;
  static std::map<Key, std::unique_ptr<KernelSet>> sets;
  {
    std::lock_guard lock(mutex);
    if (auto found = sets.find(key); found != sets.end()) return *found->second;
  }
  if (Tuner own = tuner; own && environment::tune() && device.kind != Device::Kind::PtxEmulator) {
    // Its own calls come with schedules of their own, not through here.
    own(variantText, names, tensors, backward);
    std::get<10>(key) = scheduleGeneration.load();
  }
  const Schedule schedule = chosenSchedule(*variant, shape, device, backward);
  auto made = std::make_unique<KernelSet>(variant, element, shape.headDims, device, schedule);
  std::lock_guard lock(mutex);
  return *sets.try_emplace(key, std::move(made)).first->second;
}

Binding::Binding(KernelSet &set, const std::vector<std::string> &names, at::TensorList list)
    : set(set), dims(set.dimNames.size(), -1), tensors(set.tensorNames.size()), skipped(set.tensorNames.size()) {
  const Variant &variant = *set.variant;
  const Arguments arguments = checkArguments(variant, names, list);
  for (size_t at = 0; at < arguments.sizes.size(); ++at) dims[at] = arguments.sizes[at].guard_int(__FILE__, __LINE__);
  for (size_t at = 0; at < variant.inputs().size(); ++at) {
    const InputInfo &input = variant.inputs()[at];
    at::Tensor tensor = list[arguments.places[at]];
    if (input.isRow) {
      TORCH_CHECK(elementType(tensor.scalar_type()) == set.type, "weft: variant '", variant.name(),
                  "': expected input '", input.name, "' of type ", name(set.type), ", got ", tensor.scalar_type());
      tensor = readable(tensor, set.device);
    } else if (input.isFloat) {
      tensor = tensor.to(at::kFloat).contiguous();
    } else if (input.isInt) {
      tensor = as32Bits(tensor, [&] { return "weft: variant '" + variant.name() + "': input '" + input.name + "'"; });
    } else {
      tensor = tensor.contiguous();
    }
    prepared.push_back(tensor);
    bind(input.name, tensor);
  }
  B = dims[0];
  H = dims[1];
  G = dims[2];
  T = dims[3];
  S = dims[4];
  if (arguments.seed >= 0) {
    bind("seed", list[arguments.seed].to(prepared[0].device()).contiguous());
  } else if (variant.hasDropout()) {
    bind("seed", at::zeros({2}, prepared[0].options().dtype(at::kLong)));
  }
  if (arguments.selection >= 0) {
    selection = list[arguments.selection].contiguous();
    bind("selection", selection);
  }
  status = at::zeros({1}, prepared[0].options().dtype(at::kInt));
  bind("status", status);
}

void Binding::bindRows(const std::string &name, const at::Tensor &rows, int64_t first) {
  bind(name, rows);
  skipped[set.tensorPosition(name)] = first * rows.stride(2) * rows.element_size();
}

int64_t Binding::dim(const std::string &name) const { return dims[set.dimPosition(name)]; }

void Binding::bind(const std::string &name, const at::Tensor &tensor) {
  at::Tensor &slot = tensors[set.tensorPosition(name)];
  slot = tensor;
  if (!tensor.defined() || tensor.numel() > 0) return;
  // An index that left its dim reads the nearest element: where there is none, a zero.
  std::vector<int64_t> sizes = tensor.sizes().vec();
  for (int64_t &size : sizes) size = std::max<int64_t>(size, 1);
  slot = at::zeros(sizes, tensor.options().requires_grad(false));
}

bool Binding::names(const char *kernel, const std::string &tensor) const {
  const int position = set.tensorPosition(tensor);
  const auto &arguments = set.kernel(kernel).arguments;
  return std::any_of(arguments.begin(), arguments.end(), [&](const KernelSet::Argument &own) {
    return own.kind == ArgumentSlot::Kind::Pointer && own.position == position;
  });
}

void Binding::run(const char *name) {
  const KernelSet::Kernel &kernel = set.kernel(name);
  c10::SmallVector<int64_t, 64> slots;
  for (const KernelSet::Argument &argument : kernel.arguments) {
    switch (argument.kind) {
      case ArgumentSlot::Kind::Dim: slots.push_back(dims[argument.position]); break;
      case ArgumentSlot::Kind::Pointer: {
        const at::Tensor &tensor = tensors[argument.position];
        slots.push_back(tensor.defined() ? reinterpret_cast<int64_t>(tensor.data_ptr()) - skipped[argument.position]
                                         : 0);
        break;
      }
      case ArgumentSlot::Kind::Stride: slots.push_back(tensors[argument.position].stride(argument.index)); break;
    }
  }
  int64_t programs = 0;
  const KernelImage &image = kernel.code->image();
  auto tiles = [](int64_t extent, int64_t tile) { return (extent + tile - 1) / tile; };
  switch (image.grid) {
    case Grid::QueryTile: programs = B * H * (lastTileOnly ? 1 : tiles(T, image.tileQ)); break;
    case Grid::KeyTile: programs = B * G * tiles(dim(image.keyDim), image.tileK); break;
    case Grid::HeadKeyTile: programs = B * H * tiles(dim(image.keyDim), image.tileK); break;
    case Grid::Group: programs = B * G; break;
    case Grid::Head: programs = B * H; break;
  }
  LaunchContext context;
  context.threads = threadCount();
  context.workspaceBytes = 4 * dim(workspaceRow);
  if (set.device.kind == Device::Kind::PtxEmulator)
    for (const at::Tensor &tensor : tensors)
      if (tensor.defined())
        context.memory.push_back(
            {reinterpret_cast<uint64_t>(tensor.data_ptr()), static_cast<int64_t>(extentOf(tensor))});
  if (set.device.kind == Device::Kind::Cuda) context.stream = currentStream(set.device.index);
  EmulatorReport report;
  context.report = &report;
  kernel.code->run(slots.data(), programs, context);
  if (set.device.kind == Device::Kind::PtxEmulator) {
    std::lock_guard lock(reportMutex);
    reportTotal += report;
  }
}

const at::Tensor &Binding::select() {
  if (!set.variant->selects() || selection.defined()) return selection;
  auto tiles = [](int64_t extent, int64_t tile) { return (extent + tile - 1) / tile; };
  const SelectionInfo &info = set.variant->selection();
  const at::TensorOptions floats = status.options().dtype(at::kFloat);
  for (size_t n = 0; n < info.pools.size(); ++n) {
    const SelectionInfo::Pool &pool = info.pools[n];
    const at::Tensor &rows = prepared[pool.input];
    bind(pool.buffer, at::empty({rows.size(0), rows.size(1),
                                 tiles(tiles(rows.size(2), pool.tile), pool.block) * pool.block, rows.size(3)},
                                floats));
    run(("pool_" + std::to_string(n)).c_str());
  }
  for (size_t n = 0; n < info.rounds.size(); ++n) {
    const SelectionInfo::Round &round = info.rounds[n];
    selection = emptyLarge({B, H, tiles(T, round.tileQ), tiles(S, round.tileK)}, status.options().dtype(at::kBool));
    TORCH_CHECK(selection.numel() < (int64_t{1} << 31), "weft: too many tiles for one call");
    bind(round.buffer, selection);
    setDim(workspaceRow, round.planes * round.together * selection.size(3));
    if (set.device.kind != Device::Kind::Cpu)
      bind(workspace, at::empty({B * H * tiles(selection.size(2), round.together) * dim(workspaceRow)}, floats));
    run(("select_" + std::to_string(n)).c_str());
  }
  setDim(workspaceRow, 0);
  bind(workspace, at::Tensor());
  return selection;
}

void Binding::listKeys() {
  // Only what is chosen is written to the lists, a small part of their room.
  chosenKeys = at::empty(select().sizes(), status.options());
  setDim(selectedRows, selection.size(2));
  bind(selectedKeys, chosenKeys);
  bind(selectedCounts, at::empty({B, H, selection.size(2)}, status.options()));
  run("list_keys");
}

void Binding::plan(bool byKey) {
  select();
  if (set.variant->selectsKeys() && !chosenKeys.defined()) listKeys();
  std::vector<Plan> made;
  for (const KeySetInfo &keys : set.variant->keySets())
    if (keys.lists || !byKey) made.push_back(planKeys(keys, byKey));  // a band serves both sides
  if (!byKey) plans = std::move(made);
}

Binding::Plan Binding::planKeys(const KeySetInfo &keys, bool byKey) {
  Plan plan{keys.dim == "S" ? keyExtent() : dim(keys.dim), {}, {}, {}};
  if (!keys.lists) {
    plan.band = at::empty({B * H * 4}, status.options());
    bind(ofKeys("band", keys.dim), plan.band);
    run(ofKeys("plan_band", keys.dim).c_str());
    return plan;
  }
  const int64_t ownTiles = (plan.keys + set.schedule.tileK - 1) / set.schedule.tileK;
  const int64_t rows = B * H * (byKey ? ownTiles : queryTiles()), others = byKey ? queryTiles() : ownTiles;
  TORCH_CHECK(rows * others < (int64_t{1} << 31), "weft: too many tiles for one call");
  // Room for all tiles of each row: how many are kept need not be known here, nor waited for.
  plan.counts = lastTileOnly ? at::zeros({rows}, status.options()) : at::empty({rows}, status.options());
  plan.entries = at::empty({std::max<int64_t>(rows * others, 1)}, status.options());
  bind(ofKeys(byKey ? "counts_keys" : "counts", keys.dim), plan.counts);
  bind(ofKeys(byKey ? "entries_keys" : "entries", keys.dim), plan.entries);
  run(ofKeys(byKey ? "plan_lists_keys" : "plan_lists", keys.dim).c_str());
  return plan;
}

void Binding::checkStatus() const {
  // On a GPU the answer would have to be waited for; debug builds of a model can ask for it.
  if (set.device.kind == Device::Kind::Cuda && !environment::synchronous()) return;
  TORCH_CHECK(status.item<int>() == 0, "weft: variant '", set.variant->name(),
              "': an index of a kept pair left its dim; make the dim large enough, or keep such pairs out with "
              "'where'");
}

}  // namespace weft::ops
