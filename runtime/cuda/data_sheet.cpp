#include "runtime/cuda/data_sheet.h"

namespace weft::cuda {

// "RTX 4090 Laptop GPU" and the like are other chips: names are compared whole.
static constexpr DataSheet sheets[] = {
    {"B200", "B200", 2250, 2250, 1125, 75, 8000},
    {"GH200 480GB", "GH200 (96 GB)", 989.4, 989.4, 494.7, 66.9, 4000},
    {"H200 NVL", "H200 NVL", 835.5, 835.5, 417.5, 60, 4800},
    {"H200", "H200 SXM", 989.4, 989.4, 494.7, 66.9, 4800},
    {"H100 PCIe", "H100 PCIe", 756, 756, 378, 51.2, 2039},
    {"H100 NVL", "H100 NVL", 835.5, 835.5, 417.5, 60, 3938},
    {"H100 80GB HBM3", "H100 SXM", 989.4, 989.4, 494.7, 66.9, 3352},
    {"A100-SXM4-80GB", "A100 SXM 80 GB", 312, 312, 156, 19.5, 2039},
    {"A100-SXM4-40GB", "A100 SXM 40 GB", 312, 312, 156, 19.5, 1555},
    {"A100 80GB PCIe", "A100 PCIe 80 GB", 312, 312, 156, 19.5, 1935},
    {"A100-PCIE-40GB", "A100 PCIe 40 GB", 312, 312, 156, 19.5, 1555},
    {"L40S", "L40S", 362, 362, 183, 91.6, 864},
    {"L40", "L40", 181, 181, 90.5, 90.5, 864},
    {"L4", "L4", 121, 121, 60, 30.3, 300},
    {"A10", "A10", 125, 125, 62.5, 31.2, 600},
    {"GeForce RTX 5090", "RTX 5090", 209.5, 209.5, 104.8, 104.8, 1792},
    {"GeForce RTX 4090", "RTX 4090", 165.2, 165.2, 82.6, 82.6, 1008},
    {"GeForce RTX 3090", "RTX 3090", 71, 71, 35.6, 35.6, 936},
};

const DataSheet *dataSheet(const std::string &name) {
  const std::string maker = "NVIDIA ";
  const std::string own = name.rfind(maker, 0) == 0 ? name.substr(maker.size()) : name;
  for (const DataSheet &sheet : sheets)
    if (own == sheet.name) return &sheet;
  return nullptr;
}

}  // namespace weft::cuda
