// What the four warps of a warpgroup do together: wgmma, and the registers that they hand to one another. Semantics:
// PTX ISA manual, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate" and "setmaxnreg".
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <vector>

#include "runtime/ptx_emulator/clocks.h"
#include "runtime/ptx_emulator/program.h"

namespace weft::ptx {

class Warp;
class Block;

/// A wgmma.mma_async that all four warps have come to.
struct Product {
  const Instruction *instruction = nullptr;
  bool accumulates = false;
  std::vector<uint32_t> left, right;  ///< shared addresses of 16 bytes each; left is empty where A is in registers
};

/// What wgmma does to the registers of one warp.
struct RegistersInFlight {
  uint32_t fences = 0;
  /// By register: fences + 1 when it was last written; the product that uses it, and whether as accumulator.
  std::vector<uint32_t> written, product;
  std::vector<bool> accumulates;
  std::vector<int> all;            ///< registers in flight
  std::deque<uint32_t> committed;  ///< the last product of each group not waited for
};

class Warpgroup {
 public:
  Warpgroup(Block &block, int number) : block(block), number(number) {}

  /// A warp comes to wgmma.mma_async with these values; with the fourth it begins.
  void multiply(Warp &warp, const Instruction &in, uint64_t left, uint64_t right, bool accumulates);
  void commit(Warp &warp);
  void wait(Warp &warp, uint64_t most);

  /// setmaxnreg; false: there are too few yet, and the warp waits.
  bool setRegisters(Warp &warp, bool more, int count);
  void checkEnd() const;

 private:
  Block &block;
  const int number;

  struct {
    const Instruction *instruction = nullptr;
    uint32_t warps = 0;  ///< a bit each
    uint64_t left = 0, right = 0;
    bool accumulates = false;
  } coming;
  Agent agent = 0;      ///< of its products' reads; 0: none yet
  uint32_t issued = 0;  ///< products so far
  uint32_t executed = 0;
  std::deque<Product> queue;  ///< issued, not executed

  struct Change {
    bool more;
    int count;
  };
  std::vector<Change> changes;      ///< by setmaxnreg
  std::array<size_t, 4> changed{};  ///< how many of them each warp has made

  Warp &warpOf(int index) const;
  void checkRegisters(Warp &warp, const Instruction &in) const;
  void begin(Warp &warp);
  void executeUntil(uint32_t last);
};

/// wgmma.cpp: the shared addresses that a matrix descriptor names, each 16 bytes, in the order that execute() wants;
/// fails where it says what the emulator does not know.
std::vector<uint32_t> addressesOf(const Warp &warp, uint64_t descriptor, int rows, bool transposed);
void execute(const Product &product, const std::array<Warp *, 4> &warps);
/// Of a wgmma.mma_async: whether B, and A where it is in shared memory, lie along their rows.
bool transposes(const Instruction &in, bool right);
int columnsOf(const Instruction &in);

}  // namespace weft::ptx
