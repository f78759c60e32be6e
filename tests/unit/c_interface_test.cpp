// The interface in C (runtime/weft.h): threads, strides, memory of the caller's, pieces of a sequence.
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "runtime/weft.h"

namespace weft::testing {
namespace {

constexpr int64_t H = 2, T = 70, D = 16;

struct FreeVariant {
  void operator()(weft_variant *variant) const { weft_variant_free(variant); }
};
struct FreeCall {
  void operator()(weft_call *call) const { weft_call_free(call); }
};
using OwnVariant = std::unique_ptr<weft_variant, FreeVariant>;
using OwnCall = std::unique_ptr<weft_call, FreeCall>;

OwnCall compiled(const std::string &statements, const std::string &parameters = "", const char *device = "cpu") {
  const std::string text = "attention t(" + parameters +
                           "q: [B, H, T, D], k: [B, H, S, D], v: [B, H, S, E], c: [H]) { score dot(q[i], k[j]) / "
                           "sqrt(D) " +
                           statements + " }";
  const OwnVariant variant(weft_parse(text.c_str()));
  if (!variant) return nullptr;
  const char *const rows[] = {"D", "E"};
  const int64_t sizes[] = {D, D};
  return OwnCall(weft_compile(variant.get(), WEFT_FORWARD, WEFT_F32, device, 2, rows, sizes));
}

std::vector<int64_t> dimsOf(const weft_call *call, const std::map<std::string, int64_t> &more = {}) {
  std::vector<int64_t> dims;
  for (int at = 0; at < weft_call_dims(call); ++at) {
    const std::string name = weft_call_dim(call, at);
    const auto own = more.find(name);
    dims.push_back(own != more.end()            ? own->second
                   : name == "B"                ? 1
                   : name == "H" || name == "G" ? H
                   : name == "T" || name == "S" ? T
                   : name.starts_with("all_")   ? T
                   : name.starts_with("first_") ? 0
                                                : D);
  }
  return dims;
}

/// Memory of one run: of every buffer, scratch too.
class OwnRun {
 public:
  OwnRun(const weft_call *call, const std::vector<int64_t> &dims) : call(call), dims(dims) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    for (int at = 0; at < weft_call_buffers(call); ++at) {
      weft_buffer buffer;
      EXPECT_EQ(weft_call_buffer(call, at, &buffer), 0) << weft_error();
      const int64_t bytes = weft_call_shape(call, at, dims.data(), nullptr);
      EXPECT_GE(bytes, 0) << weft_error();
      memory.emplace_back(static_cast<size_t>(bytes) / sizeof(float) + 1, 0.0f);
      if (buffer.role == WEFT_INPUT)
        for (float &value : memory.back()) value = normal(random);
      places[buffer.name] = at;
    }
  }

  std::vector<float> &of(const std::string &name) { return memory.at(static_cast<size_t>(places.at(name))); }
  int place(const std::string &name) const { return places.at(name); }
  int operator()(const int64_t *const *strides = nullptr, int threads = 1) {
    std::vector<void *> data;
    for (auto &own : memory) data.push_back(own.data());
    return weft_run(call, dims.data(), data.data(), strides, nullptr, threads);
  }

