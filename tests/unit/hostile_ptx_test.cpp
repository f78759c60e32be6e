// PTX that means harm: whatever a text says, the emulator runs it within its own memory or refuses it with an error.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <random>

#include "compiler/compiler.h"
#include "runtime/ptx_emulator/emulator.h"
#include "tests/unit/call.h"

namespace weft::ptx {
namespace {

std::string header(const std::string &declarations = "") {
  return ".version 7.0\n.target sm_80\n.address_size 64\n.extern .shared .align 16 .b8 smem[];\n" + declarations +
         ".visible .entry t(\n.param .b64 t_0\n)\n{\n";
}
std::string kernel(const std::string &body) {
  return header() +
         ".reg .pred %p<9>;\n.reg .b16 %rs<9>;\n.reg .b32 %r<40>;\n.reg .b64 %rd<20>;\nld.param.b64 %rd1, "
         "[t_0];\nmov.u32 %r1, %tid.x;\n" +
         body + "\nret;\n}\n";
}

/// Buffers with guards on both sides, which no kernel may change.
class Arena {
 public:
  static constexpr size_t guard = 4096, size = 16384;

  Arena() : bytes(guard + size + guard, 0xA5) { std::fill(begin(), begin() + size, 0); }
  uint8_t *begin() { return bytes.data() + guard + (64 - reinterpret_cast<uintptr_t>(bytes.data() + guard) % 64) % 64; }
  bool intact() {
    const auto same = [](uint8_t byte) { return byte == 0xA5; };
    return std::all_of(bytes.data(), begin(), same) && std::all_of(begin() + size, bytes.data() + bytes.size(), same);
  }

