// What one GPU can do in a cycle and in a second: a row of figures a chip, each with where it is from.
#pragma once

#include <cstdint>
#include <string>

namespace weft::timeline {

/// Cycles from the issue of an instruction to that of one that needs its result.
struct Latencies {
  double arithmetic;  ///< of the FMA and ALU pipes
  double tensor;      ///< of an mma with 16-bit operands, depth 16; tf32 with depth 8 takes as long
  double special;     ///< MUFU, conversions between integer and float
  double shared;      ///< loads from shared memory, ldmatrix, shuffles
  double l2, memory;  ///< loads that hit the L2 cache, that come from memory
  double barrier;     ///< from the last warp's arrival to the first one's departure
};

struct Chip {
  const char *name;  ///< as --device-model takes it
  const char *product;
  const char *driver;             ///< as the driver names it, after "NVIDIA "
  int capability;                 ///< 90: assembled for sm_90
  int units;                      ///< SMs
  double clock;                   ///< GHz, the boost clock that the data sheet's tensor figures are at
  double bf16, tf32;              ///< dense flop a cycle and SM, sums in f32; f16 as bf16
  double syncShare;               ///< how much of these mma.sync reaches; wgmma reaches all
  double sustained;               ///< how much of bf16 products alone reach for long, at the power there is
  int fma, imad, alu, special;    ///< lanes a cycle and SM: f32 arithmetic, integer products, integer and logic, MUFU
  double l2Gigabytes, gigabytes;  ///< GB/s from L2, from memory
  double l2Megabytes;             ///< its size
  int64_t sharedBytes;            ///< of an SM
  int warps, blocks;              ///< resident on an SM at most
  Latencies latencies;

  /// Shared memory: 32 banks of 4 bytes. L2: what an SM may have, its own 64 bytes or its share of all.
  double sharedBytesPerCycle() const { return 128; }
  double l2BytesPerCycle() const;
  /// GHz while the tensor cores do `busy` of what they could in a cycle: power follows their work and the cube of the
  /// clock (which voltage follows), and has the limit that `sustained` tells of.
  double clockUnder(double busy) const;
};

constexpr int schedulers = 4;            ///< of an SM, each with a quarter of its pipes
constexpr int registersPerUnit = 65536;  ///< of 32 bits
constexpr int mostRegisters = 255;       ///< of a thread

/// The chip of that name, or nullptr.
const Chip *findChip(const std::string &name);
/// "a100, h100, h200, l4, l40s, rtx4090".
std::string chipNames();

}  // namespace weft::timeline
