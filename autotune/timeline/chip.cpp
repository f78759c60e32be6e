#include "autotune/timeline/chip.h"

#include <algorithm>
#include <cmath>

#include "autotune/timeline.h"

namespace weft::timeline {

// SMs, clocks, sizes of L2, dense flop (a data sheet's figure over SMs and clock), GB/s of memory: NVIDIA's data sheets
// and the white papers "A100 Tensor Core GPU Architecture", "H100 Tensor Core GPU Architecture", "Ada GPU
// Architecture". The H200's chip is the H100's, with other memory.
// Lanes a cycle, shared memory, warps and blocks of an SM: CUDA C++ Programming Guide, "Throughput of Native Arithmetic
// Instructions" and "Technical Specifications per Compute Capability".
// Latencies, and the share of the tensor peak that mma.sync reaches: Luo et al. 2024, "Benchmarking and Dissecting the
// Nvidia Hopper GPU Architecture via Microbenchmarking" (arXiv 2402.13499); of arithmetic and special functions:
// Abdelkhalik et al. 2022, "Demystifying the Nvidia Ampere Architecture through Microbenchmarking" (arXiv 2208.11174).
// What products alone reach for long: S. Bekman, "Machine Learning Engineering Open Book", "Maximum Achievable Matmul
// FLOPS": 794.5 of 989 TFLOP/s on an H100 SXM, 267.9 of 312 on an A100 SXM. All of what is missing is taken for the
// clock's. 1: not known.
// GB/s of L2: H100, "Nvidia's H100: Funny L2, and Tons of Bandwidth" (chipsandcheese.com, 2023), 5.5 to 5.7 TB/s on 114
// SMs at 1.755 GHz: 28 bytes a cycle and SM, here of 132 SMs. A100, two thirds of the 5,120 bytes a cycle in its white
// paper: assumed. Ada, about 5 TB/s of an RTX 4090 ("Microbenchmarking Nvidia's RTX 4090", chipsandcheese.com, 2022),
// the others by SMs and clock. Of a barrier: assumed.
static constexpr Latencies ampere = {4, 25, 22, 29, 262, 466, 20}, ada = {4, 33, 22, 30, 273, 542, 20},
                           hopper = {4, 33, 22, 29, 263, 479, 20};

static constexpr Chip chips[] = {
    {"a100",
     "A100 SXM 80 GB",
     "A100-SXM4-80GB",
     80,
     108,
     1.41,
     2048,
     1024,
     1,
     0.859,
     64,
     64,
     64,
     16,
     4800,
     2039,
     40,
     164 << 10,
     64,
     32,
     ampere},
    {"h100", "H100 SXM", "H100 80GB HBM3", 90, 132, 1.83,  4096, 2048, 0.629, 0.803, 128, 64, 64, 16, 6760,
     3352,   50,         228 << 10,        64, 32,  hopper},
    {"h200", "H200 SXM", "H200", 90,   132,  1.83, 4096,      2048, 0.629, 0.803, 128,
     64,     64,         16,     6760, 4800, 50,   228 << 10, 64,   32,    hopper},
    {"l4", "L4", "L4", 89, 58, 2.04, 1024, 512, 1, 1, 128, 64, 64, 16, 1800, 300, 48, 100 << 10, 48, 24, ada},
    {"l40s", "L40S", "L40S", 89, 142, 2.52, 1024, 512, 1, 1, 128, 64, 64, 16, 5500, 864, 96, 100 << 10, 48, 24, ada},
    {"rtx4090", "RTX 4090", "GeForce RTX 4090", 89, 128, 2.52, 512, 256, 1, 1, 128, 64, 64, 16, 5000,
     1008,      72,         100 << 10,          48, 24,  ada},
};

double Chip::l2BytesPerCycle() const { return std::min(64.0, l2Gigabytes / (units * clock)); }

double Chip::clockUnder(double busy) const {
  return clock * std::min(1.0, sustained / std::cbrt(std::max(busy, 1e-9)));
}

const Chip *findChip(const std::string &name) {
  for (const Chip &chip : chips)
    if (name == chip.name) return &chip;
  return nullptr;
}

const Chip *chipOfDriver(const std::string &name) {
  const std::string maker = "NVIDIA ";
  const std::string own = name.starts_with(maker) ? name.substr(maker.size()) : name;
  for (const Chip &chip : chips)
    if (own == chip.driver) return &chip;
  return nullptr;
}

std::string chipNames() {
  std::string names;
  for (const Chip &chip : chips) names += (names.empty() ? "" : ", ") + std::string(chip.name);
  return names;
}

}  // namespace weft::timeline