 private:
  std::vector<uint8_t> bytes;
};

/// What the module says of its kernel run in `arena`, empty if nothing. Parameters are pointers into it, and small
/// numbers.
std::string run(const std::string &text, Arena &arena, int64_t steps, const std::string &entry = "t", int threads = 64,
                int64_t sharedBytes = 16384) {
  try {
    const Module module(text);
    Launch launch;
    launch.blocks = 2;
    launch.threads = threads;
    launch.sharedBytes = sharedBytes;
    launch.steps = steps;
    launch.seed = 3;
    launch.memory = {{reinterpret_cast<uint64_t>(arena.begin()), static_cast<int64_t>(Arena::size)}};
    launch.parameters.resize(4096);
    for (size_t at = 0; at < launch.parameters.size() / 8; ++at) {
      const uint64_t value = at % 3 == 0 ? launch.memory[0].begin + 256 * (at % 32) : at % 17;
      std::memcpy(&launch.parameters[8 * at], &value, 8);
    }
    module.run(entry, launch);
    return "";
  } catch (const std::runtime_error &error) {
    return error.what();
  }
}

std::string errorOf(const std::string &text, int64_t steps = 10000) {
  Arena arena;
  const std::string error = run(text, arena, steps);
  EXPECT_TRUE(arena.intact()) << text;
  return error;
}

TEST(HostilePtx, addressesThatWrapAround) {
  for (const char *body :
       {"mov.b32 %r3, 0;\nst.shared.b32 [%r3+-4], %r1;", "mov.b32 %r3, 0;\nst.shared.b64 [%r3+-8], %rd1;",
        "mov.b64 %rd3, -4;\nst.shared.b32 [%rd3], %r1;", "mov.b32 %r3, 0;\nld.shared.b32 %r4, [%r3+-4];",
        "mov.b32 %r3, 0;\ncp.async.cg.shared.global [%r3+-16], [%rd1], 16;",
        "mov.b32 %r3, -16;\nldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r4, %r5, %r6, %r7}, [%r3];"})
    EXPECT_NE(errorOf(kernel(body)).find("outside shared memory"), std::string::npos) << body << errorOf(kernel(body));
  for (const char *body :
       {"mov.b64 %rd3, -8;\nst.global.b64 [%rd3], %rd1;", "mov.b64 %rd3, 0;\nld.global.b32 %r3, [%rd3+-4];",
        "ld.global.b32 %r3, [8];", "mov.b64 %rd3, -4;\nred.global.add.f32 [%rd3], 0f3F800000;",
        "mov.b32 %r3, 0;\ncp.async.cg.shared.global [%r3], [%rd1+-16], 16;",
        "st.global.v4.b32 [%rd1+16384], {%r1, %r1, %r1, %r1};",
        "mov.b32 %r3, 0;\ncp.async.cg.shared.global [%r3], [0], 16;"})
    EXPECT_NE(errorOf(kernel(body)).find("outside all buffers"), std::string::npos) << body << errorOf(kernel(body));
  EXPECT_NE(errorOf(kernel("ld.param.b64 %rd3, [t_0+-8];")).find("past the parameters"), std::string::npos);
  EXPECT_NE(errorOf(kernel("ld.param.b64 %rd3, [t_0+8192];")).find("past the parameters"), std::string::npos);
  // A negative offset from a place inside is as good as any.
  EXPECT_EQ(errorOf(kernel("mul.wide.u32 %rd3, %r1, 4;\nadd.s64 %rd3, %rd3, %rd1;\nst.global.b32 [%rd3+-0], "
                           "0;\nmov.b32 %r3, 64;\nsetp.eq.b32 %p1, %r1, 0;\n@%p1 st.shared.b32 [%r3+-4], 7;")),
            "");
}

TEST(HostilePtx, sizesOfCopies) {
  for (const char *body : {"mov.b32 %r3, 0;\nmov.b32 %r4, -1;\ncp.async.cg.shared.global [%r3], [%rd1], 16, %r4;",
                           "mov.b32 %r3, 0;\ncp.async.cg.shared.global [%r3], [%rd1], 4096;",
                           "mov.b32 %r3, 0;\ncp.async.ca.shared.global [%r3], [%rd1], 0;",
                           "mov.b32 %r3, 0;\ncp.async.cg.shared.global [%r3], [%rd1], 8;",
                           "mov.b32 %r3, 0;\nmov.b32 %r4, 17;\ncp.async.cg.shared.global [%r3], [%rd1], 16, %r4;"})
    EXPECT_NE(errorOf(kernel(body)).find("cp.async of"), std::string::npos) << body;
}

TEST(HostilePtx, loopsThatNeverEnd) {
  for (const char *body :
       {"$L:\nbra.uni $L;", "$L:\nbar.sync 0;\nbra $L;", "setp.eq.b32 %p1, 0, 1;\n$L:\n@!%p1 bra $L;",
        "and.b32 %r3, %r1, 1;\nsetp.eq.b32 %p1, %r3, 0;\n$L:\n@%p1 bra $L;"})
    EXPECT_NE(errorOf(kernel(body)).find("the launch has executed 10000 warp instructions"), std::string::npos)
        << body << errorOf(kernel(body));
  // As many as it takes are enough.
  EXPECT_EQ(errorOf(kernel("mov.b32 %r3, 0;\n$L:\nadd.s32 %r3, %r3, 1;\nsetp.lt.u32 %p1, %r3, 2000;\n@%p1 bra $L;"),
                    4 * 6010 + 4096),
            "");
}

TEST(HostilePtx, operandsThatDoNotFit) {
  for (const char *body : {"bra %r1;",
                           "bra;",
                           "ret 1, 2, 3;",
                           "add.s32 %r3;",
                           "add.s32 %r3, %r1, %r1, %r1;",
                           "add.s32 3, %r1, %r1;",
                           "add.s32 [%rd1], %r1, %r1;",
                           "add.s64 %r3, %rd1, %rd1;",
                           "add.s32 %r3, %rd1, 1;",
                           "add.s32 %r3, {%r1, %r1}, 1;",
                           "mov.u32 %rd3, %tid.x;",
                           "add.s32 %r3, %tid.x, 1;",
                           "mov.b32 %r3, t_0;",
                           "ld.global.b32 %r3, [t_0];",
                           "ld.param.b32 %r3, [%rd1];",
                           "ld.global.b32 %r3, [%rs1];",
                           "ld.global.b32 %r3, [%tid.x];",
                           "ld.global.b32 %r3, %rd1;",
                           "ld.global.v2.b32 %r3, [%rd1];",
                           "ld.global.v4.b64 {%rd2, %rd3, %rd4, %rd5}, [%rd1];",
                           "ld.global.b32 %rs1, [%rd1];",
                           "ld.global.b32 5, [%rd1];",
                           "st.global.b32 %rd1, [%r1];",
                           "setp.eq.b32 %r3, %r1, 0;",
                           "selp.b32 %r3, 1, 2, %r1;",
                           "mov.b32 %r3, {%r1, %r1};",
                           "mov.b32 {%rs1, %r3}, %r1;",
                           "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%r2, %r3}, {%r1, %r1, %r1, %r1}, {%r1, "
                           "%r1}, {%r1, %r1, %r1, %r1};",
                           "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 %r2, %r1, %r1, %r1;",
                           "ldmatrix.sync.aligned.m8n8.x4.shared.b16 %r2, [%r1];",
                           "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r2, %r3, %r4, %r5}, %r1;",
                           "cp.async.wait_group %r1;",
                           "cp.async.wait_group;",
                           "bar.sync %r1;",
                           "shfl.sync.bfly.b32 %r3, %r1;",
                           "vote.sync.ballot.b32 %r3, %r1, -1;",
                           "mov.b16 %rs1, 70000;",
                           "mov.b32 %r3, 4294967296;",
                           "mov.b32 %r3, 0f;",
                           "mov.b32 %r3, 0x;",
                           "mov.b32 %r3, 99999999999999999999;",
                           "@%r1 ret;",
                           "add.s32 %r99, %r1, 1;",
                           "add.s32 %r01, %r1, 1;",
                           "mul.wide.s64 %rd3, %rd1, %rd1;",
                           "setp.hi.s32 %p1, %r1, 0;",
                           "$A:\n$A:",
                           "add.s32 %r3, %r1, $A;",
                           "shl.b32 %r3, %r1, %rd1;",
                           "cvt.u32.f16 %r3, %r1;",
                           "prmt.b64 %rd3, %rd1, %rd1, %rd1;",
                           ".shared .b8 late[4];"})
    EXPECT_NE(errorOf(kernel(body)), "") << body;
}

TEST(HostilePtx, declarationsWithoutMeasure) {
  EXPECT_EQ(errorOf(header(".shared .align 16 .b8 fixed[1024];\n") + "ret;\n}\n"), "");
  EXPECT_NE(
      errorOf(header(".shared .align 16 .b8 fixed[49153];\n") + "ret;\n}\n").find("bytes of static shared memory"),
      std::string::npos);
  EXPECT_NE(errorOf(header(".shared .b64 fixed[2147483648];\n") + "ret;\n}\n").find("bytes of static shared memory"),
            std::string::npos);
  EXPECT_NE(errorOf(header(".shared .b8 fixed[99999999999999999999];\n") + "ret;\n}\n"), "");
  EXPECT_NE(errorOf(header(".shared .b8 fixed[-1];\n") + "ret;\n}\n"), "");
  EXPECT_EQ(errorOf(header() + ".reg .b32 %r<2147483648>;\nmov.b32 %r2147483647, 1;\nret;\n}\n"), "");  // one register
  EXPECT_NE(errorOf(header() + ".reg .b32 %r<-1>;\nret;\n}\n"), "");
  EXPECT_NE(errorOf(header() + ".reg .b32 %r<9>;\n.reg .b64 %r<9>;\nret;\n}\n"), "");
  std::string many = header() + ".reg .b32 %r<70000>;\n";
  for (int at = 0; at < 70000; ++at) many += "mov.b32 %r" + std::to_string(at) + ", 0;\n";
  EXPECT_NE(errorOf(many + "ret;\n}\n").find("more than 65536 registers"), std::string::npos);
  // Branches inside one another, whose meeting points are the farthest apart.
  std::string nested = header() + ".reg .pred %p<2>;\nsetp.eq.b32 %p1, 0, 1;\n";
  for (int at = 0; at < 4000; ++at) nested += "@%p1 bra $L" + std::to_string(at) + ";\n";
  for (int at = 4000; at-- > 0;) nested += "$L" + std::to_string(at) + ":\n@%p1 bra $L" + std::to_string(at) + ";\n";
  EXPECT_EQ(errorOf(nested + "ret;\n}\n", 100000), "");
  std::string branches = header();
  for (int at = 0; at < 32769; ++at) branches += "ret;\n";
  EXPECT_NE(errorOf(branches + "}\n").find("more than 32768 branches"), std::string::npos);
  EXPECT_NE(errorOf(".version 7.0\n.target sm_80\n.visible .entry t(\n.param .b8 p[99999]\n)\n{\nret;\n}\n")
                .find("bytes of parameters"),
            std::string::npos);
  EXPECT_NE(errorOf(".version 7.0\n.target sm_80\n.visible .entry t()\n.reqntid 99999, 99999\n{\nret;\n}\n"), "");
}

TEST(HostilePtx, staticSharedMemoryLiesBeforeDynamic) {
  const std::string text =
      header(".shared .align 4 .b32 fixed[3];\n") +
      ".reg .pred %p<2>;\n.reg .b32 %r<9>;\nmov.u32 %r1, %tid.x;\nsetp.eq.b32 %p1, %r1, 0;\nmov.b32 %r2, smem;\n"
      "@%p1 st.shared.b32 [fixed+8], 7;\n@%p1 st.shared.b32 [%r2], 9;\n@%p1 ld.shared.b32 %r3, [fixed+8];\n@%p1 "
      "st.shared.b32 [%r2+16380], %r3;\n";
  EXPECT_EQ(errorOf(text + "ret;\n}\n"), "");
  EXPECT_NE(
      errorOf(text + "@%p1 st.shared.b32 [%r2+16384], %r3;\nret;\n}\n").find("outside shared memory of 16400 bytes"),
      std::string::npos);
}

TEST(HostilePtx, divisionsAndShiftsAreDefined) {
  // 64 threads: each has its place.
  auto compute = [](const std::string &instructions) {
    Arena arena;
    const std::string error = run(kernel("mul.wide.u32 %rd2, %r1, 8;\nadd.s64 %rd2, %rd2, %rd1;\nmov.b32 %r2, 0;\n" +
                                         instructions + "\nst.global.b64 [%rd2], %rd9;"),
                                  arena, 1000);
    EXPECT_EQ(error, "") << instructions;
    uint64_t result;
    std::memcpy(&result, arena.begin() + 8, 8);
    return result;
  };
  const std::string least = "mov.b64 %rd3, 0x8000000000000000;\nmov.b64 %rd4, -1;\n";
  EXPECT_EQ(compute(least + "div.s64 %rd9, %rd3, %rd4;"), 0x8000000000000000u);
  EXPECT_EQ(compute(least + "rem.s64 %rd9, %rd3, %rd4;"), 0u);
  EXPECT_EQ(compute(least + "abs.s64 %rd9, %rd3;"), 0x8000000000000000u);
  EXPECT_EQ(compute(least + "neg.s64 %rd9, %rd3;"), 0x8000000000000000u);
  EXPECT_EQ(compute(least + "mul.hi.s64 %rd9, %rd3, %rd3;"), 0x4000000000000000u);
  EXPECT_EQ(compute(least + "div.s64 %rd9, %rd3, 0;"), ~0u + (uint64_t{0xFFFFFFFF} << 32));
  EXPECT_EQ(compute(least + "rem.u64 %rd9, %rd3, 0;"), 0x8000000000000000u);
  EXPECT_EQ(compute("mov.b32 %r3, 0x80000000;\ndiv.s32 %r4, %r3, -1;\ncvt.u64.u32 %rd9, %r4;"), 0x80000000u);
  EXPECT_EQ(compute(least + "mov.b32 %r3, 4294967295;\nshl.b64 %rd9, %rd3, %r3;"), 0u);
  EXPECT_EQ(compute(least + "mov.b32 %r3, 4294967295;\nshr.s64 %rd9, %rd3, %r3;"), ~uint64_t{0});
  EXPECT_EQ(compute(least + "mov.b32 %r3, 64;\nshr.u64 %rd9, %rd3, %r3;"), 0u);
  EXPECT_EQ(compute(least + "bfe.u64 %rd9, %rd3, 200, 100;"), 0u);
  EXPECT_EQ(compute(least + "bfe.s64 %rd9, %rd3, 60, 100;"), ~uint64_t{7});
  EXPECT_EQ(compute("mov.b32 %r3, 0xF0;\nbfe.s32 %r4, %r3, 4, 4;\ncvt.u64.u32 %rd9, %r4;"), 0xFFFFFFFFu);
  EXPECT_EQ(compute("mov.b32 %r3, 0xF0;\nbfe.u32 %r4, %r3, 31, 255;\ncvt.u64.u32 %rd9, %r4;"), 0u);
  EXPECT_EQ(compute(least + "popc.b64 %r4, %rd4;\ncvt.u64.u32 %rd9, %r4;"), 64u);
  EXPECT_EQ(compute("mov.b32 %r3, 0x7FC00000;\ncvt.rzi.s64.f32 %rd9, %r3;"), 0x8000000000000000u);
  EXPECT_EQ(compute("mov.b32 %r3, 0x7F800000;\ncvt.rzi.u64.f32 %rd9, %r3;"), ~uint64_t{0});
}

// ---- random texts ------------------------------------------------------------------------------

std::vector<std::string> tokens(const std::string &text) {
  std::vector<std::string> all;
  for (size_t at = 0; at < text.size();) {
    size_t end = at + 1;
    auto word = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || (c && std::strchr("_$%.-", c)); };
    if (word(text[at]))
      while (end < text.size() && word(text[end])) ++end;
    all.push_back(text.substr(at, end - at));
    at = end;
  }
  return all;
}

/// What a token can be exchanged with and still parse: registers of one kind, labels, numbers, instructions of one
/// type.
std::string kindOf(const std::string &token) {
  if (token[0] == '%') return token.substr(0, token.find_first_of("0123456789"));
  if (token[0] == '$') return "$";
  if (std::isdigit(static_cast<unsigned char>(token[0])) || token[0] == '-') return "#";
  const size_t dot = token.rfind('.');
  return dot == std::string::npos || dot == 0 ? token : token.substr(dot);
}

/// Texts near real ones, some near enough to be run, some far enough to be wrong in every way.
class Mutator {
 public:
  Mutator(const std::vector<std::string> &texts, uint64_t seed) : random(seed) {
    for (const std::string &text : texts) {
      seeds.push_back(tokens(text));
      alike.emplace_back();
      for (const std::string &token : seeds.back()) alike.back()[kindOf(token)].push_back(token);
    }
  }

