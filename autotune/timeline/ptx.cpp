#include <algorithm>
#include <cctype>
#include <charconv>
#include <map>
#include <string_view>
#include <utility>

#include "autotune/timeline/code.h"

namespace weft::timeline {
namespace {

/// The instruction of the machine that one of PTX mostly becomes, by the longest beginning that fits. What has an empty
/// name costs nothing: ptxas renames registers. 64-bit integers take two.
struct Meaning {
  const char *ptx, *sass;
  int count;
};
constexpr Meaning meanings[] = {
    {"mma.sync.aligned.m16n8k16.row.col.f32", "HMMA.16816.F32.BF16", 1},
    {"mma.sync.aligned.m16n8k8.row.col.f32.tf32", "HMMA.1688.F32.TF32", 1},
    {"mma.sync.aligned.m16n8k8.row.col.f32", "HMMA.1688.F32.BF16", 1},
    {"mma.sync", "HMMA.16816.F32.BF16", 1},
    {"wgmma.mma_async", "HGMMA.64x64x16.F32.BF16", 1},
    {"wgmma.wait_group", "WARPGROUP.DEPBAR.LE", 1},
    {"wgmma.", "WARPGROUP.ARRIVE", 1},
    {"ldmatrix.sync.aligned.m8n8.x4", "LDSM.16.M88.4", 1},
    {"ldmatrix.sync.aligned.m8n8.x2", "LDSM.16.M88.2", 1},
    {"ldmatrix", "LDSM.16.M88", 1},
    {"stmatrix", "STSM.16.M88.4", 1},
    {"cp.async.commit_group", "LDGDEPBAR", 1},
    {"cp.async.wait_group", "DEPBAR.LE", 1},
    {"cp.async.wait_all", "DEPBAR.LE", 1},
    {"cp.async.bulk", "UTMALDG", 1},
    {"cp.async", "LDGSTS.E.128", 1},
    {"bar.sync", "BAR.SYNC", 1},
    {"barrier.sync", "BAR.SYNC", 1},
    {"barrier.cta.sync", "BAR.SYNC", 1},
    {"barrier.cta.arrive", "BAR.ARV", 1},
    {"mbarrier.", "SYNCS.ARRIVE", 1},
    {"mbarrier.try_wait", "SYNCS.PHASECHK", 1},
    {"vote.", "VOTE.ANY", 1},
    {"ld.shared", "LDS", 1},
    {"st.shared", "STS", 1},
    {"ld.global", "LDG.E", 1},
    {"st.global", "STG.E", 1},
    {"ld.local", "LDL", 1},
    {"st.local", "STL", 1},
    {"ld.param", "LDC", 1},
    {"atom.", "ATOMG.E", 1},
    {"red.relaxed.gpu.global.add.v2", "REDG.E.ADD.F32x2", 1},
    {"red.", "RED.E", 1},
    {"shfl.", "SHFL.BFLY", 1},
    {"ex2.", "MUFU.EX2", 1},
    {"lg2.", "MUFU.LG2", 1},
    {"rcp.approx", "MUFU.RCP", 1},
    {"rcp.", "FFMA", 6},
    {"rsqrt.", "MUFU.RSQ", 1},
    {"sqrt.approx", "MUFU.SQRT", 1},
    {"sqrt.", "FFMA", 8},
    {"sin.", "MUFU.SIN", 1},
    {"cos.", "MUFU.COS", 1},
    {"tanh.", "MUFU.TANH", 1},
    {"div.rn.f32", "FFMA", 10},
    {"div.full", "FFMA", 4},
    {"div.approx", "MUFU.RCP", 1},
    {"div.u64", "IMAD", 24},
    {"div.s64", "IMAD", 28},
    {"div.", "IMAD", 12},
    {"rem.", "IMAD", 14},
    {"fma.rn.f32", "FFMA", 1},
    {"mul.rn.f32", "FMUL", 1},
    {"mul.f32", "FMUL", 1},
    {"add.rn.f32", "FADD", 1},
    {"add.f32", "FADD", 1},
    {"sub.rn.f32", "FADD", 1},
    {"sub.f32", "FADD", 1},
    {"fma.", "HFMA2", 1},
    {"mul.wide", "IMAD.WIDE", 1},
    {"mul.lo.s64", "IMAD", 3},
    {"mad.lo.s64", "IMAD", 4},
    {"mul.", "IMAD", 1},
    {"mad.", "IMAD", 1},
    {"cvt.rn.f32.s32", "I2FP.F32.S32", 1},
    {"cvt.rn.bf16", "F2FP.BF16", 1},
    {"cvt.rn.f16", "F2FP.F16", 1},
    {"cvt.rna.tf32", "F2F", 1},
    {"cvt.f32.", "IMAD.U32", 1},
    {"cvt.u64.u32", "", 0},
    {"cvt.s64.s32", "SHF", 1},
    {"cvt.u32.u64", "", 0},
    {"cvt.rmi", "FRND", 1},
    {"cvt.rzi", "F2I", 1},
    {"cvt.rni", "FRND", 1},
    {"cvt.", "PRMT", 1},
    {"mov.", "", 0},
    {"cvta.", "", 0},
    {"abs.", "", 0},
    {"neg.", "", 0},
    {"not.pred", "", 0},
    {"and.pred", "PLOP3", 1},
    {"or.pred", "PLOP3", 1},
    {"setp.", "ISETP", 1},
    {"ret", "EXIT", 1},
    {"exit", "EXIT", 1},
    {"bra", "BRA", 1},
    {"call", "CALL", 1},
};

Meaning meaningOf(std::string_view opcode) {
  Meaning best{"", "IADD3", 1};
  for (const Meaning &meaning : meanings) {
    const std::string_view begin = meaning.ptx;
    if (opcode.starts_with(begin) && begin.size() > std::string_view(best.ptx).size()) best = meaning;
  }
  const bool wide = opcode.ends_with("64") && !opcode.starts_with("ld") && !opcode.starts_with("st");
  if (!*best.ptx && wide) best.count = 2;
  if (std::string_view(best.ptx) == "setp." && opcode.ends_with("64")) best.count = 2;
  return best;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front()))) text.remove_prefix(1);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.remove_suffix(1);
  return text;
}

