#include "models/mass.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <stdexcept>

#include <torch/utils.h>

#include "models/interrupt.h"
#include "ops/attention.h"
#include "ops/pieces.h"
#include "ops/variant_library.h"

namespace weft {

using torch::Tensor;

namespace {

constexpr int64_t bins = 10000;  // of masses from 0 to 1; one more for 1 itself
constexpr size_t rowsAtOnce = 8;

/// What is added up over batches and processes, a row for each layer and head: queries, mass, kept pairs, kept tiles,
/// tiles of exact attention, then how many rows have which mass.
enum Column : int64_t { Queries, Mass, Pairs, Tiles, ExactTiles, Calls, FirstBin };

/// Of each head the share of a dense kernel's tiles; summed over the batch. [H]
Tensor tileShares(const std::string &variant, const AttentionInputs &call, int64_t heads) {
  const ops::KeptTiles kept = ops::keptTiles(variant, call.names, call.tensors);
  const double all = static_cast<double>(call.tensors[1].size(2));
  Tensor shares = torch::zeros({heads}, torch::kDouble);
  for (size_t at = 0; at < kept.kept.size(); ++at)
    shares[static_cast<int64_t>(at) % heads] +=
        static_cast<double>(kept.kept[at]) / static_cast<double>(kept.total) * static_cast<double>(kept.keys) / all;
  return shares;
}

Tensor logSumExp(const std::string &variant, const AttentionInputs &call) {
  return std::get<1>(ops::attentionWithLse(variant, call.names, call.tensors)).to(torch::kDouble);
}

/// By [H] of rows [B, H, T].
Tensor byHead(const Tensor &rows) { return rows.transpose(0, 1).flatten(1); }

}  // namespace

MassMeasure::MassMeasure(Gpt ownModel, Gpt selecting, const Tensor &text, int64_t limit,
                         std::shared_ptr<Processes> group)
    : model(std::move(ownModel)),
      other(std::move(selecting)),
      variant(lastingText(other->config.attention)),
      made(massTexts(*findVariant(variant))),
      processes(std::move(group)) {
  const std::string attention = lastingText(model->config.attention);
  ownAttention = attention == variant;
  if (!ownAttention) {
    const MassTexts own = massTexts(*findVariant(attention));
    if (own.score != made.score || findVariant(attention)->hasWeight())
      throw std::invalid_argument("--mass: expected a variant with the scores of the model's attention '" +
                                  model->config.attention + "', " + own.score +
                                  (findVariant(attention)->hasWeight() ? " and its weight" : "") + "; '" +
                                  other->config.attention + "' has " + made.score);
  }
  const int64_t context = model->config.context, end = limit > 0 ? std::min(limit, text.size(0)) : text.size(0);
  for (int64_t first = 0; first + context <= end; first += context)
    windows.push_back(text.slice(0, first, first + context).to(torch::kInt64));
  if (windows.empty())
    throw std::invalid_argument("expected a split, and a --limit, of at least the context of " +
                                std::to_string(context) + " bytes");
  torch::NoGradGuard guard;
  for (const Block &block : other->blocks) numbers.push_back(block->attention->made->numbers());
}

AttentionInputs MassMeasure::callOf(size_t layer, const AttentionInputs &own, const DialValues &dial) const {
  AttentionInputs call;
  for (const InputInfo &input : findVariant(variant)->inputs()) {
    const bool tokens = input.name == "q" || input.name == "k" || input.name == "v";
    const auto found = numbers[layer].find(input.name);
    const auto at = std::find(own.names.begin(), own.names.end(), input.name) - own.names.begin();
    call.names.push_back(input.name);
    if (input.name == dial.name) call.tensors.push_back(dial.layers[layer].to(own.tensors[0].device()));
    else if (!tokens && found != numbers[layer].end()) call.tensors.push_back(found->second);
    else call.tensors.push_back(own.tensors.at(static_cast<size_t>(at)));
  }
  return call;
}

MassFigures MassMeasure::measure(const DialValues &dial, bool wholly, const std::string &note) {
  torch::NoGradGuard guard;
  model->eval();
  const int64_t context = model->config.context, heads = model->config.heads;
  const auto layers = static_cast<int64_t>(model->blocks.size());
  const int64_t columns = wholly ? FirstBin + bins + 1 : FirstBin;
  Tensor sums = torch::zeros({layers, heads, columns}, torch::kDouble);
  const std::string attention = lastingText(model->config.attention);
  const bool selects = findVariant(variant)->selects();
  auto look = [&](size_t layer, const AttentionInputs &own) {
    const AttentionInputs all = callOf(layer, own, dial);
    AttentionInputs kept = all;
    if (selects) {
      kept.names.push_back("selection");
      kept.tensors.push_back(ops::selectTiles(variant, all.names, all.tensors));
    }
    const Tensor whole = logSumExp(made.exact, all);
    const Tensor mass = byHead((logSumExp(made.kept, kept) - whole).exp().clamp_max(1)).cpu();
    Tensor row = sums[static_cast<int64_t>(layer)];
    row.select(1, Queries) += static_cast<double>(mass.size(1));
    row.select(1, Mass) += mass.sum(1);
    if (wholly) {
      row.select(1, Pairs) += byHead(logSumExp(made.counted, kept).exp().round()).sum(1).cpu();
      row.select(1, Tiles) += tileShares(variant, kept, heads);
      row.select(1, ExactTiles) += tileShares(made.exact, all, heads);
      row.select(1, Calls) += static_cast<double>(own.tensors[0].size(0));
      const Tensor bin = (mass * bins).floor().to(torch::kInt64);
      row.slice(1, FirstBin).scatter_add_(1, bin, torch::ones_like(mass));
    }
    return ops::attention(attention, own.names, own.tensors);
  };
  const bool terminal = isatty(STDERR_FILENO) && processes->first();
  const size_t turn = rowsAtOnce * static_cast<size_t>(processes->size());
  double read = 0;
  for (size_t first = rowsAtOnce * static_cast<size_t>(processes->rank()); first < windows.size(); first += turn) {
    const size_t last = std::min(windows.size(), first + rowsAtOnce);
    const Tensor tokens = torch::stack(std::vector<Tensor>(windows.begin() + static_cast<ptrdiff_t>(first),
                                                           windows.begin() + static_cast<ptrdiff_t>(last)))
                              .to(model->device());
    static_cast<void>(model->forward(tokens, {{0, context}}, look));
    read += static_cast<double>(last - first);
    if (terminal)
      std::fprintf(stderr, "\r%s%3.0f%% ", note.c_str(),
                   100.0 * static_cast<double>(last) / static_cast<double>(windows.size()));
    if (interrupted()) break;
  }
  std::vector<double> flat(sums.data_ptr<double>(), sums.data_ptr<double>() + sums.numel());
  flat.push_back(read);
  flat = processes->sum(flat);
  if (terminal) std::fprintf(stderr, "\r%*s\r", static_cast<int>(note.size()) + 5, "");
  MassFigures figures;
  figures.complete = flat.back() == static_cast<double>(windows.size());
  if (!figures.complete) return figures;
  figures.bytes = static_cast<int64_t>(windows.size()) * context;
  const double pairs = static_cast<double>(context) * static_cast<double>(context + 1) / 2;
  for (int64_t layer = 0; layer < layers; ++layer)
    for (int64_t head = 0; head < heads; ++head) {
      const double *own = &flat[static_cast<size_t>((layer * heads + head) * columns)];
      HeadMass entry{layer, head};
      entry.mean = own[Mass] / own[Queries];
      if (wholly) {
        entry.pairs = own[Pairs] / (own[Calls] * pairs);
        entry.tiles = own[Tiles] / own[Calls];
        figures.exactTiles = own[ExactTiles] / own[Calls];
        // Of one row in a hundred, of the first one.
        auto reaches = [&](double rows) {
          double seen = 0;
          int64_t bin = 0;
          while (bin < bins && (seen += own[FirstBin + bin]) < rows) ++bin;
          return static_cast<double>(bin) / bins;
        };
        entry.low = reaches(0.01 * own[Queries]);
        entry.least = reaches(1);
      }
      figures.heads.push_back(entry);
    }
  return figures;
}

}  // namespace weft
