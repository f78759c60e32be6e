// What `weft bench` says of samples, and of two results: faster, slower, the same, or not known.
#include <gtest/gtest.h>

#include "benchmarks/results.h"

namespace weft::bench {
namespace {

using nlohmann::json;

/// `count` samples around `middle`, `noise` to either side, in no order of size.
std::vector<double> around(double middle, double noise, int count = 15) {
  std::vector<double> samples;
  for (int at = 0; at < count; ++at)
    samples.push_back(middle * (1 + noise * ((at * 7 + 3) % count - (count - 1) / 2.0) / ((count - 1) / 2.0)));
  return samples;
}

json rowOf(const std::string &variant, const json &results) {
  return {{"variant", variant},
          {"B", 1},
          {"H", 2},
          {"T", 256},
          {"D", 64},
          {"dtype", "f32"},
          {"direction", "forward"},
          {"span", 128},
          {"kept_tiles", 0.5},
          {"error", 1e-7},
          {"results", results}};
}
json resultsOf(const std::vector<json> &rows) {
  return {
      {"schema", 2},       {"complete", true}, {"device", "znver4"}, {"threads", 2}, {"peak_gflops", {{"f32", 100.0}}},
      {"peers", {"sdpa"}}, {"rows", rows}};
}
json timed(const std::vector<double> &weft, const std::vector<double> &sdpa) {
  return summary({{"weft", {}, weft, ""}, {"sdpa", {}, sdpa, ""}}, 1e6);
}
std::string verdict(const json &results) { return results.at("sdpa").at("ratio").at("verdict"); }

TEST(Results, AVerdictNeedsAnIntervalOffOne) {
  EXPECT_EQ(verdict(timed(around(1e-3, 0.02), around(1.3e-3, 0.02))), "faster");
  EXPECT_EQ(verdict(timed(around(1.3e-3, 0.02), around(1e-3, 0.02))), "slower");
  EXPECT_EQ(verdict(timed(around(1e-3, 0.02), around(1.001e-3, 0.03))), "same");
  EXPECT_EQ(verdict(timed(around(1e-3, 0.6), around(1e-3, 0.02))), "unknown");
  EXPECT_EQ(verdict(timed(around(1e-3, 0.6), around(2.2e-3, 0.6, 14))), "unknown")
      << "a busy machine may favour one of both";
  EXPECT_EQ(verdict(timed({1e-3, 1e-3, 1e-3}, {2e-3, 2e-3, 2e-3})), "unknown") << "three rounds have no interval";
}

TEST(Results, APauseIsMarkedAndIsNoVerdict) {
  // Seven of nine samples of ours fell into a pause: 16.6 ms, where FlexAttention takes 11.
  std::vector<double> paused(9, 16.6e-3);
  paused[7] = paused[8] = 2.5e-3;
  const json results = timed(paused, around(11e-3, 0.01, 9));
  EXPECT_FALSE(results.at("weft").at("known").get<bool>());
  EXPECT_TRUE(results.at("sdpa").at("known").get<bool>());
  EXPECT_EQ(verdict(results), "unknown");
  const std::string text = table(resultsOf({rowOf("sliding_window", results)}));
  EXPECT_NE(text.find("16.600?"), std::string::npos) << text;
  EXPECT_NE(text.find("x?)"), std::string::npos) << text;
  EXPECT_NE(text.find("not known"), std::string::npos) << text;
}

TEST(Results, TheTableSaysAboutTheSame) {
  const std::string text = table(resultsOf({rowOf("causal", timed(around(1e-3, 0.01), around(1e-3, 0.01))),
                                            rowOf("alibi", timed(around(1e-3, 0.01), around(2e-3, 0.01)))}));
  EXPECT_NE(text.find("(~1.00x)"), std::string::npos) << text;
  EXPECT_NE(text.find(" (2.00x)"), std::string::npos) << text;
  EXPECT_NE(text.find("about the same"), std::string::npos) << text;
  EXPECT_EQ(text.find("not known"), std::string::npos) << text;
  EXPECT_EQ(text.find("not complete"), std::string::npos) << text;
  json part = resultsOf({rowOf("causal", timed(around(1e-3, 0.01), {}))});
  part["complete"] = false;
  EXPECT_NE(table(part).find("not complete: stopped after 1 rows"), std::string::npos);
  EXPECT_NE(table(part).find("sdpa: not measured"), std::string::npos);
  const std::string longName(400, 'x');
  EXPECT_NE(table(resultsOf({rowOf(longName, timed(around(1e-3, 0.01), around(2e-3, 0.01)))})).find(" (2.00x)"),
            std::string::npos);
}

TEST(Results, NoiseIsNoRegression) {
  const json before = resultsOf({rowOf("causal", timed(around(1e-3, 0.02), {}))});
  auto against = [&](const std::vector<double> &now) {
    return compare(before, resultsOf({rowOf("causal", timed(now, {}))}));
  };
  EXPECT_EQ(against(around(1.3e-3, 0.02)).regressions.size(), 1u);
  EXPECT_NE(against(around(1.3e-3, 0.02)).regressions[0].find("30 % slower"), std::string::npos);
  EXPECT_TRUE(against(around(1.03e-3, 0.001)).regressions.empty()) << "two runs of one program differ by as much";
  EXPECT_TRUE(against(around(0.5e-3, 0.02)).regressions.empty());
  // Slower in the middle, but the samples lie from 0.5 to 2.1 ms.
  const Comparison noisy = against(around(1.3e-3, 0.6));
  EXPECT_TRUE(noisy.regressions.empty());
  EXPECT_EQ(noisy.unsure.size(), 1u);
  const Comparison few = against({1.5e-3, 1.5e-3, 1.5e-3});
  EXPECT_TRUE(few.regressions.empty());
  EXPECT_EQ(few.unsure.size(), 1u);
}

TEST(Results, ComparingSaysWhatItComparedWith) {
  const json causal = rowOf("causal", timed(around(1e-3, 0.02), {})),
             alibi = rowOf("alibi", timed(around(1e-3, 0.02), {}));
  const json broken = rowOf("causal", {{"weft", {{"error", "broken"}}}});
  EXPECT_EQ(compare(resultsOf({causal}), resultsOf({broken})).regressions,
            std::vector<std::string>{"causal forward f32 [1,2,256,64] span 128: fails now: broken"});
  EXPECT_TRUE(compare(resultsOf({broken}), resultsOf({broken})).regressions.empty());
  EXPECT_THROW(compare(resultsOf({causal}), resultsOf({alibi})), std::runtime_error);
  EXPECT_THROW(compare(json::array(), resultsOf({alibi})), std::runtime_error);
  EXPECT_THROW(compare({{"schema", 3}, {"rows", json::array()}}, resultsOf({alibi})), std::runtime_error);
  json other = resultsOf({causal, alibi});
  other["device"] = "sapphirerapids";
  other["complete"] = false;
  other["peak_gflops"]["f32"] = 60.0;
  const Comparison all = compare(resultsOf({causal}), other);
  EXPECT_EQ(all.compared, 1u);
  std::string notes;
  for (const std::string &note : all.notes) notes += note + "\n";
  for (const char *words :
       {"1 rows are new", "the second was not measured to the end", "another device", "peak was 100 GFLOP/s and is 60"})
    EXPECT_NE(notes.find(words), std::string::npos) << words << "\n" << notes;
  EXPECT_TRUE(compare(resultsOf({causal}), resultsOf({causal})).notes.empty());
  // Results of the schema before: quartiles, which are wider.
  json old = resultsOf(
      {rowOf("causal", {{"weft", {{"ms", 1.0}, {"low", 0.98}, {"high", 1.02}, {"samples", 9}, {"gflops", 1.0}}}})});
  old["schema"] = 1;
  EXPECT_EQ(compare(old, resultsOf({rowOf("causal", timed(around(2e-3, 0.02), {}))})).regressions.size(), 1u);
}

}  // namespace
}  // namespace weft::bench
