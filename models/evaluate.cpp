#include "models/evaluate.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <stdexcept>

#include <ATen/core/Reduction.h>
#include <torch/utils.h>

#include "models/interrupt.h"

namespace weft {

using torch::Tensor;

Evaluation evaluate(Gpt &model, const Tensor &text, int64_t stride, int64_t limit, bool show,
                    const std::shared_ptr<Processes> &processes) {
  torch::NoGradGuard guard;
  model->eval();
  const int64_t context = model->config.context;
  if (stride < 1 || stride > context)
    throw std::invalid_argument("expected a stride from 1 to the context of " + std::to_string(context));
  const int64_t end = limit > 0 ? std::min(limit + 1, text.size(0)) : text.size(0);
  if (end < context + 1)
    throw std::invalid_argument("expected a split, and a --limit, of more bytes than the context of " +
                                std::to_string(context));
  constexpr int64_t rows = 16;
  Evaluation result;
  double sum = 0;
  const bool terminal = show && isatty(STDERR_FILENO) && processes->first();
  // Windows start at 0, stride, 2 stride, ...; the last one ends with the text.
  std::vector<std::pair<int64_t, int64_t>> windows{{0, context}};  // start, bytes that count
  for (int64_t done = context; done < end - 1;) {
    const int64_t count = std::min(stride, end - 1 - done);
    windows.push_back({done + count - context, count});
    done += count;
  }
  // Batches of windows, the same ones however many processes take turns at them.
  size_t read = 0;
  const auto processRows = static_cast<size_t>(rows * processes->size());
  for (size_t first = static_cast<size_t>(rows * processes->rank()); first < windows.size(); first += processRows) {
    const size_t last = std::min(windows.size(), first + rows);
    std::vector<Tensor> inputs, targets;
    for (size_t at = first; at < last; ++at) {
      const int64_t start = windows[at].first;
      inputs.push_back(text.slice(0, start, start + context).to(torch::kInt64));
      targets.push_back(text.slice(0, start + 1, start + context + 1).to(torch::kInt64));
    }
    const Tensor logits = model->forward(torch::stack(inputs).to(model->device()));
    const Tensor losses = torch::cross_entropy_loss(logits.transpose(1, 2), torch::stack(targets).to(model->device()),
                                                    {}, at::Reduction::None);
    for (size_t at = first; at < last; ++at) {
      const int64_t count = windows[at].second;
      sum += losses[static_cast<int64_t>(at - first)]
                 .slice(0, context - count, context)
                 .sum(torch::kFloat64)
                 .item<double>();
      result.bytes += count;
    }
    read += last - first;
    if (terminal)
      std::fprintf(stderr, "\r%3.0f%%  bpc %.4f ",
                   100.0 * static_cast<double>(last) / static_cast<double>(windows.size()),
                   sum / M_LN2 / static_cast<double>(result.bytes));
    if (interrupted()) break;
  }
  const std::vector<double> all = processes->sum({sum, static_cast<double>(result.bytes), static_cast<double>(read)});
  sum = all[0];
  result.bytes = static_cast<int64_t>(all[1]);
  result.complete = all[2] == static_cast<double>(windows.size());
  if (terminal) std::fprintf(stderr, "\n");
  result.bpc = sum / M_LN2 / static_cast<double>(result.bytes);
  return result;
}

}  // namespace weft