 private:
  const weft_call *call;
  std::vector<int64_t> dims;
  std::vector<std::vector<float>> memory;
  std::map<std::string, int> places;
};

TEST(Interface, oneCallRunsOnSeveralThreads) {
  const OwnCall call = compiled("where i >= j sink c[h]");
  ASSERT_TRUE(call) << weft_error();
  const std::vector<int64_t> dims = dimsOf(call.get());
  OwnRun alone(call.get(), dims);
  ASSERT_EQ(alone(), 0) << weft_error();
  std::vector<std::unique_ptr<OwnRun>> runs;
  for (int at = 0; at < 4; ++at) runs.push_back(std::make_unique<OwnRun>(call.get(), dims));
  std::vector<std::thread> threads;
  std::vector<std::string> errors(runs.size());
  for (size_t at = 0; at < runs.size(); ++at)
    threads.emplace_back([&, at] {
      // The words are those of the thread that made the mistake.
      const std::string text = "attention t" + std::to_string(at);
      EXPECT_FALSE(weft_parse(text.c_str()));
      for (int turn = 0; turn < 5; ++turn) EXPECT_EQ((*runs[at])(nullptr, at % 2 ? 2 : 1), 0);
      EXPECT_FALSE(weft_parse(text.c_str()));
      errors[at] = weft_error();
    });
  for (std::thread &thread : threads) thread.join();
  for (size_t at = 0; at < runs.size(); ++at) {
    EXPECT_EQ(runs[at]->of("o"), alone.of("o"));
    EXPECT_EQ(runs[at]->of("lse"), alone.of("lse"));
    EXPECT_NE(errors[at].find("attention t" + std::to_string(at)), std::string::npos) << errors[at];
  }
}

TEST(Interface, devicesGiveTheSame) {
  const OwnCall here = compiled("where i >= j sink c[h]"),
                there = compiled("where i >= j sink c[h]", "", "ptx-emulator");
  ASSERT_TRUE(here && there) << weft_error();
  OwnRun want(here.get(), dimsOf(here.get())), got(there.get(), dimsOf(there.get()));
  ASSERT_EQ(want(), 0) << weft_error();
  ASSERT_EQ(got(), 0) << weft_error();
  for (const char *name : {"o", "lse"})
    for (size_t at = 0; at < want.of(name).size(); ++at) EXPECT_NEAR(got.of(name)[at], want.of(name)[at], 1e-4) << name;
  EXPECT_FALSE(compiled("", "", "tpu"));
  EXPECT_NE(std::string(weft_error()).find("tpu"), std::string::npos) << weft_error();
}

TEST(Interface, rowsMayHaveStrides) {
  const OwnCall call = compiled("where i >= j sink c[h]");
  ASSERT_TRUE(call) << weft_error();
  const std::vector<int64_t> dims = dimsOf(call.get());
  OwnRun plain(call.get(), dims), strided(call.get(), dims);
  ASSERT_EQ(plain(), 0) << weft_error();
  // Tokens before heads: [T, H, D].
  for (const char *name : {"q", "v"})
    for (int64_t h = 0; h < H; ++h)
      for (int64_t i = 0; i < T; ++i)
        std::memcpy(&strided.of(name)[(i * H + h) * D], &plain.of(name)[(h * T + i) * D], D * sizeof(float));
  const int64_t own[] = {T * H * D, D, H * D, 1};
  std::vector<const int64_t *> strides(static_cast<size_t>(weft_call_buffers(call.get())), nullptr);
  for (const char *name : {"q", "v", "o"}) {
    weft_buffer buffer;
    ASSERT_EQ(weft_call_buffer(call.get(), strided.place(name), &buffer), 0);
    EXPECT_TRUE(buffer.strided) << name;
    strides[static_cast<size_t>(strided.place(name))] = own;
  }
  ASSERT_EQ(strided(strides.data()), 0) << weft_error();
  for (int64_t h = 0; h < H; ++h)
    for (int64_t i = 0; i < T; ++i)
      EXPECT_EQ(std::memcmp(&strided.of("o")[(i * H + h) * D], &plain.of("o")[(h * T + i) * D], D * sizeof(float)), 0);
}

TEST(Interface, piecesSayWhereTheyStand) {
  EXPECT_FALSE(compiled("select tiles(16, 16) { keep diagonal keep topk(dot(mean(q), mean(k)), 1) }", "origin, "));
  EXPECT_NE(std::string(weft_error()).find("no 'select' in a variant with the parameter 'origin'"), std::string::npos);
  const OwnCall call = compiled("where i >= j", "origin, ");
  ASSERT_TRUE(call) << weft_error();
  OwnRun whole(call.get(), dimsOf(call.get()));
  ASSERT_EQ(whole(), 0) << weft_error();
  // The last 30 queries over all keys.
  const std::map<std::string, int64_t> last{{"T", 30}, {"first_query", T - 30}};
  OwnRun piece(call.get(), dimsOf(call.get(), last));
  for (int64_t h = 0; h < H; ++h)
    std::memcpy(&piece.of("q")[h * 30 * D], &whole.of("q")[(h * T + T - 30) * D], 30 * D * sizeof(float));
  for (const char *name : {"k", "v", "c"}) piece.of(name) = whole.of(name);
  ASSERT_EQ(piece(), 0) << weft_error();
  for (int64_t h = 0; h < H; ++h)
    for (int64_t at = 0; at < 30 * D; ++at)
      EXPECT_NEAR(piece.of("o")[h * 30 * D + at], whole.of("o")[(h * T + T - 30) * D + at], 1e-5);
  EXPECT_LT(weft_call_shape(call.get(), 0, dimsOf(call.get(), {{"first_key", 1}}).data(), nullptr), 0);
  EXPECT_STREQ(weft_error(), "expected all_keys of at least 71, as first_key and S say, got 70");
}

}  // namespace
}  // namespace weft::testing
