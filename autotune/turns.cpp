#include "autotune/turns.h"

#include <algorithm>
#include <exception>

#include "autotune/samples.h"

namespace weft::autotune {
namespace {

bool known(const std::vector<Method> &methods, double precision) {
  return std::all_of(methods.begin(), methods.end(),
                     [&](const Method &m) { return !m.error.empty() || uncertainty(m.samples) <= precision; });
}

}  // namespace

TurnsEnd takeTurns(std::vector<Method> &methods, const Effort &effort, const std::function<double()> &clock,
                   const std::function<bool()> &stop) {
  const auto failed = [](const Method &method) { return !method.error.empty(); };
  double start = clock();
  size_t look = effort.rounds;  // looking costs a sort: not after each of thousands of short rounds
  for (size_t done = 0;; ++done) {
    if (done == 1) start = clock();  // the first round warms up
    for (Method &method : methods) {
      if (stop && stop()) return TurnsEnd::Stopped;
      if (failed(method)) continue;
      try {
        const double seconds = method.seconds();
        if (done > 0) method.samples.push_back(seconds);
      } catch (const std::exception &error) {
        method.error = error.what();
        if (method.error.empty()) method.error = "it failed";
        method.samples.clear();
      }
    }
    if (std::all_of(methods.begin(), methods.end(), failed)) return TurnsEnd::Known;
    const double spent = done > 0 ? clock() - start : 0;
    if (done >= 3 && spent >= effort.mostSeconds)
      return known(methods, effort.precision) ? TurnsEnd::Known : TurnsEnd::Spent;
    if (done < look || spent < std::min(effort.seconds, effort.mostSeconds)) continue;
    if (known(methods, effort.precision)) return TurnsEnd::Known;
    look = done + 1 + done / 8;
  }
}

}  // namespace weft::autotune
