#include <algorithm>
#include <cctype>
#include <charconv>
#include <map>
#include <string_view>

#include "autotune/timeline/code.h"

namespace weft::timeline {
namespace {

/// Numbers of registers: R, then uniform ones, predicates, uniform predicates.
constexpr int uniform = 256, predicate = 320, uniformPredicate = 328, last = 336;

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front()))) text.remove_prefix(1);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.remove_suffix(1);
  return text;
}

/// The register whose name begins `text`, and how long the name is; below 0: none, or one that always reads the same.
struct Name {
  int number = -1;
  size_t length = 0;
};
Name nameAt(std::string_view text) {
  size_t at = 0;
  const bool isUniform = text.starts_with("U");
  if (isUniform) ++at;
  if (at >= text.size() || (text[at] != 'R' && text[at] != 'P')) return {};
  const bool isPredicate = text[at++] == 'P';
  int number = 0;
  const auto [end, error] = std::from_chars(text.data() + at, text.data() + text.size(), number);
  if (error != std::errc()) return {};
  const int most = isPredicate ? 7 : isUniform ? 64 : 255;
  if (number < 0 || number >= most) return {};
  const int base = isPredicate ? (isUniform ? uniformPredicate : predicate) : isUniform ? uniform : 0;
  return {base + number, static_cast<size_t>(end - text.data())};
}

bool isRegister(std::string_view operand) {
  if (operand.starts_with("-") || operand.starts_with("|") || operand.starts_with("~")) return false;
  return nameAt(operand).number >= 0 || operand.starts_with("RZ") || operand.starts_with("URZ");
}
bool isPlainPredicate(std::string_view operand) {
  const Name name = nameAt(operand);
  return operand == "PT" || operand == "UPT" || (name.number >= predicate && name.length == operand.size());
}

/// Operands apart at commas outside of brackets.
std::vector<std::string_view> split(std::string_view text) {
  std::vector<std::string_view> parts;
  size_t begin = 0;
  int depth = 0;
  for (size_t at = 0; at <= text.size(); ++at) {
    if (at < text.size() && (text[at] == '[' || text[at] == '(')) ++depth;
    if (at < text.size() && (text[at] == ']' || text[at] == ')')) --depth;
    if (at == text.size() || (text[at] == ',' && depth <= 0)) {
      if (const std::string_view part = trimmed(text.substr(begin, at - begin)); !part.empty()) parts.push_back(part);
      begin = at + 1;
    }
  }
  return parts;
}

bool has(const std::string &opcode, const char *part) { return opcode.find(part) != std::string::npos; }

/// 32-bit registers of a memory instruction's data.
int widthOf(const Instruction &instruction) {
  if (instruction.is("LDSM")) return has(instruction.opcode, ".4") ? 4 : has(instruction.opcode, ".2") ? 2 : 1;
  return has(instruction.opcode, ".128") ? 4 : has(instruction.opcode, ".64") ? 2 : 1;
}

/// How many registers operand `at` of a tensor instruction has; 0 is the destination.
int tensorWidth(const Instruction &instruction, size_t at) {
  const std::string &opcode = instruction.opcode;
  const bool half = !has(opcode, ".F32") && instruction.is("HMMA");  // sums in f16
  if (at == 0 || at == 3) return half ? 2 : 4;
  const bool deep = has(opcode, "16816") || has(opcode, "16832") || has(opcode, "TF32");
  return at == 1 ? (deep ? 4 : 2) : at == 2 ? (deep ? 2 : 1) : 1;
}

void add(std::vector<int> &list, int number, int width) {
  const int end = number < uniform ? 255 : number < predicate ? predicate : last;
  for (int at = number; at < number + width && at < end; ++at) list.push_back(at);
}

/// Registers anywhere in an operand: "desc[UR6][R8.64+0x2]".
void readAll(std::string_view operand, int width, std::vector<int> &reads) {
  for (size_t at = 0; at < operand.size(); ++at) {
    if (at > 0 && (std::isalnum(static_cast<unsigned char>(operand[at - 1])) || operand[at - 1] == '_')) continue;
    const Name name = nameAt(operand.substr(at));
    if (name.number < 0) continue;
    const bool pair = operand.substr(at + name.length).starts_with(".64");
    add(reads, name.number, name.number >= predicate ? 1 : pair ? 2 : width);
    at += name.length - 1;
  }
}

bool writesNothing(const Instruction &instruction) {
  for (const char *prefix :
       {"ST",    "RED",       "LDGSTS", "BAR",       "BRA",     "EXIT",  "DEPBAR", "LDGDEPBAR", "NOP",  "BSSY",
        "BSYNC", "MEMBAR",    "ERRBAR", "CCTL",      "RET",     "CALL",  "JMP",    "WARPSYNC",  "UTMA", "UBLKCP",
        "BRX",   "WARPGROUP", "YIELD",  "NANOSLEEP", "UCGABAR", "FENCE", "BREAK",  "KILL"})
    if (instruction.is(prefix)) return true;
  return false;
}

/// Predicates alone are written: how many; 0: a register is.
int predicatesWritten(const Instruction &instruction) {
  for (const char *prefix : {"ISETP", "FSETP", "DSETP", "HSETP2", "UISETP", "PLOP3", "UPLOP3"})
    if (instruction.is(prefix)) return 2;
  return instruction.is("FCHK") || instruction.is("R2P") ? 1 : 0;
}

