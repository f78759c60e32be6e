// PTX text, parsed: kernels of decoded instructions, whose operands are known to suit them.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace weft::ptx {

enum class Type : uint8_t {
  None,
  Pred,
  B8,
  U8,
  S8,
  B16,
  U16,
  S16,
  B32,
  U32,
  S32,
  B64,
  U64,
  S64,
  F16,
  BF16,
  F16x2,
  BF16x2,
  TF32,
  F32,
  F64
};
int bitsOf(Type type);
bool isSigned(Type type);
inline bool isFloat(Type type) { return type == Type::F32; }

/// A register of a warp. A register of fewer than 64 bits holds zeros above.
using Lanes = std::array<uint64_t, 32>;

struct Operand {
  enum class Kind : uint8_t { Register, Immediate, Label, Address, Special, Sink } kind = Kind::Immediate;
  enum class Of : uint8_t { Number, Parameter, Shared } of = Of::Number;  ///< Immediate and Address: a variable's name
  int index = -1;       ///< Register, or the base of an Address (-1: none); Label: instruction; Immediate: constant
  uint64_t value = 0;   ///< Immediate, the offset of an Address, or which Special
  bool joined = false;  ///< to the operand before: {b, c} of [a, {b, c}], b of a|b
};
enum Special : uint64_t { Thread, Threads, BlockIndex, BlockRow, Blocks, BlockRows, LaneIndex, WarpIndex, Zero, One };

/// What an instruction takes at one place.
struct OperandRule {
  enum class Kind : uint8_t { To, From, Address, Label, Number } kind;
  int bits = 0;             ///< of the register or number; Address: least of its register, 0: a parameter
  int least = 1, most = 1;  ///< parts in braces
  bool wider = false;       ///< the register may have more bits
  bool split = false;       ///< the parts share `bits`
  bool sink = false;        ///< _ may stand for the register, or for one of split parts
  bool joined = false;      ///< see Operand
  bool special = false;     ///< a special register may stand for it
  int partBits = 0;         ///< of each of the most parts; fewer must be one. 0: `bits`
};
struct Signature {
  std::vector<OperandRule> operands;
  size_t optional = 0;  ///< of the last ones
};

struct Instruction;
class Warp;
using Handler = void (*)(Warp &, const Instruction &, uint32_t lanes);

enum Space : int { Param, Global, Shared };

struct Instruction {
  Handler execute = nullptr;
  int guard = -1;  ///< predicate register, -1: none
  bool guardNegated = false;
  bool converged = false;                                            ///< all lanes of the warp must be here: .aligned
  bool warpgroup = false;                                            ///< wgmma.*
  bool flush = false;                                                ///< .ftz
  enum class Ends : uint8_t { No, Branch, Return } ends = Ends::No;  ///< of a basic block
  int join = -1;                                                     ///< Branch: where both ways meet again
  enum class Needs : uint8_t { Any, Sm89, Sm90, Sm90a } needs = Needs::Any;
  Type type = Type::None, from = Type::None;
  int variant = 0;                             ///< of the handler: comparison, rounding, address space
  std::vector<std::vector<Operand>> operands;  ///< one list an operand; {a, b} gives several
  std::string text;
  int line = 0;
};

struct Kernel {
  std::string name;
  std::vector<Instruction> code;
  std::vector<std::string> registerNames;  ///< of all kinds, as far as they are used
  std::vector<int> registerBits;           ///< predicates: 1
  std::vector<Lanes> constants;            ///< immediate operands
  int64_t parameterBytes = 0;
  int64_t sharedBytes = 0;                             ///< static; dynamic shared memory lies behind
  int64_t threads = 0;                                 ///< .reqntid; 0: not said
  Instruction::Needs needs = Instruction::Needs::Any;  ///< the most of its instructions
  bool multiplies = false;                             ///< has wgmma.*
  int64_t maxThreads = 0;                              ///< .maxntid
  int64_t maxRegisters = 0;                            ///< .maxnreg, of a thread
  int64_t minBlocks = 1;                               ///< .minnctapersm
};

struct Program {
  std::string target;  ///< "sm_80"
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

/// Fills in what the opcode says; gives what its operands must be. Throws std::runtime_error("unknown instruction
/// ..."), or "unsupported ..." with the reason.
Signature decode(const std::string &opcode, Instruction &instruction);

/// Throws std::runtime_error where operands are not what the signature says: their number, kinds and widths. Gives
/// immediates their constants.
void checkOperands(Instruction &instruction, const Signature &signature, Kernel &kernel);

}  // namespace weft::ptx
