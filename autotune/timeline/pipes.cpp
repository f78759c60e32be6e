#include "autotune/timeline/pipes.h"

#include <algorithm>
#include <charconv>

namespace weft::timeline {
namespace {

bool has(const std::string &opcode, const char *part) { return opcode.find(part) != std::string::npos; }

bool any(const Instruction &instruction, std::initializer_list<const char *> prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(), [&](const char *prefix) { return instruction.is(prefix); });
}

/// Cycles from a branch that is taken to the instruction behind it, and from where the ways of a warp join again. Not
/// published for these chips: assumed.
constexpr float jump = 12, join = 6;

/// Bytes of a lane.
int laneBytes(const std::string &opcode) {
  if (has(opcode, "F32x")) return has(opcode, "F32x4") ? 16 : 8;  // atomic sums
  return has(opcode, ".128") ? 16 : has(opcode, ".64") ? 8 : has(opcode, "16") ? 2 : has(opcode, "8") ? 1 : 4;
}

/// Rows, columns and depth of a tensor instruction by its name: "16816" is 16 x 8 x 16, "64x128x16" of a warpgroup.
struct Shape {
  double m = 16, n = 8, k = 8;
};
Shape shapeOf(const std::string &opcode) {
  const size_t dot = opcode.find('.');
  if (dot == std::string::npos) return {};
  const std::string size = opcode.substr(dot + 1, opcode.find('.', dot + 1) - dot - 1);
  Shape shape;
  if (size.find('x') == std::string::npos) {  // m and n are 16 and 8
    int depth = 0;
    if (size.rfind("168", 0) == 0) std::from_chars(size.data() + 3, size.data() + size.size(), depth);
    if (depth >= 4 && depth <= 512) shape.k = depth;
    return shape;
  }
  int numbers[3] = {64, 8, 16}, at = 0;
  const char *next = size.data(), *end = size.data() + size.size();
  while (at < 3 && next < end) {
    const auto [stop, error] = std::from_chars(next, end, numbers[at++]);
    if (error != std::errc()) break;
    next = stop + 1;
  }
  for (int &number : numbers) number = std::clamp(number, 1, 512);
  return {static_cast<double>(numbers[0]), static_cast<double>(numbers[1]), static_cast<double>(numbers[2])};
}

void priceTensor(const Instruction &instruction, const Chip &chip, Step &step) {
  Shape shape = shapeOf(instruction.opcode);
  const bool group = has(instruction.opcode, "GMMA");
  if (group) shape.m /= 4;  // of one warp of four
  step.pipe = Pipe::Tensor;
  step.flop = 2 * shape.m * shape.n * shape.k;
  const double peak = has(instruction.opcode, "TF32")                ? chip.tf32
                      : any(instruction, {"QGMMA", "IGMMA", "IMMA"}) ? 2 * chip.bf16
                                                                     : chip.bf16;
  step.cycles = static_cast<float>(step.flop / (peak / schedulers * (group ? 1 : chip.syncShare)));
  step.latency = static_cast<float>(std::max(chip.latencies.tensor, group ? step.cycles + 16.0 : 0.0));
  if (group) step.kind = Step::Kind::Group;
  step.commits = instruction.commits;
}

void priceMemory(const Instruction &instruction, const Chip &chip, Step &step) {
  const std::string &opcode = instruction.opcode;
  step.pipe = Pipe::Shared;
  int bytes = 32 * laneBytes(opcode);
  if (any(instruction, {"LDSM", "STSM"})) bytes = 128 * (has(opcode, ".4") ? 4 : has(opcode, ".2") ? 2 : 1);
  const double passes = std::max(1.0, bytes / chip.sharedBytesPerCycle());
  step.cycles = static_cast<float>(passes);
  step.latency = static_cast<float>(chip.latencies.shared + passes - 1);
  const bool local = any(instruction, {"LDL", "STL"});  // spilled registers: in L1
  if (any(instruction, {"LDG", "LD.", "STG", "ST.", "RED", "ATOMG", "ATOM."})) {
    // Lanes of a load lie side by side, or find the rest of its sectors in L1. Stores of tiles are of fragments of an
    // mma: four lanes side by side, eight rows, of each a sector of 32 bytes; 16-bit loads are of such rows, too, and
    // each is looked up. So are atomic sums, whose sectors L2 reads and writes: twice a store, assumed. Each lane of
    // one that returns a value has a sector of its own.
    constexpr int sector = 32, rows = 8;
    const bool sum = instruction.is("RED");
    if (instruction.is("ATOM")) bytes = 32 * sector;
    else if (instruction.is("ST") || sum) bytes = (sum ? 2 : 1) * rows * std::max(sector, 4 * laneBytes(opcode));
    if (!instruction.shared && (instruction.is("ST") || sum || laneBytes(opcode) < 4)) step.cycles = rows;
    step.bytes = bytes;
    step.l2Cycles = static_cast<float>(bytes / chip.l2BytesPerCycle());
    step.latency = static_cast<float>(chip.latencies.l2);
    if (instruction.shared) {
      step.copy = true;
      step.latency = static_cast<float>(chip.latencies.l2 + chip.latencies.shared / 2);
    }
  } else if (local) {
    step.latency = static_cast<float>(chip.latencies.shared + 6);
  }
  if (any(instruction, {"ST", "RED"})) step.latency = 1;
}

Step priceOne(const Instruction &instruction, const Chip &chip) {
  Step step;
  step.number = instruction.number;
  const Latencies &latency = chip.latencies;
  auto math = [&](Pipe pipe, int lanes, double wait) {
    step.pipe = pipe;
    step.cycles = static_cast<float>(32.0 / (lanes / static_cast<double>(schedulers)));
    step.latency = static_cast<float>(std::max<double>(wait, step.cycles));
  };
  if (isTensor(instruction)) {
    priceTensor(instruction, chip, step);
  } else if (any(instruction, {"LDGDEPBAR"})) {
    step.kind = Step::Kind::Commit;
  } else if (any(instruction, {"DEPBAR.LE"})) {
    step.kind = Step::Kind::WaitCopies;
  } else if (any(instruction, {"WARPGROUP.DEPBAR"})) {
    step.kind = Step::Kind::WaitGroup;
  } else if (any(instruction, {"BAR"})) {
    // Which warps meet at a numbered barrier, and who only arrives, is followed of turns alone.
    const bool waits = any(instruction, {"BAR.SYNC", "BAR.RED"});
    if (instruction.ofTurns) step.kind = waits ? Step::Kind::TakeTurn : Step::Kind::PassTurn;
    else if (waits && !instruction.partly) step.kind = Step::Kind::Barrier;
  } else if (any(instruction, {"LDC", "ULDC", "S2R", "S2UR", "CS2R"})) {
    // Constants and special registers.
    const bool counters = instruction.is("CS2R");
    math(counters ? Pipe::Alu : Pipe::Uniform, 64, counters ? 6 : instruction.is("ULDC") ? 12 : 30);
  } else if (any(instruction, {"LDS", "LDSM", "LDG", "LDL", "LD.", "ST", "RED", "ATOM"})) {
    priceMemory(instruction, chip, step);
  } else if (any(instruction, {"SHFL"})) {
    step.pipe = Pipe::Shared;
    step.cycles = 1;
    step.latency = static_cast<float>(latency.shared - 6);
  } else if (any(instruction, {"MUFU", "I2F.", "F2I", "FRND", "F2F", "POPC", "FLO", "I2I"})) {
    math(Pipe::Special, chip.special, latency.special);
  } else if (any(instruction, {"FFMA", "FADD", "FMUL", "FSWZADD"})) {
    math(Pipe::Fma, chip.imad, latency.arithmetic);
    step.either = chip.fma > chip.imad;
  } else if (any(instruction, {"IMAD", "HFMA2", "HADD2", "HMUL2", "IDP"})) {
    math(Pipe::Fma, chip.imad, latency.arithmetic);
  } else if (any(instruction, {"DADD", "DMUL", "DFMA", "DSETP"})) {
    math(Pipe::Fma, 8, 16);
  } else if (any(instruction, {"BRA",   "BSSY", "BSYNC",  "EXIT",   "NOP",       "CALL", "RET",    "WARPSYNC",
                               "YIELD", "JMP",  "BRX",    "MEMBAR", "ERRBAR",    "CCTL", "DEPBAR", "WARPGROUP",
                               "SYNCS", "UTMA", "UBLKCP", "FENCE",  "NANOSLEEP", "BREAK"})) {
    if (any(instruction, {"CALL", "RET", "BRX"})) step.pause = jump;
    if (any(instruction, {"BSYNC", "WARPSYNC"})) step.pause = join;
  } else if (any(instruction, {"R2UR", "VOTEU"})) {
    math(Pipe::Alu, chip.alu, 12);
  } else if (any(instruction, {"U"})) {
    math(Pipe::Uniform, 64, 10);
  } else {  // IADD3, LOP3, SHF, SEL, FSEL, FSETP, FMNMX, PRMT, LEA, F2FP, I2FP, MOV, ...
    math(Pipe::Alu, chip.alu, latency.arithmetic + (instruction.is("F2FP") || instruction.is("I2FP") ? 2 : 0));
  }
  return step;
}

}  // namespace

