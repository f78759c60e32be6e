// Opcodes and what their operands must be.
#include <sstream>
#include <stdexcept>

#include "runtime/ptx_emulator/handlers.h"

namespace weft::ptx {

int bitsOf(Type type) {
  switch (type) {
    case Type::None: return 0;
    case Type::Pred: return 1;
    case Type::B8:
    case Type::U8:
    case Type::S8: return 8;
    case Type::B16:
    case Type::U16:
    case Type::S16:
    case Type::F16:
    case Type::BF16: return 16;
    case Type::B64:
    case Type::U64:
    case Type::S64:
    case Type::F64: return 64;
    default: return 32;
  }
}

bool isSigned(Type type) { return type == Type::S8 || type == Type::S16 || type == Type::S32 || type == Type::S64; }

Type typeOf(const std::string &word) {
  static const std::map<std::string, Type> types = {
      {"pred", Type::Pred},   {"b8", Type::B8},         {"u8", Type::U8},     {"s8", Type::S8},   {"b16", Type::B16},
      {"u16", Type::U16},     {"s16", Type::S16},       {"b32", Type::B32},   {"u32", Type::U32}, {"s32", Type::S32},
      {"b64", Type::B64},     {"u64", Type::U64},       {"s64", Type::S64},   {"f16", Type::F16}, {"bf16", Type::BF16},
      {"f16x2", Type::F16x2}, {"bf16x2", Type::BF16x2}, {"tf32", Type::TF32}, {"f32", Type::F32}};
  auto found = types.find(word);
  return found == types.end() ? Type::None : found->second;
}

Signature decode(const std::string &text, Instruction &in) {
  Opcode opcode{text, {}};
  std::istringstream stream(text);
  for (std::string word; std::getline(stream, word, '.');) opcode.words.push_back(word);
  if (!opcode.words.empty())
    for (auto own :
         {decodeFlow, decodeMemory, decodeMbarrier, decodeTensorCores, decodeConversion, decodeNarrowConversion,
          decodeApproximation, decodeAddressSpaces, decodeWarpgroup, decodeBulkCopies, decodeArithmetic}) {
      // Nothing of what another one has taken it for.
      in = {};
      if (std::optional<Signature> signature = own(opcode, in)) return *signature;
    }
  const std::string reason = opcode.words.empty() ? "" : reasonOf(opcode);
  throw std::runtime_error(reason.empty() ? "unknown instruction " + text : "unsupported " + text + ": " + reason);
}

namespace {

std::string inWords(const OperandRule &rule) {
  const std::string bits = " of " + std::to_string(rule.bits) + " bits";
  switch (rule.kind) {
    case OperandRule::Kind::To: return "a register" + bits;
    case OperandRule::Kind::From: return "a register or number" + bits;
    case OperandRule::Kind::Address: return "an address";
    case OperandRule::Kind::Label: return "a label";
    default: return "a number" + bits;
  }
}

/// As signed or as unsigned.
bool fits(uint64_t value, int bits) {
  const auto own = static_cast<int64_t>(value);
  return bits >= 64 || value >> bits == 0 || (own < 0 && own >= -(int64_t{1} << (bits - 1)));
}

class Check {
 public:
  Check(Instruction &in, Kernel &kernel) : in(in), kernel(kernel) {}

  void operand(size_t place, const OperandRule &rule) {
    auto &parts = in.operands[place];
    auto fail = [&](const std::string &got) {
      throw std::runtime_error("operand " + std::to_string(place + 1) + ": expected " + inWords(rule) + ", got " + got);
    };
    const int count = static_cast<int>(parts.size());
    if (count < rule.least || count > rule.most)
      throw std::runtime_error("operand " + std::to_string(place + 1) + ": expected " + std::to_string(rule.least) +
                               " parts, got " + std::to_string(count));
    if (rule.partBits && count != 1 && count != rule.most)
      throw std::runtime_error("operand " + std::to_string(place + 1) + ": expected 1 or " + std::to_string(rule.most) +
                               " parts, got " + std::to_string(count));
    const int whole = rule.split ? rule.bits / count : rule.partBits && count > 1 ? rule.partBits : rule.bits;
    if (parts[0].joined != rule.joined) fail(rule.joined ? "one by itself" : "one joined to another");
    for (Operand &part : parts) {
      switch (part.kind) {
        case Operand::Kind::Register: {
          const int bits = kernel.registerBits[part.index];
          const std::string own = kernel.registerNames[part.index] + " of " + std::to_string(bits) + " bits";
          if (rule.kind != OperandRule::Kind::To && rule.kind != OperandRule::Kind::From) fail(own);
          if (rule.wider ? bits < whole || bits == 1 : bits != whole) fail(own);
          break;
        }
        case Operand::Kind::Immediate:
          if (rule.kind != OperandRule::Kind::From && rule.kind != OperandRule::Kind::Number) fail("a number");
          if ((part.of == Operand::Of::Parameter && whole < 32) || (part.of == Operand::Of::Shared && whole < 32))
            fail("a variable");
          if (!fits(part.value, whole)) fail("a number of more");
          part.value = truncated(part.value, whole);
          part.index = constant(part.value);
          break;
        case Operand::Kind::Special:
          if (!rule.special || rule.bits != 32 || count != 1) fail("a special register");
          break;
        case Operand::Kind::Address: {
          if (rule.kind != OperandRule::Kind::Address) fail("an address");
          const int bits = part.index < 0 ? 64 : kernel.registerBits[part.index];
          if (bits < (rule.bits ? rule.bits : 64) || (bits != 32 && bits != 64))
            fail("one of " + std::to_string(bits) + " bits");
          if (part.index < 0 && (part.of == Operand::Of::Parameter) != (rule.bits == 0)) fail("one in another space");
          if (part.of == Operand::Of::Shared && rule.bits != 32) fail("one in another space");
          break;
        }
        case Operand::Kind::Sink:
          if (!rule.sink || (rule.split && count == 1)) fail("_");
          break;
        case Operand::Kind::Label:
          if (rule.kind != OperandRule::Kind::Label) fail("a label");
          break;
      }
    }
  }

 private:
  Instruction &in;
  Kernel &kernel;

  int constant(uint64_t value) {
    for (size_t at = kernel.constants.size(); at-- > 0 && at + 64 > kernel.constants.size();)
      if (kernel.constants[at][0] == value) return static_cast<int>(at);
    kernel.constants.emplace_back().fill(value);
    return static_cast<int>(kernel.constants.size()) - 1;
  }
};

}  // namespace

void checkOperands(Instruction &in, const Signature &signature, Kernel &kernel) {
  const size_t most = signature.operands.size(), least = most - signature.optional;
  if (in.operands.size() < least || in.operands.size() > most)
    throw std::runtime_error("expected " + std::to_string(least) + " operands, got " +
                             std::to_string(in.operands.size()));
  Check check(in, kernel);
  for (size_t place = 0; place < in.operands.size(); ++place) check.operand(place, signature.operands[place]);
}

}  // namespace weft::ptx