  std::string next() {
    const size_t which = below(seeds.size());
    const auto &base = seeds[which];
    if (below(12) == 0) return garbage();
    std::vector<std::string> all = base;
    if (below(3)) {
      for (size_t changes = 1 + below(4); changes > 0; --changes) gently(all, alike[which]);
    } else {
      roughly(all, base);
    }
    std::string text;
    for (const std::string &own : all) text += own;
    return text;
  }

 private:
  std::mt19937_64 random;
  std::vector<std::vector<std::string>> seeds;
  std::vector<std::map<std::string, std::vector<std::string>>> alike;

  size_t below(size_t count) { return random() % count; }
  /// A place behind the declarations.
  size_t place(const std::vector<std::string> &all) {
    const size_t body = static_cast<size_t>(std::find(all.begin(), all.end(), "{") - all.begin());
    return body + 1 < all.size() ? body + 1 + below(all.size() - body - 1) : below(all.size());
  }
  void gently(std::vector<std::string> &all, std::map<std::string, std::vector<std::string>> &kinds) {
    auto lineOf = [&](size_t at) {
      while (at > 0 && all[at] != "\n") --at;
      const auto begin = all.begin() + static_cast<int64_t>(at);
      return std::pair(begin, std::find(begin + 1, all.end(), "\n"));
    };
    const size_t at = place(all);
    const auto [begin, end] = lineOf(at);
    const std::vector<std::string> line(begin, end);
    switch (below(6)) {
      case 0: all.erase(begin, end); break;
      case 1: all.insert(begin, line.begin(), line.end()); break;
      case 2: {
        const auto to = lineOf(place(all)).first;
        all.insert(to, line.begin(), line.end());
        break;
      }
      default:
        for (int turn = 0; turn < 20; ++turn) {
          std::string &token = all[place(all)];
          const std::string kind = kindOf(token);
          if (kind == " " || kind == "\n" || kind == "\t" || kind.size() == 1 || !kinds.count(kind)) {
            if (kind != "#") continue;
            token = number();
          } else {
            token = kinds[kind][below(kinds[kind].size())];
          }
          break;
        }
    }
  }
  void roughly(std::vector<std::string> &all, const std::vector<std::string> &base) {
    for (size_t changes = size_t{1} << below(5); changes > 0; --changes) {
      // Blanks are half of all tokens, and changing one is no change.
      size_t at = below(all.size());
      for (int turn = 0; turn < 4 && std::isspace(static_cast<unsigned char>(all[at][0])); ++turn)
        at = below(all.size());
      switch (below(9)) {
        case 0: all[at] = token(); break;
        case 1: all[at] = base[below(base.size())]; break;
        case 2: all[at] = " "; break;
        case 3: all[at] += " " + token(); break;
        case 4: std::swap(all[at], all[below(all.size())]); break;
        case 5:
        case 6: all[at] = number(); break;
        case 7: all[at] = seeds[below(seeds.size())][0]; break;
        default: all[at][below(all[at].size())] = static_cast<char>(below(256));
      }
    }
    if (below(20) == 0) all.resize(below(all.size()) + 1);
  }
  std::string number() {
    static const char *const numbers[] = {"0",
                                          "1",
                                          "-1",
                                          "-4",
                                          "-8",
                                          "-16",
                                          "3",
                                          "15",
                                          "17",
                                          "31",
                                          "32",
                                          "33",
                                          "63",
                                          "64",
                                          "255",
                                          "1024",
                                          "65536",
                                          "2147483647",
                                          "2147483648",
                                          "-2147483648",
                                          "4294967295",
                                          "4294967296",
                                          "9223372036854775807",
                                          "-9223372036854775808",
                                          "18446744073709551615",
                                          "99999999999999999999",
                                          "0f7FC00000",
                                          "0f7F800000",
                                          "0f",
                                          "0x"};
    return below(4) ? numbers[below(std::size(numbers))] : std::to_string(static_cast<int64_t>(random()));
  }
  std::string token() {
    static const char *const words[] = {"%r1",
                                        "%rd1",
                                        "%p1",
                                        "%rs1",
                                        "%tid.x",
                                        "%ctaid.x",
                                        "{",
                                        "}",
                                        "[",
                                        "]",
                                        "(",
                                        ")",
                                        "<",
                                        ">",
                                        ",",
                                        ";",
                                        ":",
                                        "@",
                                        "!",
                                        "+",
                                        "-",
                                        "//",
                                        "\n",
                                        ".reg",
                                        ".shared",
                                        ".param",
                                        ".entry",
                                        ".align",
                                        ".b8",
                                        ".b64",
                                        ".pred",
                                        ".extern",
                                        "bra",
                                        "bra.uni",
                                        "ret",
                                        "bar.sync",
                                        "bar.warp.sync",
                                        "add.s32",
                                        "div.s64",
                                        "rem.s32",
                                        "shl.b64",
                                        "bfe.s32",
                                        "mov.b64",
                                        "ld.shared.b32",
                                        "ld.shared.v4.b32",
                                        "st.shared.b64",
                                        "ld.global.v2.b64",
                                        "st.global.b8",
                                        "ld.param.b64",
                                        "cp.async.cg.shared.global",
                                        "cp.async.ca.shared.global",
                                        "cp.async.commit_group",
                                        "cp.async.wait_group",
                                        "atom.global.add.f32",
                                        "ldmatrix.sync.aligned.m8n8.x4.shared.b16",
                                        "shfl.sync.bfly.b32",
                                        "vote.sync.ballot.b32",
                                        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32",
                                        "cvt.rzi.s64.f32",
                                        "cvt.u16.u8",
                                        "ex2.approx.ftz.f32",
                                        "tanh.approx.f32",
                                        "prmt.b32",
                                        "smem",
                                        "t_0",
                                        ".maxnreg",
                                        ".reqntid"};
    return below(3) ? words[below(std::size(words))] : number();
  }
  std::string garbage() {
    std::string text = below(2) ? header() : "";
    for (size_t count = below(200); count > 0; --count) text += token() + (below(3) ? " " : "");
    return text;
  }
};

/// Kernels as the compiler writes them, small, and a text with what they lack.
std::vector<std::string> realKernels() {
  std::vector<std::string> texts{kernel(
      "mov.b32 %r2, smem;\nmul.wide.u32 %rd2, %r1, 16;\nadd.s64 %rd3, %rd1, %rd2;\ncvt.u32.u64 %r3, %rd2;\nadd.s32 "
      "%r3, %r3, %r2;\ncp.async.cg.shared.global [%r3], [%rd3], 16;\n"
      "cp.async.commit_group;\ncp.async.wait_group 0;\nbar.sync 0;\nldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r4, "
      "%r5, %r6, %r7}, [%r3];\nmov.b32 %r8, 0;\n"
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%r9, %r10, %r11, %r12}, {%r4, %r5, %r6, %r7}, {%r4, %r5}, "
      "{%r8, %r8, %r8, %r8};\n$LOOP:\nadd.s32 %r8, %r8, 1;\nsetp.lt.s32 %p1, %r8, %r1;\n"
      "@%p1 bra $LOOP;\nshfl.sync.bfly.b32 %r13, %r9, 1, 31, -1;\ndiv.s32 %r14, %r8, 3;\nrem.s64 %rd4, %rd2, "
      "7;\nst.shared.v2.b32 [%r3], {%r13, %r14};\nbar.warp.sync -1;\nld.shared.b64 %rd5, [%r3];\n"
      "mov.u32 %r15, %ctaid.x;\nsetp.eq.b32 %p2, %r15, 0;\n@%p2 st.global.b64 [%rd3+1024], %rd5;\nred.global.add.f32 "
      "[%rd1+8192], 0f3F800000;\nvote.sync.ballot.b32 %r16, %p1, -1;\nbfe.s32 %r17, %r16, %r1, 5;\n"
      "shl.b64 %rd6, %rd2, %r17;\nex2.approx.ftz.f32 %r18, %r9;\ncvt.rzi.s32.f32 %r19, %r18;\nmov.b32 {%rs1, %rs2}, "
      "%r19;\nprmt.b32 %r20, %r19, %r18, 0x5410;")};
  auto variant = testing::variantOf("causal");
  const std::pair<const char *, ElementType> kernels[] = {{"plan_band", ElementType::F32},
                                                          {"forward", ElementType::BF16}};
  for (const auto &[name, type] : kernels) {
    CompileRequest request;
    request.variant = variant;
    request.kernel = name;
    request.type = type;
    request.target = "sm_80";
    request.dims = {{"D", 16}, {"E", 16}};
    request.schedule.tileQ = request.schedule.tileK = 16;
    request.schedule = fitted(request.schedule, *variant);
    request.stage = Stage::Assembly;
    CompileResult result = compile(request);
    EXPECT_EQ(result.error, "");
    texts.push_back(std::move(result.text));
  }
  return texts;
}

