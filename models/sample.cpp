#include "models/sample.h"

#include <stdexcept>

#include "models/interrupt.h"

namespace weft {

using torch::Tensor;

void sample(Gpt &model, const std::string &prompt, int64_t length, double temperature, uint64_t seed,
            const std::function<void(char)> &emit) {
  if (temperature < 0) throw std::invalid_argument("expected a temperature of 0 or more");
  torch::NoGradGuard guard;
  model->eval();
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  std::vector<int64_t> bytes;
  for (unsigned char c : prompt) bytes.push_back(c);
  if (bytes.empty()) bytes.push_back('\n');
  for (int64_t made = 0; made < length && !interrupted(); ++made) {
    const size_t first = bytes.size() > static_cast<size_t>(model->config.context) ? bytes.size() - model->config.context : 0;
    const Tensor tokens = torch::tensor(std::vector<int64_t>(bytes.begin() + first, bytes.end())).unsqueeze(0);
    const Tensor logits = model->forward(tokens.to(model->device()))[0][-1].cpu();
    const int64_t next = temperature == 0 ? logits.argmax().item<int64_t>()
                                          : torch::multinomial(torch::softmax(logits / temperature, 0), 1, false, generator).item<int64_t>();
    bytes.push_back(next);
    emit(static_cast<char>(next));
  }
}

}  // namespace weft
