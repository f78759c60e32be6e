// Random PTX.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace weft::ptx {

/// Texts near real ones, some near enough to be run, some far enough to be wrong in every way.
class Mutator {
 public:
  Mutator(const std::vector<std::string> &texts, uint64_t seed);
  std::string next();

 private:
  std::mt19937_64 random;
  std::vector<std::vector<std::string>> seeds;  ///< tokens of each text
  std::vector<std::map<std::string, std::vector<std::string>>> alike;

  size_t below(size_t count) { return random() % count; }
  /// Behind the declarations.
  size_t place(const std::vector<std::string> &all);
  void gently(std::vector<std::string> &all, std::map<std::string, std::vector<std::string>> &kinds);
  void roughly(std::vector<std::string> &all, const std::vector<std::string> &base);
  std::string number();
  std::string token();
  std::string garbage();
};

}  // namespace weft::ptx