/// Splits the operands into what is read and what is written.
void readOperands(Instruction &instruction, std::string_view text) {
  const std::vector<std::string_view> operands = split(text);
  const bool tensor = instruction.is("HMMA") || instruction.is("IMMA") || instruction.is("BMMA");
  const bool memory = instruction.is("LD") || instruction.is("ST") || instruction.is("ATOM") || instruction.is("RED");
  const int width = memory && !instruction.is("LDGSTS") ? widthOf(instruction) : 1;
  const bool wide = has(instruction.opcode, ".WIDE") || (instruction.is("CS2R") && !has(instruction.opcode, ".32"));
  size_t at = 0;
  if (!writesNothing(instruction)) {
    const int predicates = predicatesWritten(instruction);
    while (at < operands.size() && isPlainPredicate(operands[at]) && (!predicates || static_cast<int>(at) < predicates))
      readAll(operands[at++], 1, instruction.writes);
    if (!predicates && at < operands.size() && isRegister(operands[at])) {
      const Name name = nameAt(operands[at]);
      if (name.number >= 0)
        add(instruction.writes, name.number, tensor ? tensorWidth(instruction, 0) : wide ? 2 : width);
      ++at;
      while (at + 1 < operands.size() && isPlainPredicate(operands[at])) readAll(operands[at++], 1, instruction.writes);
    }
  }
  for (size_t source = 1; at < operands.size(); ++at, ++source) {
    // A bracket holds an address; what stands alone in a store is its data.
    const bool address = operands[at].find('[') != std::string_view::npos;
    int each = 1;
    if (tensor) each = tensorWidth(instruction, source);
    else if (memory && !address && !instruction.is("LD")) each = width;
    else if (wide && source == 3) each = 2;  // the addend of a wide product
    readAll(operands[at], each, instruction.reads);
  }
  if (instruction.is("LDGSTS")) instruction.shared = true;
  if (instruction.is("BAR")) {
    instruction.partly = operands.size() > 1;
    instruction.ofTurns = instruction.partly && isRegister(operands[0]);
  }
  if (instruction.is("HGMMA") || instruction.is("QGMMA") || instruction.is("IGMMA"))
    instruction.commits = text.find("gsb0") != std::string_view::npos;
  if ((instruction.is("DEPBAR.LE") || instruction.is("WARPGROUP.DEPBAR.LE")) && operands.size() >= 2) {
    std::string_view count = operands[1];
    const int base = count.starts_with("0x") ? 16 : 10;
    if (base == 16) count.remove_prefix(2);
    std::from_chars(count.data(), count.data() + count.size(), instruction.number, base);
  }
}

/// "/*0430*/" at the front of a line, and what follows.
bool address(std::string_view &line, int &value) {
  if (!line.starts_with("/*")) return false;
  const auto [end, error] = std::from_chars(line.data() + 2, line.data() + line.size(), value, 16);
  const size_t digits = static_cast<size_t>(end - line.data());
  if (error != std::errc() || !line.substr(digits).starts_with("*/")) return false;
  line = trimmed(line.substr(digits + 2));
  return true;
}

}  // namespace

Code readSass(const std::string &text) {
  Code code;
  code.registers = last;
  std::map<std::string, int, std::less<>> labels;
  std::map<int, int> addresses;  // the instruction at each
  std::vector<std::string> targets;
  bool begun = false;
  size_t begin = 0;
  while (begin < text.size()) {
    size_t end = text.find('\n', begin);
    if (end == std::string::npos) end = text.size();
    std::string_view line = trimmed(std::string_view(text).substr(begin, end - begin));
    begin = end + 1;
    if (line.starts_with(".section") || line.find("Function :") != std::string_view::npos) {
      if (begun) break;  // the next kernel, or data
      continue;
    }
    if (line.starts_with(".") && line.ends_with(":")) {
      labels[std::string(line.substr(0, line.size() - 1))] = static_cast<int>(code.instructions.size());
      continue;
    }
    int where = 0;
    if (!address(line, where)) continue;
    const size_t stop = line.find(';');
    if (stop == std::string_view::npos) continue;  // data, or the second half of an encoding
    line = trimmed(line.substr(0, stop));
    Instruction instruction;
    if (line.starts_with("@")) {
      const size_t space = std::min(line.find(' '), line.size());
      readAll(line.substr(0, space).substr(line.starts_with("@!") ? 2 : 1), 1, instruction.reads);
      instruction.guarded = true;
      line = trimmed(line.substr(space));
    }
    const size_t space = std::min(line.find(' '), line.size());
    instruction.opcode = std::string(line.substr(0, space));
    if (instruction.opcode.empty() || !std::isupper(static_cast<unsigned char>(instruction.opcode[0]))) continue;
    begun = true;
    const std::string_view operands = trimmed(line.substr(space));
    std::string target;
    if (instruction.is("BRA") || instruction.is("BSSY") || instruction.is("JMP")) {
      // "`(.L_x_2)" or "0x430", behind what else it takes.
      const std::vector<std::string_view> parts = split(operands);
      if (!parts.empty()) {
        std::string_view where = parts.back();
        if (where.starts_with("`("))
          where = where.substr(2, where.find(')') == std::string_view::npos ? 0 : where.find(')') - 2);
        target = std::string(where);
      }
      if (parts.size() > 1 && instruction.is("BRA")) instruction.guarded = true;
    }
    readOperands(instruction, operands);
    addresses[where] = static_cast<int>(code.instructions.size());
    targets.push_back(target);
    code.instructions.push_back(std::move(instruction));
  }
  const int count = static_cast<int>(code.instructions.size());
  for (int at = 0; at < count; ++at) {
    if (targets[at].empty()) continue;
    int found = -1;
    if (auto label = labels.find(targets[at]); label != labels.end()) found = label->second;
    else if (int where = 0; targets[at].starts_with("0x")) {
      std::from_chars(targets[at].data() + 2, targets[at].data() + targets[at].size(), where, 16);
      if (auto place = addresses.find(where); place != addresses.end()) found = place->second;
    }
    if (found < count) code.instructions[at].target = found;
  }
  return code;
}

}  // namespace weft::timeline
