// The instructions of a kernel, as a disassembler or the PTX has them: what a schedule needs to know of each.
#pragma once

#include <string>
#include <vector>

namespace weft::timeline {

struct Instruction {
  std::string opcode;              ///< "HMMA.16816.F32.BF16"; PTX is given the names of SASS
  std::vector<int> reads, writes;  ///< registers, predicates among them, by number; each of a vector's
  int target = -1;                 ///< of a branch: the instruction it leads to; below 0: none, or not known
  int number = 0;                  ///< of a wait: groups of copies, or of products, that may be outstanding
  bool guarded = false;            ///< under a predicate
  bool shared = false;             ///< a copy's destination is shared memory
  bool commits = false;            ///< asynchronous products: the last of a group
  bool partly = false;             ///< a barrier that not all warps of the block meet at
  bool ofTurns = false;            ///< a barrier whose number is computed: of a warpgroup's turn (cta.take_turn)

  bool is(const char *prefix) const { return opcode.rfind(prefix, 0) == 0; }
};

struct Code {
  std::vector<Instruction> instructions;
  int registers = 0;  ///< how many numbers Instruction::reads and writes use
  bool sass = true;   ///< false: read from PTX, whose instructions are guesses at the machine's
};

/// Reads what nvdisasm or `cuobjdump -sass` prints: the first kernel of the text. Lines that are not understood are
/// passed over; a text without instructions gives none.
Code readSass(const std::string &text);
/// Reads PTX, the first entry of the text: virtual registers, and of each instruction the machine's that it mostly
/// becomes.
Code readPtx(const std::string &text);

}  // namespace weft::timeline
