#include "runtime/call.h"

#include <algorithm>
#include <cstring>
#include <future>
#include <stdexcept>

#include "runtime/cpu/backend.h"
#include "runtime/device_backend.h"
#include "runtime/tensor_map.h"

namespace weft {
namespace {

/// A step of less work than this is over before another thread has woken up.
constexpr double workOfOneThread = 1 << 16;

int64_t sizeOf(const Extent::Factor &factor, const int64_t *dims) {
  return factor.by < 0 ? dims[factor.dim] : dims[factor.dim] / std::max<int64_t>(dims[factor.by], 1);
}

double estimate(const Extent &work, const int64_t *dims) {
  double value = static_cast<double>(work.scale);
  for (const Extent::Factor &factor : work.factors)
    value *= static_cast<double>((sizeOf(factor, dims) + factor.step - 1) / factor.step);
  return value;
}

[[noreturn]] void fail(const std::string &what) { throw std::runtime_error("internal error: call: " + what); }

/// Programs of a kernel, as its code counts them.
Extent programsOf(const KernelImage &image, const CallPlan &plan, TileRows rows) {
  if (image.grid == Grid::PositionTile)
    return programsOf(queryTiles(rows, image.tileQ, [&](const char *name) { return plan.dim(name); }));
  const bool groups = image.grid == Grid::KeyTile || image.grid == Grid::Group;
  Extent programs{1, {{plan.dim("B")}, {plan.dim(groups ? "G" : "H")}}};
  if (image.grid == Grid::QueryTile && !plan.form.lastTileOnly)
    programs.factors.push_back({plan.dim("T"), image.tileQ});
  if (image.grid == Grid::KeyTile || image.grid == Grid::HeadKeyTile)
    programs.factors.push_back({plan.dim(image.keyDim), image.tileK});
  return programs;
}

/// Elements between neighbours along an axis.
int64_t strideOf(const CallPlan::Buffer &buffer, const Memory &memory, size_t axis, const int64_t *dims) {
  if (memory.strides) return memory.strides[axis];
  int64_t stride = 1;
  for (size_t at = axis + 1; at < buffer.shape.size(); ++at) stride *= valueOf(buffer.shape[at], dims);
  return stride;
}

/// The address that row 0 would have: of what has memory for the last step of a dim alone, one before that.
int64_t addressOf(const CallPlan::Buffer &buffer, const Memory &memory, const int64_t *dims) {
  int64_t skipped = 0;
  for (size_t axis = 0; axis < buffer.shape.size(); ++axis)
    for (const Extent::Factor &factor : buffer.shape[axis].factors)
      if (factor.last)
        skipped += (dims[factor.dim] - valueOf(buffer.shape[axis], dims)) * strideOf(buffer, memory, axis, dims);
  return reinterpret_cast<int64_t>(memory.data) - skipped * bytesOf(buffer.type);
}

TensorMap::Type mapTypeOf(ElementType type) {
  switch (type) {
    case ElementType::BF16: return TensorMap::Type::BF16;
    case ElementType::F16: return TensorMap::Type::F16;
    default: return TensorMap::Type::F32;
  }
}

/// Of a [B, heads, rows, columns] buffer in boxes as its kernel copies them (see TensorMapSlot).
TensorMap mapOf(const CallPlan::Buffer &buffer, const Memory &memory, int rows, const int64_t *dims) {
  TensorMap map;
  map.type = mapTypeOf(buffer.type);
  map.rank = 4;
  map.address = static_cast<uint64_t>(addressOf(buffer, memory, dims));
  for (int at = 0; at < map.rank; ++at) {
    const size_t axis = buffer.shape.size() - 1 - at;
    // Of what has memory for the last step of a dim alone: counted from the row that would be the first.
    int64_t size = 1;
    for (const Extent::Factor &factor : buffer.shape[axis].factors) size *= dims[factor.dim];
    // Of no rows no tile is copied.
    map.sizes[at] = static_cast<uint64_t>(std::max<int64_t>(size * buffer.shape[axis].scale, 1));
    map.strides[at] = static_cast<uint64_t>(strideOf(buffer, memory, axis, dims) * bytesOf(buffer.type));
    map.box[at] = 1;
  }
  map.box[0] = static_cast<uint32_t>(TensorMapSlot::boxBytes / bytesOf(buffer.type));
  map.box[1] = static_cast<uint32_t>(rows);
  map.swizzle = Swizzle::Bytes128;
  return map;
}

/// TMA takes the map; rows that lie apart, none before another.
bool canBeMapped(const TensorMap &map) {
  for (int at = 1; at < map.rank; ++at)
    if (map.strides[at] == 0 && map.sizes[at] > 1) return false;
  return problemOf(map).empty();
}

/// Bytes from a buffer's first element to the end of its last.
MemoryRange rangeOf(const CallPlan::Buffer &buffer, const Memory &memory, const int64_t *dims) {
  int64_t bytes = roomOf(buffer, dims);
  if (memory.strides) {
    int64_t last = 0;
    for (size_t axis = 0; axis < buffer.shape.size(); ++axis)
      last += (std::max<int64_t>(valueOf(buffer.shape[axis], dims), 1) - 1) * memory.strides[axis];
    bytes = (last + 1) * bytesOf(buffer.type);
  }
  return {reinterpret_cast<uint64_t>(memory.data), bytes};
}

}  // namespace

std::vector<int64_t> dimsOf(const CallPlan &plan, std::vector<int64_t> dims) {
  if (dims.size() != plan.dimsGiven()) fail("another number of dims");
  for (size_t at = 0; at < dims.size(); ++at)
    if (dims[at] > largestExtent)
      throw std::runtime_error("expected dim " + plan.dims[at].name + " up to " + std::to_string(largestExtent) +
                               ", got " + std::to_string(dims[at]));
  for (size_t at = dims.size(); at < plan.dims.size(); ++at) dims.push_back(valueOf(*plan.dims[at].is, dims.data()));
  return dims;
}

int64_t valueOf(const Extent &extent, const int64_t *dims) {
  int64_t value = extent.scale;
  for (const Extent::Factor &factor : extent.factors) {
    const int64_t size = sizeOf(factor, dims);
    if (factor.last) value *= size - (std::max<int64_t>(size, 1) - 1) / factor.step * factor.step;
    else value *= factor.step == 1 ? size : (size + factor.step - 1) / factor.step;
  }
  return value;
}

std::vector<int64_t> shapeOf(const CallPlan::Buffer &buffer, const int64_t *dims) {
  std::vector<int64_t> shape;
  shape.reserve(buffer.shape.size());
  int64_t count = 1;
  for (const Extent &extent : buffer.shape) {
    shape.push_back(valueOf(extent, dims));
    if (buffer.counted && __builtin_mul_overflow(count, shape.back(), &count)) count = int64_t{1} << 31;
  }
  if (buffer.counted && count >= int64_t{1} << 31) throw std::runtime_error("too many tiles for one call");
  return shape;
}

int64_t roomOf(const CallPlan::Buffer &buffer, const int64_t *dims) {
  int64_t bytes = bytesOf(buffer.type);
  for (const Extent &extent : buffer.shape) bytes *= std::max<int64_t>(valueOf(extent, dims), 1);
  return bytes;
}

Call::Call(CallPlan own, const CompileRequest &request, const Device &device)
    : plan(std::move(own)),
      device(device),
      request(request),
      steps(plan.steps.size()),
      used(plan.buffers.size()),
      tellsMemory(device.kind == Device::Kind::PtxEmulator || (device.kind == Device::Kind::Cpu && cpu::isEmulated())) {
  // Kernels are compiled side by side, the first one here. A future that is left waits for its thread.
  std::vector<std::future<Kernel>> kernels;
  for (const CallPlan::Step &step : plan.steps)
    kernels.push_back(std::async(kernels.empty() ? std::launch::deferred : std::launch::async,
                                 [this, &step] { return load(step, false); }));
  for (size_t at = 0; at < steps.size(); ++at) {
    Kernel &kernel = steps[at].kernel;
    kernel = kernels[at].get();
    for (const Slot &slot : kernel.slots)
      if (slot.kind == ArgumentSlot::Kind::Pointer || slot.kind == ArgumentSlot::Kind::Stride) used[slot.position] = 1;
    for (const int buffer : kernel.mapped) used[buffer] = 1;
  }
}

Call::Kernel Call::load(const CallPlan::Step &step, bool anyRows) const {
  CompileRequest own = request;
  own.kernel = step.kernel;
  own.paged = plan.form.paged;
  own.anyRows = anyRows;
  Kernel kernel{loadKernel(own, device), {}, {}};
  const KernelImage &image = kernel.code->image();
  if (programsOf(image, plan, request.variant->rows()) != step.programs) fail("another grid of " + step.kernel);
  if (image.residents && plan.form.lastTileOnly)
    fail(step.kernel + " takes programs, of which the call has some alone");
  for (const ArgumentSlot &slot : image.slots) kernel.slots.push_back(resolve(slot, step));
  for (const TensorMapSlot &map : image.maps) {
    const int buffer = plan.buffer(map.tensor);
    if (buffer < 0 || plan.buffers[buffer].shape.size() != 4) fail("no rows of " + map.tensor + " to map");
    kernel.mapped.push_back(buffer);
  }
  return kernel;
}

Call::Kernel Call::loadAnyRows(const CallPlan::Step &step) const {
  try {
    return load(step, true);
  } catch (const std::exception &error) {
    throw std::runtime_error("weft: variant '" + request.variant->name() + "', " + step.kernel +
                             " for rows that are not multiples of 16 bytes apart: " + error.what());
  }
}

Call::Slot Call::resolve(const ArgumentSlot &slot, const CallPlan::Step &step) const {
  const bool dim = slot.kind == ArgumentSlot::Kind::Dim;
  int position = dim ? plan.dim(slot.name) : plan.buffer(slot.name);
  if (dim && slot.name == workspaceRow) position = step.workspaceRow;
  if (!dim && slot.name == workspace) position = step.workspace;
  if (position < 0) fail("no argument " + slot.name + " of " + step.kernel);
  return {slot.kind, position, slot.index};
}

bool Call::addMaps(const Kernel &kernel, const int64_t *dims, const Memory *memory,
                   std::vector<int64_t> &arguments) const {
  arguments.resize(kernel.mapped.size() * TensorMapSlot::words);
  for (size_t at = 0; at < kernel.mapped.size(); ++at) {
    const int buffer = kernel.mapped[at];
    const TensorMap map = mapOf(plan.buffers[buffer], memory[buffer], kernel.code->image().maps[at].rows, dims);
    if (!canBeMapped(map)) return false;
    std::memcpy(&arguments[at * TensorMapSlot::words], encodeOnce(map, device).bytes.data(), TensorMapSlot::bytes);
  }
  return true;
}

void Call::run(const int64_t *dims, const Memory *memory, const LaunchContext &given) const {
  auto empty = [&](int dim) { return dims[dim] == 0; };
  if (std::any_of(plan.needsAll.begin(), plan.needsAll.end(), empty)) return;
  if (!plan.needsAny.empty() && std::all_of(plan.needsAny.begin(), plan.needsAny.end(), empty)) return;
  LaunchContext context = given;
  if (tellsMemory)
    for (size_t at = 0; at < plan.buffers.size(); ++at)
      if (memory[at].data) context.memory.push_back(rangeOf(plan.buffers[at], memory[at], dims));
  std::vector<int64_t> arguments;
  for (size_t at = 0; at < steps.size(); ++at) {
    const CallPlan::Step &step = plan.steps[at];
    const int64_t programs = valueOf(step.programs, dims);
    if (programs == 0) continue;
    const Kernel *kernel = &steps[at].kernel;
    if (!addMaps(*kernel, dims, memory, arguments)) {
      kernel = &steps[at].anyRows;
      std::call_once(steps[at].anyRowsOnce, [&] { steps[at].anyRows = loadAnyRows(step); });
      arguments.clear();
    }
    for (const Slot &slot : kernel->slots) {
      const int position = slot.position;
      switch (slot.kind) {
        case ArgumentSlot::Kind::Dim: arguments.push_back(dims[position]); break;
        case ArgumentSlot::Kind::Pointer:
          arguments.push_back(addressOf(plan.buffers[position], memory[position], dims));
          break;
        case ArgumentSlot::Kind::Stride:
          arguments.push_back(strideOf(plan.buffers[position], memory[position], slot.axis, dims));
          break;
      }
    }
    context.threads =
        device.kind == Device::Kind::Cpu && estimate(step.work, dims) < workOfOneThread ? 1 : given.threads;
    context.workspaceBytes = step.workspaceRow < 0 ? 0 : bytesOf(ElementType::F32) * dims[step.workspaceRow];
    kernel->code->run(arguments.data(), programs, context);
  }
}

}  // namespace weft
