#include "runtime/cuda/backend.h"

#include <stdexcept>

#include "runtime/cuda/data_sheet.h"
#include "runtime/cuda/driver.h"
#include "runtime/ptxas.h"

namespace weft::cuda {
namespace {

class CudaKernel final : public LoadedKernel {
 public:
  CudaKernel(KernelImage own, int device, const std::string &ptx)
      : LoadedKernel(std::move(own)),
        function(device, deviceCode(ptx, architectureOf({Device::Kind::Cuda, device})), ptx, image().entry,
                 image().sharedBytes),
        units(cuda::units(device)) {}

  void run(const int64_t *arguments, int64_t programs, const LaunchContext &context) const override {
    function.launch(blocksOf(image(), programs, units), image().threads, context.stream, arguments);
  }

 private:
  Function function;
  const int units;
};

/// f32 on a GPU is three products of tf32, or arithmetic without tensor cores: whatever is faster.
Roof ofSheet(const DataSheet &sheet, ElementType type) {
  const std::string from = std::string("data sheet of ") + sheet.product + ", dense ";
  if (type == ElementType::BF16) return {1e12 * sheet.bf16, from + "bf16"};
  if (type == ElementType::F16) return {1e12 * sheet.f16, from + "f16"};
  if (sheet.tf32 / 3 > sheet.f32) return {1e12 * sheet.tf32 / 3, from + "tf32, three products each"};
  return {1e12 * sheet.f32, from + "f32"};
}

const DataSheet *sheetOf(int device) {
  const std::string own = identity(device);
  return dataSheet(own.substr(0, own.find(',')));
}

class Backend final : public DeviceBackend {
 public:
  std::vector<std::string> forms() const override { return {"cuda", "cuda:N"}; }
  std::optional<int> parse(const std::string &name) const override {
    if (name == "cuda") return 0;
    if (name.rfind("cuda:", 0) == 0 && name.size() > 5 && name.size() < 8 &&
        name.find_first_not_of("0123456789", 5) == std::string::npos)
      return std::stoi(name.substr(5));
    return std::nullopt;
  }
  std::string name(int device) const override { return "cuda:" + std::to_string(device); }

  int capability(int device) const override { return cuda::capability(device); }
  std::string identity(int device) const override { return cuda::identity(device); }
  std::string refusal(const std::string &) const override { return ""; }
  std::shared_ptr<const LoadedKernel> load(KernelImage image, const std::string &code, int device) const override {
    return std::make_shared<CudaKernel>(std::move(image), device, code);
  }

  EncodedTensorMap encode(const TensorMap &map, int device) const override {
    if (cuda::capability(device) < 90)
      throw std::runtime_error("tensor map: " + name(device) + " has no bulk tensor copies");
    EncodedTensorMap own;
    encodeTensorMap(map, own.bytes.data());
    return own;
  }

  std::optional<Roof> arithmeticRoof(int device, ElementType type, int, bool) const override {
    const DataSheet *sheet = sheetOf(device);
    return sheet ? std::optional(ofSheet(*sheet, type)) : std::nullopt;
  }
  std::optional<Roof> memoryRoof(int device, int) const override {
    const DataSheet *sheet = sheetOf(device);
    if (!sheet) return std::nullopt;
    return Roof{1e9 * sheet->gigabytes, std::string("data sheet of ") + sheet->product};
  }
};

}  // namespace

const DeviceBackend &backend() {
  static const Backend own;
  return own;
}

}  // namespace weft::cuda
