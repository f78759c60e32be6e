#include "models/sample.h"

#include <stdexcept>

#include "models/decoder.h"
#include "models/interrupt.h"

namespace weft {

using torch::Tensor;

void sample(Gpt &model, const std::string &prompt, int64_t length, double temperature, uint64_t seed, bool cache,
            const std::function<void(char)> &emit) {
  if (!(temperature >= 0)) throw std::invalid_argument("expected a temperature of 0 or more");
  if (length < 0) throw std::invalid_argument("expected a length of 0 or more, got " + std::to_string(length));
  torch::NoGradGuard guard;
  model->eval();
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
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
  if (cache && Decoder::supports(model)) decoder.emplace(model);
  for (int64_t made = 0; made < length && !interrupted(); ++made) {
    Tensor logits;
    if (!decoder) {
      logits = model->forward(newest(context).unsqueeze(0).to(model->device()))[0][-1].cpu();
    } else if (decoder->position() == 0) {
      logits = decoder->advance(newest(context))[-1].cpu();
    } else if (decoder->position() == model->config.context) {
      // Positions are learned: past the last one the text goes on from its newer half.
      decoder->reset();
      logits = decoder->advance(newest(std::max<size_t>(1, context / 2)))[-1].cpu();
    } else {
      logits = decoder->advance(newest(1))[-1].cpu();
    }
    const int64_t next =
        temperature == 0
            ? logits.argmax().item<int64_t>()
            : torch::multinomial(torch::softmax((logits - logits.max()).to(torch::kDouble) / temperature, 0), 1, false,
                                 generator)
                  .item<int64_t>();
    // Nothing looks further back than the context; a text may be long.
    if (bytes.size() >= 2 * context) bytes.erase(bytes.begin(), bytes.end() - static_cast<std::ptrdiff_t>(context));
    bytes.push_back(next);
    emit(static_cast<char>(next));
  }
}

}  // namespace weft