class Reader {
 public:
  Code run(std::string_view text) {
    code.sass = false;
    bool inside = false, comment = false;
    std::string statement;
    for (size_t at = 0; at < text.size(); ++at) {
      // Statements end at a semicolon, or at the brace or label they begin with.
      if (comment) {
        comment = !text.substr(at).starts_with("*/");
        continue;
      }
      if (text.substr(at).starts_with("//")) {
        at = std::min(text.find('\n', at), text.size());
        continue;
      }
      if (text.substr(at).starts_with("/*")) {
        comment = true;
        continue;
      }
      const char c = text[at];
      if (!inside) {
        if (c == '{') inside = std::exchange(statement, "").find(".entry") != std::string::npos;
        else if (c == '}' || c == ';') statement.clear();
        else statement += c;
        continue;
      }
      const bool empty = trimmed(statement).empty();
      if (c == '{' && empty) {
        ++depth;
      } else if (c == '}' && empty) {
        if (depth-- == 0) break;  // the first entry alone
      } else if (c == ':' && isLabel(trimmed(statement))) {
        labels[std::string(trimmed(statement))] = static_cast<int>(code.instructions.size());
        statement.clear();
      } else if (c == ';') {
        take(trimmed(statement));
        statement.clear();
      } else {
        statement += c == '\n' || c == '\t' ? ' ' : c;
      }
    }
    for (size_t at = 0; at < targets.size(); ++at)
      if (auto found = labels.find(targets[at]);
          !targets[at].empty() && found != labels.end() && found->second < static_cast<int>(code.instructions.size()))
        code.instructions[at].target = found->second;
    code.registers = static_cast<int>(numbers.size());
    return std::move(code);
  }

 private:
  Code code;
  int depth = 0;
  std::map<std::string, int, std::less<>> labels, numbers;
  std::vector<std::string> targets;

