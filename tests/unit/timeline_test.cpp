// The timing model: what is read from SASS and PTX, what is scheduled from it, and how far it is off from kernels that
// were measured.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <random>
#include <sstream>

#include "autotune/timeline.h"
#include "autotune/timeline/chip.h"
#include "autotune/timeline/code.h"
#include "autotune/timeline/paths.h"
#include "autotune/timeline/schedule.h"
#include "autotune/timeline/waves.h"
#include "compiler/compiler.h"
#include "compiler/default_schedule.h"
#include "runtime/device.h"
#include "runtime/ptxas.h"
#include "tests/unit/hostile_text.h"

namespace weft::timeline {
namespace {

/// A kernel as nvdisasm prints it: a loop with so many instructions of each kind.
struct Sketch {
  int tensor = 32, special = 16, alu = 16, loads = 4;
  int masked = 0;  ///< more of the ALU, on the way of masked tiles alone
  bool slowPath = false;

  std::string text() const {
    std::ostringstream out;
    int address = 0;
    auto line = [&](const std::string &what) {
      char place[16];
      std::snprintf(place, sizeof place, "%04x", address);
      out << "        /*" << place << "*/                   " << what << " ;\n";
      address += 16;
    };
    out << "\t.section\t.debug_frame,\"\",@progbits\n.debug_frame:\n        /*0000*/ \t.byte\t0xff, 0xff\n"
        << "//--------------------- .text.sketch "
           "--------------------------\n\t.section\t.text.sketch,\"ax\",@progbits\n"
        << ".text.sketch:\n";
    line("LDC R1, c[0x0][0x28]");
    line("S2R R2, SR_TID.X");
    out << ".L_x_0:\n";
    for (int at = 0; at < loads; ++at) line("LDSM.16.M88.4 R" + std::to_string(8 + 4 * (at % 8)) + ", [R2+UR4]");
    for (int at = 0; at < tensor; ++at) {
      const std::string sum = "R" + std::to_string(64 + 4 * (at % 16));
      line("HMMA.16816.F32.BF16 " + sum + ", R8, R12, " + sum);
    }
    for (int at = 0; at < special; ++at) {
      const std::string own = "R" + std::to_string(128 + at % 32);
      line("MUFU.EX2 " + own + ", " + own);
    }
    for (int at = 0; at < alu; ++at) {
      const std::string own = "R" + std::to_string(160 + at % 16);
      line("FMNMX R" + std::to_string(176 + at % 16) + ", " + own + ", R2, !PT");
    }
    if (masked > 0) {
      line("@P1 BRA `(.L_x_1)");
      for (int at = 0; at < masked; ++at) line("FSEL R" + std::to_string(192 + at % 16) + ", R2, R3, P2");
      out << ".L_x_1:\n";
    }
    if (slowPath) {
      line("@!P3 BRA `(.L_x_2)");
      line("CALL.REL.NOINC `($slow)");
      for (int at = 0; at < 500; ++at) line("MUFU.RCP R4, R4");
      out << ".L_x_2:\n";
    }
    line("IADD3 R3, R3, 0x1, RZ");
    line("ISETP.GE.AND P0, PT, R3, R5, PT");
    line("@!P0 BRA `(.L_x_0)");
    line("STG.E desc[UR6][R8.64], R64");
    line("EXIT");
    out << ".L_x_3:\n";
    line("BRA `(.L_x_3)");
    return out.str();
  }
};

Kernel kernel(const std::string &code, int registers = 128) {
  return {"sketch", code, true, registers, 128, 32 << 10, 0};
}
Load load(size_t blocks = 528, int full = 20, int partial = 0) {
  Load load;
  load.blocks.assign(blocks, {full, partial});
  return load;
}
double seconds(const Sketch &sketch) { return predict(kernel(sketch.text()), load(), chip("h200")).seconds; }
double share(const Timeline &timeline, Pipe pipe) { return timeline.pipes.at(static_cast<size_t>(pipe)).loop; }

using Numbers = std::vector<int>;

TEST(Timeline, ReadsWhatDisassemblersPrint) {
  const Code code = readSass(R"(
	.section	.text.k,"ax",@progbits
        /*0000*/                   LDSM.16.MT88.4 R96, [R20+UR15+0x10] ;
.L_x_7:
        /*0010*/                   HMMA.16816.F32.BF16 R152, R164.reuse, R112, RZ ;
        /*0020*/              @!P2 IADD3 R187, P0, RZ, -R2.reuse, RZ ;
        /*0030*/                   STG.E.128 desc[UR6][R8.64+0x20], R4 ;
        /*0040*/                   ISETP.GE.U32.AND.EX P1, PT, RZ, UR6, PT, P0 ;
        /*0050*/                   SHFL.BFLY PT, R140, R25, 0x1, 0x1f ;
        /*0060*/                   LDGSTS.E.BYPASS.128 [R5], desc[UR6][R6.64], !P5 ;
        /*0070*/                   DEPBAR.LE SB0, 0x2 ;
        /*0080*/               @P0 BRA `(.L_x_7) ;
        /*0090*/                   EXIT ;
	.section	.text.other,"ax",@progbits
        /*0000*/                   NOP ;
)");
  ASSERT_EQ(code.instructions.size(), 10u);  // the first kernel alone
  const auto &all = code.instructions;
  EXPECT_EQ(all[0].writes, (Numbers{96, 97, 98, 99}));
  EXPECT_EQ(all[1].writes, (Numbers{152, 153, 154, 155}));
  EXPECT_EQ(all[1].reads, (Numbers{164, 165, 166, 167, 112, 113}));
  EXPECT_TRUE(all[2].guarded);
  constexpr int predicate = 320, uniform = 256;
  EXPECT_EQ(all[2].reads, (Numbers{predicate + 2, 2}));
  EXPECT_EQ(all[2].writes, (Numbers{187, predicate}));
  EXPECT_EQ(all[3].writes, Numbers{});
  EXPECT_EQ(all[3].reads, (Numbers{uniform + 6, 8, 9, 4, 5, 6, 7}));
  EXPECT_EQ(all[4].writes, (Numbers{predicate + 1}));
  EXPECT_EQ(all[4].reads, (Numbers{uniform + 6, predicate}));
  EXPECT_EQ(all[5].writes, (Numbers{140}));
  EXPECT_TRUE(all[6].shared);
  EXPECT_EQ(all[7].number, 2);
  EXPECT_EQ(all[8].target, 1);
}

TEST(Timeline, ReadsCuobjdumpToo) {
  const Code code = readSass(R"(
		Function : k
	.headerflags	@"EF_CUDA_SM90"
        /*0000*/                   LDC R1, c[0x0][0x28] ;      /* 0x00000a00ff017b82 */
                                                               /* 0x000fe20000000800 */
        /*0010*/                   HGMMA.64x128x16.F32.BF16 R24, gdesc[UR8], R24, gsb0 ;  /* 0x0 */
        /*0020*/                   WARPGROUP.DEPBAR.LE gsb0, 0x1 ;  /* 0x0 */
        /*0030*/               @P0 BRA 0x10 ;                  /* 0x0 */
        /*0040*/                   EXIT ;                      /* 0x0 */
)");
  ASSERT_EQ(code.instructions.size(), 5u);
  EXPECT_TRUE(code.instructions[1].commits);
  EXPECT_EQ(code.instructions[2].number, 1);
  EXPECT_EQ(code.instructions[3].target, 1);
}

TEST(Timeline, FindsTheLoopAndTheWaysThroughIt) {
  Sketch sketch;
  sketch.masked = 40;
  sketch.slowPath = true;
  const Code code = readSass(sketch.text());
  const Paths paths = findPaths(code);
  ASSERT_TRUE(paths.loop);
  EXPECT_EQ(paths.loops, 1);
  const size_t body = 4 + 32 + 16 + 16 + 1 + 1 + 3;  // with both branches over what is left out
  EXPECT_EQ(paths.full.size(), body);
  EXPECT_EQ(paths.partial.size(), body + 40);
  EXPECT_EQ(paths.before.size(), 2u);
  EXPECT_EQ(paths.after.size(), 2u);
  for (int at : paths.partial) EXPECT_FALSE(code.instructions[at].is("CALL"));
}

TEST(Timeline, BlocksBelowTheLoopInTheText) {
  // The loop stands behind the end and is entered by a branch: labels are in no order, as PTX has them.
  const Code code = readSass(R"(
        /*0000*/                   BRA 0x30 ;
        /*0010*/                   STG.E desc[UR6][R8.64], R64 ;
        /*0020*/                   EXIT ;
        /*0030*/                   HMMA.16816.F32.BF16 R64, R8, R12, R64 ;
        /*0040*/               @P0 BRA 0x10 ;
        /*0050*/                   FADD R2, R2, R2 ;
        /*0060*/                   BRA 0x30 ;
)");
  const Paths paths = findPaths(code);
  ASSERT_TRUE(paths.loop);
  EXPECT_EQ(paths.full, (Path{3, 4, 5, 6}));
  EXPECT_EQ(paths.before, (Path{0}));
  EXPECT_EQ(paths.after, (Path{1, 2}));
}

TEST(Timeline, ThePipeWithTheMostToDoIsTheBound) {
  Sketch tensor;
  tensor.tensor = 256;
  const Timeline first = predict(kernel(tensor.text()), load(), chip("h200"));
  EXPECT_NE(first.bound.find("tensor cores"), std::string::npos) << first.bound;
  EXPECT_GT(share(first, Pipe::Tensor), 0.7);
  Sketch special;
  special.special = 512;
  const Timeline second = predict(kernel(special.text()), load(), chip("h200"));
  EXPECT_NE(second.bound.find("special functions"), std::string::npos) << second.bound;
  EXPECT_LT(share(second, Pipe::Tensor), share(first, Pipe::Tensor));
  for (const Timeline &timeline : {first, second})
    for (const PipeShare &pipe : timeline.pipes) {
      EXPECT_GE(pipe.loop, 0) << pipe.name;
      EXPECT_LE(pipe.loop, 1.01) << pipe.name;
      EXPECT_LE(pipe.kernel, 1.01) << pipe.name;
    }
  Load much = load();
  much.bytes = 1e12;
  EXPECT_NE(predict(kernel(tensor.text()), much, chip("h200")).bound.find("memory"), std::string::npos);
}

TEST(Timeline, MoreWorkIsNotFaster) {
  // Warps that stand otherwise to each other may save a little: not more than that.
  constexpr double noise = 1.03;
  Sketch sketch;
  double before = 0;
  for (int special : {0, 16, 64, 128, 256}) {
    sketch.special = special;
    const double now = seconds(sketch);
    EXPECT_LE(before, now * noise) << special;
    before = now;
  }
  Sketch masked;
  masked.masked = 200;
  const auto time = [&](int partial) {
    return predict(kernel(masked.text()), load(528, 20 - partial, partial), chip("h200")).seconds;
  };
  EXPECT_LT(time(0), time(10));
  EXPECT_LT(time(10), time(20));
  EXPECT_LT(predict(kernel(sketch.text()), load(528), chip("h200")).seconds,
            predict(kernel(sketch.text()), load(5280), chip("h200")).seconds);
}

TEST(Timeline, MoreResidentWarpsAreNotSlower) {
  constexpr double noise = 1.05;
  // Many waves: a last one in part weighs little. Little to do: few warps wait for their own results.
  constexpr size_t blocks = 132 * 60;
  Sketch sketch;
  sketch.tensor = sketch.special = sketch.alu = 8;
  const std::string text = sketch.text();
  const auto time = [&](int registers) { return predict(kernel(text, registers), load(blocks), chip("h200")).seconds; };
  double before = HUGE_VAL;
  for (int registers : {255, 168, 128, 80, 64}) {
    const double now = time(registers);
    EXPECT_LE(now, before * noise) << registers;
    before = now;
  }
  EXPECT_LT(time(64), time(255));
}

TEST(Timeline, EveryChipIsWhole) {
  std::istringstream names(chipNames());
  size_t count = 0;
  for (std::string name; std::getline(names, name, ','); ++count) {
    const Chip &own = chip(name.substr(name.find_first_not_of(' ')));
    EXPECT_GT(predict(kernel(Sketch().text()), load(), own).seconds, 0);
    EXPECT_GT(own.l2BytesPerCycle(), 8);
    // What the data sheet says of dense bf16, in TFLOP/s.
    EXPECT_GT(own.bf16 * own.units * own.clock / 1e3, 100);
    EXPECT_EQ(chipOfDriver(std::string("NVIDIA ") + own.driver), &own);
    // The clock under load: products alone reach for long what is known of them.
    EXPECT_NEAR(own.clockUnder(1), own.sustained * own.clock, 1e-9);
    EXPECT_EQ(own.clockUnder(0.3), own.clock);
    EXPECT_EQ(own.clockUnder(0), own.clock);
  }
  EXPECT_GE(count, 6u);
  EXPECT_EQ(chipOfDriver("NVIDIA GeForce RTX 4090 Laptop GPU"), nullptr);
  try {
    chip("h300");
    FAIL();
  } catch (const std::runtime_error &error) {
    EXPECT_NE(std::string(error.what()).find("h200"), std::string::npos);
  }
}

TEST(Waves, BlocksFillTheChip) {
  const std::vector<double> alone{1}, evenly{2, 1};  // a second block: none gains; or both go at half the speed
  EXPECT_DOUBLE_EQ(wavesCycles(std::vector<double>(10, 5), 10, alone), 5);
  EXPECT_DOUBLE_EQ(wavesCycles(std::vector<double>(11, 5), 10, alone), 10);
  EXPECT_DOUBLE_EQ(wavesCycles(std::vector<double>(20, 5), 10, evenly), 5);
  // Blocks that end together are replaced on all SMs, not on one.
  EXPECT_DOUBLE_EQ(wavesCycles(std::vector<double>(30, 5), 10, evenly), 7.5);
  // The longest first: the tail is short.
  std::vector<double> work(100, 1);
  work[0] = 10;
  const double longestFirst = wavesCycles(work, 10, alone);
  std::swap(work[0], work[99]);
  EXPECT_LT(longestFirst, wavesCycles(work, 10, alone));
  EXPECT_EQ(wavesCycles({}, 10, alone), 0);
}

TEST(Timeline, HostileTextsAreNoMatter) {
  testing::HostileText hostile(7);
  std::mt19937_64 random(7);
  const std::string good = Sketch().text();
  auto check = [](const std::string &text) {
    for (bool sass : {true, false}) {
      Kernel own = kernel(text);
      own.sass = sass;
      own.registers = sass ? -5 : 100000;
      own.threads = sass ? 0 : 100000;
      own.sharedBytes = sass ? -1 : int64_t{1} << 60;
      const Timeline timeline = predict(own, load(3, 2, 1), chip("h200"));
      ASSERT_TRUE(std::isfinite(timeline.seconds));
      ASSERT_FALSE(page(timeline).empty());
    }
  };
  for (int kind = 0; kind < testing::HostileText::kinds; ++kind) check(hostile.text(kind, 2000));
  const std::string parts[] = {"R999",
                               "R255.64",
                               "UR63.64",
                               "`(.L_x_0)",
                               "`(",
                               "0x",
                               "@",
                               "@!",
                               "/*",
                               "*/",
                               ";",
                               ":",
                               "{",
                               "}",
                               "[",
                               "]",
                               "BRA 0x10 ;",
                               "HMMA.16899999999999999",
                               "HGMMA.64x0x99999999999x",
                               "DEPBAR.LE SB0, 0xffffffffffffffff ;",
                               ".L_x_0:",
                               "WARPGROUP.DEPBAR.LE gsb0, 0x9 ;",
                               "BAR.SYNC 0x0 ;",
                               "\n",
                               "\n        /*0010*/ "};
  for (int round = 0; round < 300; ++round) {
    std::string text = good;
    for (int edit = 1 + static_cast<int>(random() % 30); edit > 0; --edit) {
      const size_t at = random() % (text.size() + 1);
      switch (random() % 4) {
        case 0: text.insert(at, parts[random() % std::size(parts)]); break;
        case 1: text.erase(at, random() % 50); break;
        case 2:
          if (at < text.size()) text[at] = static_cast<char>(random());
          break;
        default: text.insert(at, text.substr(random() % text.size(), random() % 200));
      }
    }
    check(text);
  }
}

/// A kernel of causal attention, by its default schedule, with its load at B 2, H 16, T 4096.
struct Causal {
  Kernel kernel;
  Load load;
};
/// `tileQ`: of another schedule than the default one.
Causal causal(const std::string &name, int64_t width, bool ptx, int tileQ = 0) {
  std::ifstream file(std::string(WEFT_VARIANTS) + "/causal.weft");
  std::stringstream text;
  text << file.rdbuf();
  CompileRequest request;
  request.variant = parse(text.str(), "causal.weft").variants.at(0);
  request.kernel = name;
  request.type = ElementType::BF16;
  for (const InputInfo &input : request.variant->inputs())
    if (input.isRow) request.dims[input.dims.back()] = width;
  request.target = "sm_80";
  const bool backward = name != "forward";
  request.schedule = defaultSchedule(*request.variant, "sm_90", request.dims, backward, request.type,
                                     limitsOfArchitecture(9, 0).sharedBytesPerBlock);
  if (tileQ) request.schedule.tileQ = tileQ;
  const CompileResult result = compile(request);
  EXPECT_EQ(result.error, "");
  Causal made;
  if (ptx) made.kernel = {name, result.image.code, false, 255, result.image.threads, result.image.sharedBytes, 0};
  else made.kernel = kernelOf(result.image, "sm_90");
  constexpr int T = 4096, heads = 32;
  const bool byKeys = result.image.grid == Grid::KeyTile;
  const int own = byKeys ? result.image.tileK : result.image.tileQ,
            other = byKeys ? result.image.tileQ : result.image.tileK;
  for (int tile = 0; tile < T / own; ++tile) {
    // Whole tiles of the other side, and those the diagonal cuts.
    const int first = byKeys ? tile * own : T - (tile + 1) * own, last = first + own - 1;
    const int from = byKeys ? first / other : 0, to = byKeys ? (T - 1) / other : last / other;
    Turns turns;
    for (int at = from; at <= to; ++at)
      ++((byKeys ? at * other >= last : at * other + other - 1 <= first) ? turns.full : turns.partial);
    made.load.blocks.insert(made.load.blocks.end(), heads, turns);
  }
  return made;
}

TEST(Timeline, NearWhatWasMeasured) {
  // Microseconds on an H200, docs/timeline.md. How near: as that page says of the kernels the factor was not fitted on.
  // Of kernels whose code is as it was when they were measured, in those tiles.
  const struct {
    const char *kernel;
    int64_t width;
    int tileQ;
    double measured;
  } rows[] = {{"forward", 64, 128, 271}, {"forward", 128, 64, 568}};
  for (const auto &row : rows) {
    const Causal own = causal(row.kernel, row.width, false, row.tileQ);
    if (!own.kernel.sass) GTEST_SKIP() << "ptxas or a disassembler is not installed";
    const Timeline timeline = predict(own.kernel, own.load, chip("h200"));
    EXPECT_NEAR(1e6 * timeline.seconds / row.measured, 1, 0.2) << row.kernel << " " << row.width;
    EXPECT_EQ(timeline.warps, 8) << row.kernel;
  }
}

TEST(Timeline, PtxServesWhereThereIsNoAssembler) {
  const Causal own = causal("forward", 64, true);
  const Timeline timeline = predict(own.kernel, own.load, chip("h200"));
  EXPECT_NEAR(1e6 * timeline.seconds / 271, 1, 0.4);
  EXPECT_NE(page(timeline).find("PTX"), std::string::npos);
  EXPECT_NE(page(timeline).find("predicted"), std::string::npos);
}

}  // namespace
}  // namespace weft::timeline
