#include "models/statistics.h"

#include <algorithm>
#include <cstdio>
#include <locale>
#include <sstream>

#include <torch/utils.h>

#include "models/xml.h"
#include "ops/attention.h"
#include "ops/variant_library.h"

namespace weft {

using torch::Tensor;

std::vector<HeadStatistics> headStatistics(Gpt &model, const Tensor &tokens) {
  torch::NoGradGuard guard;
  std::vector<HeadStatistics> all;
  const auto calls = model->attentionInputs(tokens);
  const int64_t heads = model->config.heads;
  for (size_t layer = 0; layer < calls.size(); ++layer) {
    const auto kept = ops::keptTiles(model->config.attention, calls[layer].names, calls[layer].tensors);
    const auto learned = model->blocks[layer]->attention->made->learned();
    for (int64_t head = 0; head < heads; ++head) {
      HeadStatistics entry{static_cast<int64_t>(layer), head, {}, 0, 0};
      for (const auto &[name, values] : learned)
        if (values.dim() == 1) entry.learned[name] = values[head].item<double>();
      double sum = 0;
      const int64_t batches = static_cast<int64_t>(kept.kept.size()) / heads;
      for (int64_t batch = 0; batch < batches; ++batch) sum += static_cast<double>(kept.kept[batch * heads + head]);
      for (int64_t batch = 0; batch < batches; ++batch)
        entry.entropy += kept.entropy[batch * heads + head] / static_cast<double>(batches);
      entry.keptTiles = sum / static_cast<double>(std::max<int64_t>(1, batches * kept.total));
      all.push_back(entry);
    }
  }
  return all;
}

std::vector<double> unmaskedKeys(Gpt &model, const Tensor &tokens) {
  torch::NoGradGuard guard;
  std::vector<double> all;
  for (const AttentionInputs &call : model->attentionInputs(tokens.slice(0, 0, 1))) {
    const Tensor counts = (ops::maskShares(model->config.attention, call.names, call.tensors) > 0)
                              .sum(2)
                              .to(torch::kDouble)
                              .mean(1)
                              .cpu();
    for (int64_t head = 0; head < counts.size(0); ++head) all.push_back(counts[head].item<double>());
  }
  return all;
}

double meanKept(const std::vector<HeadStatistics> &heads) {
  double sum = 0;
  for (const HeadStatistics &head : heads) sum += head.keptTiles;
  return heads.empty() ? 1 : sum / static_cast<double>(heads.size());
}

double meanOf(const std::vector<HeadStatistics> &heads, const std::string &name, double otherwise) {
  double sum = 0;
  int64_t count = 0;
  for (const HeadStatistics &head : heads)
    if (auto found = head.learned.find(name); found != head.learned.end()) {
      sum += found->second;
      ++count;
    }
  return count ? sum / static_cast<double>(count) : otherwise;
}

std::string maskPicture(Gpt &model, const Tensor &tokens) {
  torch::NoGradGuard guard;
  const auto calls = model->attentionInputs(tokens.slice(0, 0, 1));
  const int64_t heads = model->config.heads, layers = static_cast<int64_t>(calls.size());
  const auto statistics = findVariant(model->config.attention)->selects() ? headStatistics(model, tokens.slice(0, 0, 1))
                                                                          : std::vector<HeadStatistics>();
  constexpr int64_t cells = 32, cell = 3, gap = 26, left = 60, top = 60;
  const int64_t side = cells * cell;
  std::ostringstream svg;
  svg.imbue(std::locale::classic());
  const int64_t width = left + heads * (side + 14), height = top + layers * (side + gap);
  svg << "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" << width << "\" height=\"" << height
      << "\" viewBox=\"0 0 " << width << ' ' << height << "\" font-family=\"sans-serif\" font-size=\"11\">\n"
      << "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"12\" y=\"22\" font-size=\"15\">Mask of "
         "every head, "
      << escapeXml(model->config.attention) << ": queries downwards, keys to the right</text>\n";
  for (int64_t layer = 0; layer < layers; ++layer) {
    const Tensor shares = ops::maskShares(model->config.attention, calls[layer].names, calls[layer].tensors);
    const Tensor relative = shares / shares.amax(2, true).clamp_min(1e-20);
    const Tensor small = std::get<0>(torch::adaptive_max_pool2d(relative.unsqueeze(0), {cells, cells}));
    const auto learned = model->blocks[layer]->attention->made->learned();
    const int64_t y0 = top + layer * (side + gap);
    svg << "<text x=\"8\" y=\"" << y0 + side / 2 << "\">layer " << layer << "</text>\n";
    for (int64_t head = 0; head < heads; ++head) {
      const int64_t x0 = left + head * (side + 14);
      std::string label;
      for (const auto &[name, values] : learned) {
        if (values.dim() != 1 || label.size() > 24) continue;
        const double value = values[head].item<double>();
        char text[32];
        std::snprintf(text, sizeof text, "%s%c %.*f", label.empty() ? "" : ", ", name[0], std::abs(value) < 10 ? 2 : 0,
                      value);
        label += text;
      }
      if (!statistics.empty()) {
        char text[32];
        std::snprintf(text, sizeof text, "%.0f%% of tiles",
                      100 * statistics[static_cast<size_t>(layer * heads + head)].keptTiles);
        label += (label.empty() ? "" : ", ") + std::string(text);
      }
      svg << "<g><text x=\"" << x0 << "\" y=\"" << y0 - 4 << "\" font-size=\"9\">" << escapeXml(label)
          << "</text><rect x=\"" << x0 << "\" y=\"" << y0 << "\" width=\"" << side << "\" height=\"" << side
          << "\" fill=\"#f3f3f3\"/>\n";
      const Tensor picture = small[0][head].contiguous().cpu();
      const float *values = picture.data_ptr<float>();
      for (int64_t row = 0; row < cells; ++row)
        for (int64_t column = 0; column < cells; ++column) {
          const int level = static_cast<int>(values[row * cells + column] * 9.99f);
          if (level <= 0) continue;
          const int shade = 230 - level * 21;
          svg << "<rect x=\"" << x0 + column * cell << "\" y=\"" << y0 + row * cell << "\" width=\"" << cell
              << "\" height=\"" << cell << "\" fill=\"rgb(" << shade / 3 << "," << shade * 2 / 3 << ","
              << 90 + shade / 2 << ")\"/>";
        }
      svg << "</g>\n";
    }
  }
  svg << "</svg>\n";
  return svg.str();
}

}  // namespace weft
