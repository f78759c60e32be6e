#include "tests/unit/ptx_mutator.h"

#include <algorithm>
#include <cctype>
#include <cstring>

#include "tests/unit/ptx_text.h"

namespace weft::ptx {
namespace {

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

}  // namespace

Mutator::Mutator(const std::vector<std::string> &texts, uint64_t seed) : random(seed) {
  for (const std::string &text : texts) {
    seeds.push_back(tokens(text));
    alike.emplace_back();
    for (const std::string &token : seeds.back()) alike.back()[kindOf(token)].push_back(token);
  }
}

std::string Mutator::next() {
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

size_t Mutator::place(const std::vector<std::string> &all) {
  const size_t body = static_cast<size_t>(std::find(all.begin(), all.end(), "{") - all.begin());
  return body + 1 < all.size() ? body + 1 + below(all.size() - body - 1) : below(all.size());
}

void Mutator::gently(std::vector<std::string> &all, std::map<std::string, std::vector<std::string>> &kinds) {
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

void Mutator::roughly(std::vector<std::string> &all, const std::vector<std::string> &base) {
  for (size_t changes = size_t{1} << below(5); changes > 0; --changes) {
    // Blanks are half of all tokens, and changing one is no change.
    size_t at = below(all.size());
    for (int turn = 0; turn < 4 && std::isspace(static_cast<unsigned char>(all[at][0])); ++turn) at = below(all.size());
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

std::string Mutator::number() {
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

std::string Mutator::token() {
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
                                      "red.relaxed.gpu.global.add.v2.f32",
                                      "ldmatrix.sync.aligned.m8n8.x4.shared.b16",
                                      "shfl.sync.bfly.b32",
                                      "vote.sync.ballot.b32",
                                      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32",
                                      "cvt.rzi.s64.f32",
                                      "cvt.u16.u8",
                                      "ex2.approx.ftz.f32",
                                      "tanh.approx.f32",
                                      "prmt.b32",
                                      "mbarrier.init.shared::cta.b64",
                                      "mbarrier.inval.shared.b64",
                                      "mbarrier.arrive.shared::cta.b64",
                                      "mbarrier.arrive.expect_tx.shared::cta.b64",
                                      "mbarrier.arrive_drop.shared.b64",
                                      "mbarrier.expect_tx.shared.b64",
                                      "mbarrier.complete_tx.shared.b64",
                                      "mbarrier.try_wait.parity.shared::cta.b64",
                                      "mbarrier.test_wait.shared.b64",
                                      "cp.async.mbarrier.arrive.noinc.shared.b64",
                                      "barrier.cta.sync.aligned",
                                      "barrier.cta.arrive.aligned",
                                      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes",
                                      "cp.async.bulk.tensor.3d.shared::cta.global.mbarrier::complete_tx::bytes",
                                      "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group",
                                      "cp.reduce.async.bulk.tensor.3d.global.shared::cta.add.bulk_group",
                                      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes",
                                      "cp.async.bulk.global.shared::cta.bulk_group",
                                      "cp.async.bulk.commit_group",
                                      "cp.async.bulk.wait_group.read",
                                      "prefetch.tensormap",
                                      "fence.proxy.async",
                                      "elect.sync",
                                      "setmaxnreg.dec.sync.aligned.u32",
                                      "wgmma.fence.sync.aligned",
                                      "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16",
                                      "wgmma.mma_async.sync.aligned.m64n16k8.f32.tf32.tf32",
                                      "wgmma.commit_group.sync.aligned",
                                      "wgmma.wait_group.sync.aligned",
                                      "stmatrix.sync.aligned.m8n8.x2.trans.shared.b16",
                                      "cvta.shared.u64",
                                      "mapa.shared::cluster.u32",
                                      "_",
                                      "|",
                                      "smem",
                                      "t_0",
                                      ".maxnreg",
                                      ".reqntid"};
  return below(3) ? words[below(std::size(words))] : number();
}

std::string Mutator::garbage() {
  std::string text = below(2) ? header() : "";
  for (size_t count = below(200); count > 0; --count) text += token() + (below(3) ? " " : "");
  return text;
}

}  // namespace weft::ptx
