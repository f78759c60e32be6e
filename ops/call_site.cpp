#include "ops/call_site.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <map>
#include <mutex>

#include "ops/devices.h"
#include "ops/inner_calls.h"
#include "ops/schedules.h"
#include "ops/variant_library.h"
#include "runtime/environment.h"

namespace weft::ops {
namespace {

std::atomic<Tuner> tuner{nullptr};

bool same(const std::vector<std::string> &own, const c10::List<std::string> &names) {
  if (own.size() != names.size()) return false;
  for (size_t at = 0; at < own.size(); ++at)
    if (own[at] != names.get(at)) return false;
  return true;
}

/// The sites that this thread has called from last.
struct Recent {
  std::array<std::shared_ptr<CallSite>, 16> sites;
  size_t next = 0;
};

constexpr size_t generation = 0;  ///< its place among the numbers

/// All that chooses a set of kernels, beside the variant. Schedules are tuned for sizes up to powers of two.
CallNumbers numbersOf(const Arguments &arguments, const Device &device, bool backward) {
  auto size = [&](int dim) { return arguments.sizes[dim].guard_int(__FILE__, __LINE__); };
  CallNumbers numbers{scheduleGeneration(),
                      static_cast<int64_t>(arguments.type),
                      static_cast<int64_t>(device.kind),
                      device.index,
                      bucketOf(size(0) * size(1)),
                      bucketOf(size(3)),
                      bucketOf(size(4)),
                      threadCount(),
                      backward};
  for (const int dim : arguments.signature->headDims) numbers.push_back(size(dim));
  return numbers;
}

/// Of all threads; sets are never destroyed.
KernelSet &sharedSet(const CallSite &site, const Arguments &arguments, CallNumbers numbers, at::TensorList tensors,
                     const Device &device, bool backward) {
  using Key = std::pair<const Variant *, std::vector<int64_t>>;
  static std::mutex mutex;
  static std::map<Key, std::unique_ptr<KernelSet>> sets;
  auto key = [&] { return Key{&site.variant(), {numbers.begin(), numbers.end()}}; };
  {
    std::lock_guard lock(mutex);
    if (auto found = sets.find(key()); found != sets.end()) return *found->second;
  }
  if (Tuner own = tuner; own && environment::tune() && device.kind != Device::Kind::PtxEmulator) {
    // Its own calls come with schedules of their own, not through here.
    own(site.text, site.signature.names, tensors, backward);
    numbers[generation] = scheduleGeneration();
  }
  const CallShape shape = shapeOf(arguments);
  auto made = std::make_unique<KernelSet>(site.signature.variant, elementType(shape.type), shape.headDims, device,
                                          chosenSchedule(site.variant(), shape, device, backward));
  std::lock_guard lock(mutex);
  return *sets.try_emplace(key(), std::move(made)).first->second;
}

}  // namespace

void setTuner(Tuner own) { tuner = own; }

static std::shared_ptr<CallSite> siteOf(std::string_view text, const c10::List<std::string> &names, size_t tensors) {
  static thread_local Recent recent;
  const auto found = std::find_if(recent.sites.begin(), recent.sites.end(), [&](const auto &site) {
    return site && site->text == text && same(site->signature.names, names);
  });
  const bool known = found != recent.sites.end();
  if (known && ((*found)->lasting || variantOrThrow(text) == (*found)->signature.variant)) return *found;
  const std::string own(text);
  auto made = std::make_shared<CallSite>(
      CallSite{own, isLasting(own), Signature(variantOrThrow(text), {names.begin(), names.end()}, tensors), {}, {}});
  return (known ? *found : recent.sites[recent.next++ % recent.sites.size()]) = std::move(made);
}

std::shared_ptr<CallSite> callSite(c10::string_view variant, const c10::List<std::string> &names,
                                   at::TensorList tensors) {
  auto site = siteOf({variant.data(), variant.size()}, names, tensors.size());
  if (!site->signature.isOpen()) return site;
  if (!site->signature.termDims.empty()) return siteOf(sourceOfCall(site->signature, tensors), names, tensors.size());
  // The same of all calls.
  if (!site->placed) site->placed = siteOf(sourceOfCall(site->signature, tensors), names, tensors.size());
  return site->placed;
}

static KernelSet &setFor(CallSite &site, const Arguments &arguments, at::TensorList tensors, bool backward) {
  const Device device = deviceOf(tensors);
  const CallNumbers numbers = numbersOf(arguments, device, backward);
  for (const auto &[own, set] : site.sets)
    if (own == numbers) return *set;
  KernelSet &set = sharedSet(site, arguments, numbers, tensors, device, backward);
  if (site.sets.size() == 32) site.sets.clear();
  site.sets.emplace_back(numbers, &set);
  return set;
}

Binding bindCall(CallSite &site, at::TensorList tensors, bool backward) {
  const Arguments arguments = checkArguments(site.signature, tensors);
  return Binding(setFor(site, arguments, tensors, backward), arguments, tensors);
}

Binding bindCall(const std::string &variant, const std::vector<std::string> &names, at::TensorList tensors,
                 bool backward) {
  return bindCall(*callSite(variant, toList(names), tensors), tensors, backward);
}

}  // namespace weft::ops
