// The C interface: runtime/weft.h.
#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <thread>

#include "compiler/origin.h"
#include "compiler/terms.h"
#include "runtime/call.h"
#include "runtime/schedule.h"
#include "runtime/weft.h"

struct weft_variant {
  std::shared_ptr<const weft::Variant> own;
};
struct weft_call {
  std::shared_ptr<const weft::Variant> variant;
  std::unique_ptr<weft::Call> own;
  std::vector<std::string> dims;         ///< those that come with the call
  std::map<std::string, int64_t> terms;  ///< of these, what is compiled of one size alone
  std::string plan;
};

namespace weft {
namespace {

thread_local std::string lastError;

/// `failed` where `body` throws, whose words are kept.
template <class Result, class Body>
Result guarded(Result failed, Body body) noexcept {
  try {
    return body();
  } catch (const std::exception &error) {
    try {
      lastError = error.what();
    } catch (...) {
      lastError.clear();
    }
  } catch (...) {
    lastError = "an unknown error";
  }
  return failed;
}

template <class T>
const T &given(const T *pointer, const char *what) {
  if (!pointer) throw std::invalid_argument(std::string("expected ") + what + ", got NULL");
  return *pointer;
}
const CallPlan &planOf(const weft_call *call) { return given(call, "a call").own->plan; }
const CallPlan::Buffer &bufferOf(const weft_call *call, int buffer) {
  const auto &all = planOf(call).buffers;
  if (buffer < 0 || static_cast<size_t>(buffer) >= all.size())
    throw std::out_of_range("expected a buffer from 0 to " + std::to_string(all.size() - 1) + ", got " +
                            std::to_string(buffer));
  return all[buffer];
}
std::vector<int64_t> allDims(const weft_call *call, const int64_t *dims) {
  const CallPlan &plan = planOf(call);
  given(dims, "the sizes of the dims");
  for (size_t at = 0; at < plan.dimsGiven(); ++at) {
    const std::string what = "dim " + plan.dims[at].name;
    if (dims[at] < 0) throw std::invalid_argument("expected a size of " + what + ", got " + std::to_string(dims[at]));
    if (auto own = call->terms.find(plan.dims[at].name); own != call->terms.end() && own->second != dims[at])
      throw std::invalid_argument("expected " + std::to_string(own->second) + " for " + what +
                                  ", the number of terms it is compiled of, got " + std::to_string(dims[at]));
  }
  std::vector<int64_t> all = dimsOf(plan, {dims, dims + plan.dimsGiven()});
  if (hasOrigin(*call->variant))
    for (const int side : {0, 1}) {
      const int64_t first = all[plan.dim(originDims[side])], length = all[plan.dim(side ? "S" : "T")],
                    whole = all[plan.dim(originDims[side + 2])];
      if (first + length > whole)
        throw std::invalid_argument("expected " + std::string(originDims[side + 2]) + " of at least " +
                                    std::to_string(first + length) + ", as " + originDims[side] + " and " +
                                    (side ? "S" : "T") + " say, got " + std::to_string(whole));
    }
  return all;
}

ElementType typeOf(weft_type type) {
  switch (type) {
    case WEFT_F32: return ElementType::F32;
    case WEFT_BF16: return ElementType::BF16;
    case WEFT_F16: return ElementType::F16;
    case WEFT_F64: return ElementType::F64;
    default: throw std::invalid_argument("expected WEFT_F32, WEFT_BF16, WEFT_F16 or WEFT_F64 as the type of rows");
  }
}
weft_type typeOf(ElementType type) {
  switch (type) {
    case ElementType::F32: return WEFT_F32;
    case ElementType::BF16: return WEFT_BF16;
    case ElementType::F16: return WEFT_F16;
    case ElementType::F64: return WEFT_F64;
    case ElementType::I32: return WEFT_I32;
    case ElementType::I64: return WEFT_I64;
    case ElementType::Bool: return WEFT_BOOL;
  }
  return WEFT_F32;
}
bool startsAsZeros(const CallPlan::Buffer &buffer) { return buffer.zeroed || buffer.owner == CallPlan::Owner::Zeros; }
weft_role roleOf(CallPlan::Owner owner) {
  switch (owner) {
    case CallPlan::Owner::Input: return WEFT_INPUT;
    case CallPlan::Owner::Output: return WEFT_OUTPUT;
    case CallPlan::Owner::Kept: return WEFT_KEPT;
    default: return WEFT_SCRATCH;
  }
}

std::shared_ptr<const Variant> parsed(const std::string &text) {
  ParseResult result = parse(text, "<text>");
  if (!result.diagnostics.empty()) throw std::invalid_argument(render(result.diagnostics));
  if (result.variants.size() != 1)
    throw std::invalid_argument("expected a text with one variant, got " + std::to_string(result.variants.size()));
  return result.variants[0];
}

weft_call *compileCall(const weft_variant *variant, weft_purpose purpose, weft_type type, const char *device, int count,
                       const char *const *rowDims, const int64_t *rowSizes) {
  auto call = std::make_unique<weft_call>();
  const Variant &open = *given(variant, "a variant").own;
  const Device place = parseDevice(&given(device, "the name of a device"));
  CompileRequest request;
  request.type = typeOf(type);
  request.target = targetOf(place);
  if (count > 0) {
    given(rowSizes, "the sizes of row dims");
    given(rowDims, "the names of row dims");
  }
  for (int at = 0; at < count; ++at) request.dims[&given(rowDims[at], "the name of a dim")] = rowSizes[at];
  call->variant = termDims(open).empty() ? variant->own : parsed(sourceWith(open, request.dims));
  for (const std::string &dim : termDims(open)) call->terms[dim] = request.dims.at(dim);
  request.variant = call->variant;
  const Variant &own = *call->variant;
  if (hasOrigin(own) && own.selects())
    throw std::invalid_argument(
        "expected no 'select' in a variant with the parameter 'origin': tiles are chosen of the "
        "whole sequence");
  for (const InputInfo &input : own.inputs())
    if (input.isRow && !request.dims.count(input.dims.back()))
      throw std::invalid_argument("expected the size of dim " + input.dims.back() + ", in which rows of '" +
                                  input.name + "' end");
  const bool backward = purpose == WEFT_BACKWARD, cpu = place.kind == Device::Kind::Cpu;
  request.schedule = deviceSchedule(own, request.type, request.dims, place, backward);
  CallForm form;
  form.purpose = backward ? Purpose::Backward : Purpose::Forward;
  if (!cpu) form.backward = own.hasTwoPassBackward(true) ? BackwardForm::TwoPass : BackwardForm::FusedQueries;
  form.seedGiven = own.hasDropout();
  form.wideSums = cpu;
  call->own = std::make_unique<Call>(planCall(own, request.type, request.schedule, form), request, place);
  const CallPlan &plan = call->own->plan;
  for (size_t at = 0; at < plan.dimsGiven(); ++at) call->dims.push_back(plan.dims[at].name);
  call->plan = print(plan);
  return call.release();
}

int runCall(const weft_call *call, const int64_t *dims, void *const *data, const int64_t *const *strides, void *stream,
            int threads) {
  const CallPlan &plan = planOf(call);
  given(data, "the addresses of the buffers");
  const std::vector<int64_t> all = allDims(call, dims);
  const bool host = call->own->device.kind != Device::Kind::Cuda;
  std::vector<Memory> memory(plan.buffers.size());
  std::vector<std::unique_ptr<char[]>> made;
  int32_t status = 0;
  for (size_t at = 0; at < plan.buffers.size(); ++at) {
    const CallPlan::Buffer &buffer = plan.buffers[at];
    memory[at] = {data[at], strides ? strides[at] : nullptr};
    if (memory[at].data || !call->own->uses(static_cast<int>(at))) continue;
    if (static_cast<int>(at) == plan.status && host) {
      memory[at].data = &status;
      continue;
    }
    const weft_role role = roleOf(buffer.owner);
    if (!host || role != WEFT_SCRATCH)
      throw std::invalid_argument("expected memory of buffer '" + buffer.name + "', got NULL");
    const auto bytes = static_cast<size_t>(roomOf(buffer, all.data()));
    made.emplace_back(new char[bytes + 64]);
    void *place = made.back().get();
    size_t room = bytes + 64;
    memory[at].data = std::align(64, bytes, place, room);
    if (startsAsZeros(buffer)) std::memset(memory[at].data, 0, bytes);
  }
  EmulatorReport report;
  LaunchContext context;
  context.threads = threads > 0 ? threads : static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  context.stream = stream;
  if (call->own->device.kind == Device::Kind::PtxEmulator) context.report = &report;
  call->own->run(all.data(), memory.data(), context);
  if (status) throw std::runtime_error("variant '" + call->variant->name() + "': an index of a kept pair left its dim");
  return 0;
}

}  // namespace
}  // namespace weft