  static bool isLabel(std::string_view text) {
    return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
      return std::isalnum(static_cast<unsigned char>(c)) || c == '$' || c == '_';
    });
  }

  /// Numbers of all registers in a text: names behind a percent sign.
  void registers(std::string_view text, std::vector<int> &list) {
    for (size_t at = text.find('%'); at != std::string_view::npos; at = text.find('%', at + 1)) {
      size_t end = at + 1;
      while (end < text.size() && (std::isalnum(static_cast<unsigned char>(text[end])) || text[end] == '_')) ++end;
      list.push_back(
          numbers.try_emplace(std::string(text.substr(at, end - at)), static_cast<int>(numbers.size())).first->second);
    }
  }

  void take(std::string_view statement) {
    Instruction instruction;
    if (statement.starts_with("@")) {
      const size_t space = std::min(statement.find(' '), statement.size());
      registers(statement.substr(0, space), instruction.reads);
      instruction.guarded = true;
      statement = trimmed(statement.substr(space));
    }
    if (statement.empty() || !std::isalpha(static_cast<unsigned char>(statement[0]))) return;
    const size_t space = std::min(statement.find(' '), statement.size());
    const std::string_view opcode = statement.substr(0, space), operands = trimmed(statement.substr(space));
    const Meaning meaning = meaningOf(opcode);
    if (meaning.count == 0) {
      // A copy: who reads the new name waits as long as for the old one. It costs no issue slot, but it must be known.
      rename(operands);
      return;
    }
    instruction.opcode = meaning.sass;
    const bool memory = instruction.is("LD") || instruction.is("ST") || instruction.is("RED") || instruction.is("ATOM");
    if (memory && !instruction.is("LDSM") && !instruction.is("LDGSTS")) instruction.opcode += widthOf(opcode);
    instruction.shared = instruction.is("LDGSTS");
    if (instruction.is("BRA")) {
      remember(std::string(operands), instruction);
      return;
    }
    if (instruction.is("DEPBAR") || instruction.is("WARPGROUP.DEPBAR"))
      std::from_chars(operands.data(), operands.data() + operands.size(), instruction.number);
    // The first operand is written, be it a vector, but for stores and what is asynchronous.
    const bool writes = !instruction.is("ST") && !instruction.is("RED") && !instruction.is("LDGSTS") &&
                        !instruction.is("BAR") && !instruction.is("EXIT") && !instruction.is("DEPBAR");
    size_t split = 0;
    if (writes) {
      split = operands.starts_with("{") ? operands.find('}') : operands.find(',');
      split = std::min(split, operands.size());
      registers(operands.substr(0, split), instruction.writes);
    }
    registers(operands.substr(split), instruction.reads);
    for (int count = 0; count < meaning.count; ++count) remember("", instruction);
  }

  void remember(std::string target, const Instruction &instruction) {
    targets.push_back(std::move(target));
    code.instructions.push_back(instruction);
  }

  /// "%r2, %r1": the first name is the second's register from here on.
  void rename(std::string_view operands) {
    std::vector<int> both;
    const size_t comma = std::min(operands.find(','), operands.size());
    registers(operands.substr(comma), both);
    const std::string_view name = trimmed(operands.substr(0, comma));
    if (both.size() == 1 && name.starts_with("%")) numbers[std::string(name)] = both[0];
    else registers(name, both);
  }

  static std::string widthOf(std::string_view opcode) {
    int lanes = 1, bits = 32;
    if (opcode.find(".v4") != std::string_view::npos) lanes = 4;
    if (opcode.find(".v2") != std::string_view::npos) lanes = 2;
    if (opcode.ends_with("64")) bits = 64;
    if (opcode.ends_with("16")) bits = 16;
    if (opcode.ends_with("8")) bits = 8;
    const int all = lanes * bits;
    return all >= 128 ? ".128" : all >= 64 ? ".64" : all >= 32 ? "" : all >= 16 ? ".U16" : ".U8";
  }
};

}  // namespace

Code readPtx(const std::string &text) { return Reader().run(text); }

}  // namespace weft::timeline
