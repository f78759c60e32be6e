#include "runtime/ptx_emulator/backend.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "runtime/environment.h"
#include "runtime/ptx_emulator/emulator.h"
#include "runtime/ptx_emulator/tensor_maps.h"

namespace weft::ptx {
namespace {

constexpr int standard = 80;  ///< the capability of index 0
constexpr int units = 2;      ///< multiprocessors: few, so that blocks of small calls take several programs, too

int capabilityOf(int index) { return index ? index : standard; }

class EmulatedKernel final : public LoadedKernel {
 public:
  EmulatedKernel(KernelImage own, int capability, const std::string &ptx)
      : LoadedKernel(std::move(own)), module(ptx), capability(capability) {}

  void run(const int64_t *arguments, int64_t programs, const LaunchContext &context) const override {
    Launch launch{
        blocksOf(image(), programs, units), image().threads, image().sharedBytes, {}, context.memory, capability,
        environment::emulatorSeed()};
    if (const int64_t steps = environment::emulatorSteps()) launch.steps = steps;
    const size_t bytes = wordsOf(image()) * sizeof(int64_t);
    launch.parameters.resize(std::max(bytes, sizeof(int64_t)));
    std::memcpy(launch.parameters.data(), arguments, bytes);
    const EmulatorReport report = module.run(image().entry, launch, context.threads);
    if (context.report) *context.report += report;
  }

 private:
  Module module;
  int capability;
};

/// Index 0 is the least architecture there is, others are compute capabilities.
class Backend final : public DeviceBackend {
 public:
  std::vector<std::string> forms() const override { return {"ptx-emulator", "ptx-emulator:sm_80"}; }
  std::optional<int> parse(const std::string &name) const override {
    if (name == "ptx-emulator") return 0;
    const std::string prefix = "ptx-emulator:";
    if (name.rfind(prefix, 0) != 0) return std::nullopt;
    std::string all;
    for (const int known : knownCapabilities()) {
      const std::string own = "sm_" + std::to_string(known);
      if (name == prefix + own) return known == standard ? 0 : known;
      all += (all.empty() ? "" : ", ") + own;
    }
    throw std::runtime_error("expected ptx-emulator:A with A one of " + all + ", got '" + name + "'");
  }
  std::string name(int index) const override {
    return index ? "ptx-emulator:sm_" + std::to_string(index) : "ptx-emulator";
  }

  int capability(int index) const override { return capabilityOf(index); }
  std::string identity(int index) const override { return name(index); }
  std::string refusal(const std::string &) const override { return ""; }
  std::shared_ptr<const LoadedKernel> load(KernelImage image, const std::string &code, int index) const override {
    return std::make_shared<EmulatedKernel>(std::move(image), capabilityOf(index), code);
  }

  EncodedTensorMap encode(const TensorMap &map, int index) const override {
    if (capabilityOf(index) < 90) throw std::runtime_error("tensor map: " + name(index) + " has no bulk tensor copies");
    return encodeTensorMap(map);
  }

  std::optional<Roof> arithmeticRoof(int, ElementType, int, bool) const override { return std::nullopt; }
  std::optional<Roof> memoryRoof(int, int) const override { return std::nullopt; }
};

}  // namespace

const DeviceBackend &backend() {
  static const Backend own;
  return own;
}

}  // namespace weft::ptx