using weft::guarded;

extern "C" {

int weft_api_version(void) { return WEFT_API_VERSION; }
const char *weft_error(void) { return weft::lastError.c_str(); }

weft_variant *weft_parse(const char *text) {
  return guarded(static_cast<weft_variant *>(nullptr),
                 [&] { return new weft_variant{weft::parsed(&weft::given(text, "a text"))}; });
}
void weft_variant_free(weft_variant *variant) { delete variant; }
const char *weft_variant_name(const weft_variant *variant) { return variant ? variant->own->name().c_str() : ""; }

weft_call *weft_compile(const weft_variant *variant, weft_purpose purpose, weft_type type, const char *device,
                        int count, const char *const *row_dims, const int64_t *row_sizes) {
  return guarded(static_cast<weft_call *>(nullptr),
                 [&] { return weft::compileCall(variant, purpose, type, device, count, row_dims, row_sizes); });
}
void weft_call_free(weft_call *call) { delete call; }

int weft_call_dims(const weft_call *call) {
  return guarded(-1, [&] { return static_cast<int>(weft::given(call, "a call").dims.size()); });
}
const char *weft_call_dim(const weft_call *call, int dim) {
  return guarded(static_cast<const char *>(nullptr),
                 [&] { return weft::given(call, "a call").dims.at(static_cast<size_t>(dim)).c_str(); });
}
int weft_call_buffers(const weft_call *call) {
  return guarded(-1, [&] { return static_cast<int>(weft::planOf(call).buffers.size()); });
}
int weft_call_buffer(const weft_call *call, int buffer, weft_buffer *out) {
  return guarded(1, [&] {
    const weft::CallPlan::Buffer &own = weft::bufferOf(call, buffer);
    weft::given(out, "a place for the buffer");
    const bool rows = own.shape.size() == 4 &&
                      (own.owner == weft::CallPlan::Owner::Input || own.owner == weft::CallPlan::Owner::Output);
    *out = {own.name.c_str(),
            weft::typeOf(own.type),
            weft::roleOf(own.owner),
            static_cast<int>(own.shape.size()),
            call->own->uses(buffer),
            weft::startsAsZeros(own),
            rows};
    return 0;
  });
}
int64_t weft_call_shape(const weft_call *call, int buffer, const int64_t *dims, int64_t *shape) {
  return guarded(int64_t{-1}, [&] {
    const weft::CallPlan::Buffer &own = weft::bufferOf(call, buffer);
    const std::vector<int64_t> all = weft::allDims(call, dims);
    const std::vector<int64_t> sizes = weft::shapeOf(own, all.data());
    if (shape) std::copy(sizes.begin(), sizes.end(), shape);
    return weft::roomOf(own, all.data());
  });
}
int weft_call_gradients(const weft_call *call) {
  return guarded(-1, [&] { return static_cast<int>(weft::planOf(call).gradients.size()); });
}
int weft_call_gradient(const weft_call *call, int gradient, weft_gradient *out) {
  return guarded(1, [&] {
    const weft::CallPlan::Gradient &own = weft::planOf(call).gradients.at(static_cast<size_t>(gradient));
    weft::given(out, "a place for the gradient");
    *out = {own.input, own.buffer, static_cast<int>(own.axes.size()), {}};
    for (size_t at = 0; at < own.axes.size() && at < WEFT_MOST_DIMS; ++at)
      out->axes[at] = static_cast<weft_axis>(static_cast<int>(own.axes[at]));
    return 0;
  });
}
const char *weft_call_plan(const weft_call *call) { return call ? call->plan.c_str() : ""; }

int weft_run(const weft_call *call, const int64_t *dims, void *const *data, const int64_t *const *strides, void *stream,
             int threads) {
  return guarded(1, [&] { return weft::runCall(call, dims, data, strides, stream, threads); });
}

}  // extern "C"