std::string entryOf(const std::string &text) {
  const size_t begin = text.find(".entry ");
  if (begin == std::string::npos) return "t";
  size_t end = begin + 7;
  while (end < text.size() && (std::isalnum(static_cast<unsigned char>(text[end])) || text[end] == '_')) ++end;
  return text.substr(begin + 7, end - begin - 7);
}

/// WEFT_PTX_FUZZ_COUNT, WEFT_PTX_FUZZ_SEED: how many, from where.
TEST(HostilePtx, randomTexts) {
  auto number = [](const char *name, uint64_t otherwise) {
    const char *value = std::getenv(name);
    return value ? std::strtoull(value, nullptr, 10) : otherwise;
  };
  const uint64_t count = number("WEFT_PTX_FUZZ_COUNT", 3000), first = number("WEFT_PTX_FUZZ_SEED", 1);
  const std::vector<std::string> texts = realKernels();
  // Unharmed they get as far as their arguments let them.
  for (const std::string &text : texts) {
    Arena arena;
    const std::string error = run(text, arena, 1 << 20, entryOf(text), 128);
    EXPECT_EQ(error.find("ptx line"), std::string::npos) << error;
  }
  Mutator mutator(texts, first);
  uint64_t ran = 0, parsed = 0;
  for (uint64_t at = 0; at < count; ++at) {
    const std::string text = mutator.next();
    Arena arena;
    const std::string error = run(text, arena, 5000, entryOf(text), at % 2 ? 64 : 128, at % 3 ? 16384 : 1024);
    ASSERT_TRUE(arena.intact()) << "seed " << first << ", text " << at << ":\n" << text;
    ran += error.empty();
    parsed += error.find("ptx line") == std::string::npos;
  }
  // Neither all refused at once nor all harmless.
  EXPECT_GT(parsed, count / 20);
  EXPECT_LT(ran, count);
  RecordProperty("parsed", static_cast<int>(parsed));
  RecordProperty("ran", static_cast<int>(ran));
  std::printf("%llu texts: %llu parsed, %llu ran to the end\n", static_cast<unsigned long long>(count),
              static_cast<unsigned long long>(parsed), static_cast<unsigned long long>(ran));
}

}  // namespace
}  // namespace weft::ptx
