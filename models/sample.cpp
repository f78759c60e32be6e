#include "models/sample.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <string_view>

#include <torch/utils.h>

#include "models/decoder.h"
#include "models/interrupt.h"
#include "models/spelling.h"

namespace weft {

using torch::Tensor;

namespace {

void check(const SampleOptions &options) {
  if (!(options.temperature >= 0 && std::isfinite(options.temperature)))
    throw std::invalid_argument("expected a temperature of 0 or more, got " + shortNumber(options.temperature));
  if (options.length < 0)
    throw std::invalid_argument("expected a length of 0 or more, got " + std::to_string(options.length));
  if (options.topK < 1 || options.topK > 256)
    throw std::invalid_argument("expected a top k from 1 to 256, got " + std::to_string(options.topK));
  if (!(options.topP > 0 && options.topP <= 1))
    throw std::invalid_argument("expected a top p above 0, at most 1, got " + shortNumber(options.topP));
  for (const std::string &stop : options.stop)
    if (stop.empty()) throw std::invalid_argument("expected a text to stop before, got an empty one");
}

/// A byte drawn by logits [256].
int64_t choose(const Tensor &logits, const SampleOptions &options, const at::Generator &generator) {
  if (options.temperature == 0) return logits.argmax().item<int64_t>();
  Tensor shares = torch::softmax((logits - logits.max()).to(torch::kDouble) / options.temperature, 0);
  if (options.topK < 256 || options.topP < 1) {
    const auto [sorted, order] = shares.sort(/*stable=*/true, /*dim=*/0, /*descending=*/true);
    // A byte counts where those before it do not have the probability together yet: at least one does.
    Tensor kept = sorted.cumsum(0) - sorted < options.topP;
    kept.slice(0, options.topK, 256).fill_(false);
    shares = torch::zeros_like(shares).scatter(0, order, sorted * kept);
  }
  return torch::multinomial(shares, 1, false, generator).item<int64_t>();
}

/// Passes on what cannot be part of a text to stop before.
class Stops {
 public:
  Stops(const std::vector<std::string> &texts, const std::function<void(char)> &emit) : texts(texts), emit(emit) {}

  /// False where the text has come to its end.
  bool add(char byte) {
    held += byte;
    for (const std::string &text : texts)
      if (held.ends_with(text)) {
        release(held.size() - text.size());
        return false;
      }
    size_t kept = 0;  // the most bytes that a text may begin with
    for (const std::string &text : texts)
      for (size_t size = std::min(held.size(), text.size() - 1); size > kept; --size)
        if (held.ends_with(std::string_view(text).substr(0, size))) kept = size;
    release(held.size() - kept);
    return true;
  }
  /// No more bytes come.
  void finish() { release(held.size()); }

 private:
  const std::vector<std::string> &texts;
  const std::function<void(char)> &emit;
  std::string held;

  void release(size_t count) {
    for (size_t at = 0; at < count; ++at) emit(held[at]);
    held.erase(0, count);
  }
};

}  // namespace

void sample(Gpt &model, const std::string &prompt, const SampleOptions &options,
            const std::function<void(char)> &emit) {
  check(options);
  torch::NoGradGuard guard;
  model->eval();
  auto generator = at::make_generator<at::CPUGeneratorImpl>(options.seed);
  std::vector<int64_t> bytes;
  for (unsigned char c : prompt) bytes.push_back(c);
  if (bytes.empty()) bytes.push_back('\n');
  const size_t context = static_cast<size_t>(model->config.context);
  /// The newest `count` bytes.
  auto newest = [&](size_t count) {
    return torch::tensor(
        std::vector<int64_t>(bytes.end() - static_cast<std::ptrdiff_t>(std::min(count, bytes.size())), bytes.end()));
  };
  std::optional<Decoder> decoder;
  if (options.cache && Decoder::supports(model)) decoder.emplace(model);
  Stops stops(options.stop, emit);
  for (int64_t made = 0; made < options.length && !interrupted(); ++made) {
    Tensor logits;
    if (!decoder) {
      logits = model->forward(newest(context).unsqueeze(0).to(model->device()))[0][-1].cpu();
    } else if (decoder->position() == 0) {
      logits = decoder->advance(newest(context))[-1].cpu();
    } else if (decoder->position() == model->config.context) {
      // There are as many positions as the model was trained on: past the last one the text goes on from its newer
      // half.
      decoder->reset();
      logits = decoder->advance(newest(std::max<size_t>(1, context / 2)))[-1].cpu();
    } else {
      logits = decoder->advance(newest(1))[-1].cpu();
    }
    const int64_t next = choose(logits, options, generator);
    // Nothing looks further back than the context; a text may be long.
    if (bytes.size() >= 2 * context) bytes.erase(bytes.begin(), bytes.end() - static_cast<std::ptrdiff_t>(context));
    bytes.push_back(next);
    if (!stops.add(static_cast<char>(next))) return;
  }
  stops.finish();
}

}  // namespace weft
