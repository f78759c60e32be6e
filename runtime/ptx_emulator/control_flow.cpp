// Where the lanes of a warp meet again after a branch: the branch's immediate post-dominator.
#include <algorithm>

#include "runtime/ptx_emulator/program.h"

namespace weft::ptx {

/// Cooper, Harvey and Kennedy's algorithm on the reversed graph of basic blocks; block `exit` is the end.
void findJoins(Kernel &kernel) {
  const int size = static_cast<int>(kernel.code.size());
  auto isBranch = [&](int at) { return kernel.code[at].ends != Instruction::Ends::No; };
  auto targetOf = [&](int at) { return kernel.code[at].operands[0][0].index; };
  std::vector<bool> leads(size + 1, false);
  leads[0] = leads[size] = true;
  for (int at = 0; at < size; ++at)
    if (isBranch(at)) {
      leads[at + 1] = true;
      if (kernel.code[at].ends == Instruction::Ends::Branch) leads[targetOf(at)] = true;
    }
  std::vector<int> blockOf(size + 1), firstOf;
  for (int at = 0; at <= size; ++at) {
    if (leads[at]) firstOf.push_back(at);
    blockOf[at] = static_cast<int>(firstOf.size()) - 1;
  }
  const int exit = blockOf[size];
  std::vector<std::vector<int>> next(exit + 1);
  for (int block = 0; block < exit; ++block) {
    const int last = firstOf[block + 1] - 1;
    const Instruction &end = kernel.code[last];
    if (end.ends == Instruction::Ends::Return) next[block].push_back(exit);
    if (end.ends == Instruction::Ends::Branch) next[block].push_back(blockOf[targetOf(last)]);
    if (end.ends == Instruction::Ends::No || end.guard >= 0) next[block].push_back(block + 1);
  }
  std::vector<std::vector<int>> previous(exit + 1);
  for (int block = 0; block <= exit; ++block)
    for (int to : next[block]) previous[to].push_back(block);
  // Post-order of the reversed graph from the exit.
  std::vector<int> order, number(exit + 1, -1), state(exit + 1, 0), path{exit};
  std::vector<size_t> taken(exit + 1, 0);
  state[exit] = 1;
  while (!path.empty()) {
    const int block = path.back();
    if (taken[block] < previous[block].size()) {
      const int to = previous[block][taken[block]++];
      if (!state[to]) {
        state[to] = 1;
        path.push_back(to);
      }
    } else {
      number[block] = static_cast<int>(order.size());
      order.push_back(block);
      path.pop_back();
    }
  }
  std::vector<int> join(exit + 1, -1);
  join[exit] = exit;
  for (bool changed = true; changed;) {
    changed = false;
    for (auto block = order.rbegin(); block != order.rend(); ++block) {
      if (*block == exit) continue;
      int own = -1;
      for (int to : next[*block]) {
        if (join[to] < 0) continue;
        int other = to;
        if (own < 0) own = other;
        while (own != other) {
          while (number[own] < number[other]) own = join[own];
          while (number[other] < number[own]) other = join[other];
        }
      }
      if (own >= 0 && join[*block] != own) {
        join[*block] = own;
        changed = true;
      }
    }
  }
  for (int block = 0; block < exit; ++block) {
    Instruction &end = kernel.code[firstOf[block + 1] - 1];
    // A block that never reaches the end (an endless loop) joins nowhere.
    end.join = join[block] < 0 ? size : firstOf[join[block]];
  }
}

}  // namespace weft::ptx