const char *name(Pipe pipe) {
  switch (pipe) {
    case Pipe::Tensor: return "tensor cores";
    case Pipe::Special: return "special functions";
    case Pipe::Fma: return "FMA, with integer products";
    case Pipe::FmaOnly: return "FMA, the other half";
    case Pipe::Alu: return "ALU";
    case Pipe::Uniform: return "uniform, constants";
    case Pipe::Shared: return "shared memory, LSU";
    case Pipe::L2: return "way from L2";
    case Pipe::None: break;
  }
  return "none";
}

std::vector<Step> price(const Code &code, const Path &path, const Chip &chip) {
  std::vector<Step> steps;
  steps.reserve(path.size());
  for (size_t next = 0; next < path.size(); ++next) {
    const Instruction &instruction = code.instructions[path[next]];
    steps.push_back(priceOne(instruction, chip));
    steps.back().reads = instruction.reads;
    steps.back().writes = instruction.writes;
    const bool jumps = next + 1 < path.size() ? path[next + 1] != path[next] + 1 : instruction.is("BRA");
    if (jumps) steps.back().pause = jump;
  }
  return steps;
}

Totals totals(const std::vector<Step> &steps) {
  Totals sum;
  for (const Step &step : steps) {
    ++sum.instructions;
    sum.flop += step.flop;
    sum.bytes += step.bytes;
    if (step.pipe != Pipe::None) sum.cycles[static_cast<int>(step.pipe)] += step.cycles;
    sum.cycles[static_cast<int>(Pipe::L2)] += step.l2Cycles;
  }
  return sum;
}

}  // namespace weft::timeline
