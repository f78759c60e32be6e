// PTX text, parsed: kernels of decoded instructions.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace weft::ptx {

enum class Type : uint8_t { None, Pred, B8, U8, S8, B16, U16, S16, B32, U32, S32, B64, U64, S64, F16, BF16, F16x2, BF16x2, TF32, F32, F64 };
int bitsOf(Type type);

struct Operand {
  enum class Kind : uint8_t { Register, Immediate, Label, Address } kind = Kind::Immediate;
  int index = -1;        ///< Register, or the base of an Address (-1: none); Label: instruction
  uint64_t value = 0;    ///< Immediate, or the offset of an Address
};

struct Instruction;
class Warp;
using Handler = void (*)(Warp &, const Instruction &, uint32_t lanes);

struct Instruction {
  Handler execute = nullptr;
  int guard = -1;             ///< predicate register, -1: none
  bool guardNegated = false;
  bool converged = false;     ///< all lanes of the warp must be here: .aligned
  enum class Ends : uint8_t { No, Branch, Return } ends = Ends::No;   ///< of a basic block
  int join = -1;              ///< Branch: where both ways meet again
  Type type = Type::None, from = Type::None;
  int variant = 0;            ///< of the handler: comparison, rounding, vector width, address space
  std::vector<std::vector<Operand>> operands;   ///< one list an operand; {a, b} gives several
  std::string text;
  int line = 0;
};

struct Kernel {
  std::string name;
  std::vector<Instruction> code;
  int registers = 0;                        ///< of all kinds
  std::vector<std::string> registerNames;
  int64_t parameterBytes = 0;
  int64_t threads = 0;                      ///< .reqntid; 0: not said
  int64_t maxThreads = 0;                   ///< .maxntid
  int64_t maxRegisters = 0;                 ///< .maxnreg, of a thread
};

struct Program {
  std::string target;                       ///< "sm_80"
  std::map<std::string, Kernel> kernels;
};

/// Parses a PTX module as LLVM writes it. Throws std::runtime_error that names the line, and for an instruction
/// this emulator lacks, the instruction.
Program parse(const std::string &text);

struct Launch;
/// Throws std::runtime_error where the launch's device would refuse the target, the kernel or the launch.
void checkLaunch(const std::string &target, const Kernel &kernel, const Launch &launch);

/// Fills in Instruction::join.
void findJoins(Kernel &kernel);

/// Decodes opcode and operand types. Throws std::runtime_error("unknown instruction ...").
void decode(const std::string &opcode, Instruction &instruction);

}  // namespace weft::ptx
