// What the emulator does not execute, in words: instructions that are there, and that it has no way to run rightly.
#include "runtime/ptx_emulator/handlers.h"

namespace weft::ptx {
namespace {

bool begins(const Opcode &opcode, std::initializer_list<const char *> words) {
  size_t at = 0;
  for (const char *word : words)
    if (at >= opcode.size() || opcode[at++] != word) return false;
  return true;
}

/// One of the words has `part` in it.
bool names(const Opcode &opcode, const char *part) { return opcode.text.find(part) != std::string::npos; }

}  // namespace

std::string reasonOf(const Opcode &opcode) {
  if (begins(opcode, {"tcgen05"})) return "tensor cores of sm_100 and tensor memory are not executed";
  if (names(opcode, "multicast::cluster")) return "copies to several blocks of a cluster are not executed";
  if (names(opcode, "cta_group")) return "pairs of blocks are not executed";
  if (names(opcode, "im2col") || names(opcode, "tile::gather4") || names(opcode, "tile::scatter4") ||
      begins(opcode, {"tensormap"}))
    return "of tensor maps only boxes that are encoded before the launch are executed";
  // Those into a block's own shared memory name it so, too.
  if (names(opcode, "shared::cluster.global")) return "this bulk copy is not executed";
  if (names(opcode, "shared::cluster") || begins(opcode, {"barrier", "cluster"}) || begins(opcode, {"mapa"}) ||
      begins(opcode, {"getctarank"}) || begins(opcode, {"st", "async"}) || begins(opcode, {"red", "async"}) ||
      begins(opcode, {"clusterlaunchcontrol"}))
    return "only clusters of one block are executed";
  if (names(opcode, "e4m3") || names(opcode, "e5m2") || names(opcode, "e2m1") || names(opcode, "e3m2") ||
      names(opcode, "e2m3") || names(opcode, "ue8m0"))
    return "of numbers of 8 bits and fewer only conversions of e4m3x2 and e5m2x2 are executed";
  if (names(opcode, ".sp.") || names(opcode, "::ordered_metadata")) return "sparse products are not executed";
  if (begins(opcode, {"mma"}) || begins(opcode, {"wmma"}) || begins(opcode, {"wgmma"}))
    return "products of this shape or of these types are not executed";
  if (begins(opcode, {"cp", "async", "bulk"}) || begins(opcode, {"cp", "reduce", "async", "bulk"}))
    return "this bulk copy is not executed";
  if (begins(opcode, {"multimem"})) return "memory of several GPUs is not executed";
  if (begins(opcode, {"tex"}) || begins(opcode, {"tld4"}) || begins(opcode, {"suld"}) || begins(opcode, {"sust"}) ||
      begins(opcode, {"sured"}))
    return "textures and surfaces are not executed";
  if (begins(opcode, {"call"})) return "calls are not executed";
  if (names(opcode, ".local.")) return "local memory is not executed";
  return "";
}

}  // namespace weft::ptx
