// What the opcode table is put together from: each file of instructions decodes its own.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime/ptx_emulator/machine.h"
#include "runtime/ptx_emulator/numbers.h"
#include "runtime/ptx_emulator/program.h"

namespace weft::ptx {

/// An opcode, split at its dots.
struct Opcode {
  std::string text;
  std::vector<std::string> words;

  size_t size() const { return words.size(); }
  const std::string &operator[](size_t at) const { return words[at]; }
};

/// Type::None where the word is no type.
Type typeOf(const std::string &word);

// Each fills in the instruction and gives its signature, or nothing where the opcode is none of its own.
std::optional<Signature> decodeAddressSpaces(const Opcode &opcode, Instruction &in);     ///< address_spaces.cpp
std::optional<Signature> decodeArithmetic(const Opcode &opcode, Instruction &in);        ///< arithmetic.cpp
std::optional<Signature> decodeApproximation(const Opcode &opcode, Instruction &in);     ///< approximations.cpp
std::optional<Signature> decodeBulkCopies(const Opcode &opcode, Instruction &in);        ///< bulk_instructions.cpp
std::optional<Signature> decodeConversion(const Opcode &opcode, Instruction &in);        ///< conversions.cpp
std::optional<Signature> decodeFlow(const Opcode &opcode, Instruction &in);              ///< flow.cpp
std::optional<Signature> decodeMbarrier(const Opcode &opcode, Instruction &in);          ///< mbarrier_instructions.cpp
std::optional<Signature> decodeMemory(const Opcode &opcode, Instruction &in);            ///< memory.cpp
std::optional<Signature> decodeNarrowConversion(const Opcode &opcode, Instruction &in);  ///< narrow_conversions.cpp
std::optional<Signature> decodeTensorCores(const Opcode &opcode, Instruction &in);       ///< tensor_cores.cpp

std::optional<Signature> decodeWarpgroup(const Opcode &opcode, Instruction &in);  ///< wgmma.cpp

/// Why an instruction that none of them knows is not executed; empty where that is not known either.
std::string reasonOf(const Opcode &opcode);  ///< unsupported.cpp

inline OperandRule to(int bits, int parts = 1) { return {OperandRule::Kind::To, bits, parts, parts}; }
inline OperandRule from(int bits, int parts = 1) { return {OperandRule::Kind::From, bits, parts, parts}; }
inline OperandRule number(int bits = 32) { return {OperandRule::Kind::Number, bits}; }
inline OperandRule address(int bits) { return {OperandRule::Kind::Address, bits}; }

inline uint64_t truncated(uint64_t value, int bits) { return bits >= 64 ? value : value & ((uint64_t{1} << bits) - 1); }
inline uint64_t truncated(uint64_t value, Type type) { return truncated(value, bitsOf(type)); }
inline int64_t extended(uint64_t value, Type type) {
  const int unused = 64 - bitsOf(type);
  return static_cast<int64_t>(value << unused) >> unused;
}

inline float floatOf(uint64_t bits, Type type) {
  return type == Type::F16 ? fromF16(bits) : type == Type::BF16 ? fromBf16(bits) : asFloat(bits);
}

/// body(lane) for each lane.
template <class Body>
void each(uint32_t lanes, Body body) {
  if (lanes == 0xFFFFFFFFu) {
    for (int lane = 0; lane < 32; ++lane) body(lane);
  } else {
    for (; lanes; lanes &= lanes - 1) body(__builtin_ctz(lanes));
  }
}

/// Addresses of all lanes.
inline Lanes addresses(Warp &warp, const Operand &operand, uint32_t lanes) {
  Lanes all;
  if (operand.index < 0) {
    all.fill(operand.value);
  } else {
    const Lanes &base = warp.read({Operand::Kind::Register, Operand::Of::Number, operand.index, 0}, lanes);
    for (int lane = 0; lane < 32; ++lane) all[lane] = base[lane] + operand.value;
  }
  return all;
}

/// Where generic addresses of shared memory and of parameters begin; those of global memory are as they are.
constexpr uint64_t sharedWindow = uint64_t{1} << 60, parameterWindow = uint64_t{1} << 61;
inline uint64_t sharedOfGeneric(const Warp &warp, int lane, uint64_t address) {
  if (address - sharedWindow >= uint64_t{1} << 32)
    warp.fail("generic address " + hex(address) + " is not one of shared memory", lane);
  return address - sharedWindow;
}

/// The cp.async of a lane that nothing has waited for: from now on the caller's.
std::vector<Warp::Copy> takeCopies(Warp &warp, int lane);           ///< memory.cpp
void deliverCopy(const Warp &warp, Warp::Copy &copy, Stamp stamp);  ///< for all who know the stamp

/// f(lane) for each lane, to the first operand.
template <class F>
void assign(Warp &warp, const Instruction &in, uint32_t lanes, F f) {
  Lanes &to = warp.write(in.operands[0][0], lanes);
  each(lanes, [&](int lane) { to[lane] = f(lane); });
}

}  // namespace weft::ptx
