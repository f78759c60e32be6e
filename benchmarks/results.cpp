#include "benchmarks/results.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <locale>
#include <sstream>
#include <stdexcept>

#include "autotune/samples.h"

namespace weft::bench {

using autotune::Interval;
using autotune::Method;
using nlohmann::json;

namespace {

/// A change that is smaller is not looked at: two runs of one program differ by as much.
constexpr double notable = 0.05;
/// A ratio whose interval is wider to either side says nothing, neither that a method is faster nor that both are the
/// same.
constexpr double ratioWithin = 0.10;
constexpr size_t fewest = 6;  ///< samples that have an interval at all

json ratioTo(const Method &own, const Method &peer) {
  const autotune::Ratio ratio = autotune::ratioOfRounds(peer.samples, own.samples);
  const double low = ratio.interval.low, high = ratio.interval.high;
  const bool known = high - low <= 2 * ratioWithin * ratio.value;
  const char *verdict = !known ? "unknown" : ratio.above(1) ? "faster" : ratio.below(1) ? "slower" : "same";
  json all = {{"value", ratio.value}, {"verdict", verdict}};
  if (std::isfinite(high)) all.update({{"low", low}, {"high", high}});
  return all;
}

json times(const Method &method, double flops) {
  std::vector<double> sorted = method.samples;
  std::sort(sorted.begin(), sorted.end());
  auto at = [&](double share) {
    return 1e3 * sorted[static_cast<size_t>(share * static_cast<double>(sorted.size() - 1) + 0.5)];
  };
  const double middle = autotune::median(sorted);
  Interval interval = autotune::medianInterval(method.samples);
  if (!std::isfinite(interval.high)) interval = {sorted.front(), sorted.back()};
  return {{"ms", 1e3 * middle},
          {"low", 1e3 * interval.low},
          {"high", 1e3 * interval.high},
          {"quartiles", {at(0.25), at(0.75)}},
          {"samples", sorted.size()},
          {"known", autotune::uncertainty(method.samples) <= knownWithin},
          {"gflops", 1e-9 * flops / middle}};
}

std::string nameOf(const json &row) {
  std::ostringstream text;
  text.imbue(std::locale::classic());  // the name is compared with that of other runs
  text << row.at("variant").get<std::string>() << ' ' << row.at("direction").get<std::string>() << ' '
       << row.at("dtype").get<std::string>() << " [" << row.at("B") << ',' << row.at("H") << ',' << row.at("T") << ','
       << row.at("D") << "] span " << row.at("span");
  return text.str();
}

/// One row of both, into the lists of `all`.
void compareRow(const json &old, const json &row, Comparison &all) {
  const json &a = old.at("results").at("weft"), &b = row.at("results").at("weft");
  ++all.compared;
  std::ostringstream line;
  line.precision(3);
  if (b.contains("error")) {
    line << nameOf(row) << ": fails now: " << b.at("error").get<std::string>();
    if (!a.contains("error")) all.regressions.push_back(line.str());
    return;
  }
  if (a.contains("error")) return;
  const double was = a.at("ms"), is = b.at("ms");
  if (is <= (1 + notable) * was) return;
  line << nameOf(row) << ": " << was << " ms -> " << is << " ms (" << 100 * (is / was - 1) << " % slower)";
  const bool enough = a.at("samples").get<size_t>() >= fewest && b.at("samples").get<size_t>() >= fewest;
  if (enough && b.at("low").get<double>() > a.at("high").get<double>()) {
    all.regressions.push_back(line.str());
    return;
  }
  line << ", but the medians lie between " << a.at("low").get<double>() << " and " << a.at("high").get<double>()
       << ", and between " << b.at("low").get<double>() << " and " << b.at("high").get<double>();
  all.unsure.push_back(line.str());
}

}  // namespace

json summary(const std::vector<Method> &methods, double flops) {
  json results = json::object();
  const auto own = std::find_if(methods.begin(), methods.end(), [](const Method &m) { return m.name == "weft"; });
  for (const Method &method : methods) {
    if (!method.error.empty() || method.samples.empty()) {
      results[method.name] = {{"error", method.error.empty() ? "not measured" : method.error}};
      continue;
    }
    results[method.name] = times(method, flops);
    if (own != methods.end() && method.name != "weft" && !own->samples.empty())
      results[method.name]["ratio"] = ratioTo(*own, method);
  }
  return results;
}

Comparison compare(const json &before, const json &now) {
  for (const json *one : {&before, &now}) {
    if (one->is_object() && one->value("kind", "") == "predicted")
      throw std::runtime_error("expected measured results of weft bench, got predictions");
    if (!one->is_object() || !one->contains("rows") || (one->value("schema", 0) != 1 && one->value("schema", 0) != 2))
      throw std::runtime_error("expected results of weft bench (schema 1 or 2)");
  }
  Comparison all;
  size_t only = 0;
  for (const json &row : now.at("rows")) {
    const auto &rows = before.at("rows");
    const auto old =
        std::find_if(rows.begin(), rows.end(), [&](const json &other) { return nameOf(other) == nameOf(row); });
    if (old == rows.end()) ++only;
    else compareRow(*old, row, all);
  }
  if (all.compared == 0) throw std::runtime_error("nothing to compare: no row of one is in the other");
  const size_t gone = before.at("rows").size() - std::min(before.at("rows").size(), all.compared);
  if (only) all.notes.push_back(std::to_string(only) + " rows are new");
  if (gone) all.notes.push_back(std::to_string(gone) + " rows are missing now");
  for (const auto &[one, name] : {std::pair{&before, "the first"}, std::pair{&now, "the second"}})
    if (!one->value("complete", !one->value("interrupted", false)))
      all.notes.push_back(std::string(name) + " was not measured to the end");
  for (const char *what : {"device", "threads"})
    if (before.value(what, json()) != now.value(what, json()))
      all.notes.push_back(std::string("another ") + what + ": " + before.value(what, json()).dump() + " and " +
                          now.value(what, json()).dump());
  const json oldPeaks = before.value("peak_gflops", json::object()), peaks = now.value("peak_gflops", json::object());
  for (const auto &[type, peak] : peaks.items()) {
    const double was = oldPeaks.value(type, 0.0), is = peak;
    if (before.value("schema", 0) != now.value("schema", 0) || was <= 0 || std::fabs(is / was - 1) <= notable) continue;
    std::ostringstream line;
    line.precision(3);
    line << "the machine itself differs: its " << type << " peak was " << was << " GFLOP/s and is " << is;
    all.notes.push_back(line.str());
  }
  return all;
}

std::string now() {
  const std::time_t time = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M", std::localtime(&time));
  return text;
}

std::string table(const json &results) {
  std::ostringstream out;
  char text[256];
  std::snprintf(text, sizeof text, "%-58s %7s %11s %9s %9s", "", "kept", "weft ms", "GFLOP/s", "error");
  out << text;
  for (const auto &peer : results.at("peers")) {
    std::snprintf(text, sizeof text, " %19s", peer.get<std::string>().c_str());
    out << text;
  }
  out << "\n";
  std::vector<std::string> notes;
  bool unknown = false, same = false;
  for (const json &row : results.at("rows")) {
    const json &own = row.at("results").at("weft");
    if (own.contains("error")) {
      out << nameOf(row) << ": " << own.at("error").get<std::string>() << "\n";
      continue;
    }
    auto mark = [&](const json &times) {
      unknown |= !times.at("known").get<bool>();
      return times.at("known").get<bool>() ? ' ' : '?';
    };
    const std::string name = nameOf(row);
    out << name << std::string(name.size() < 58 ? 58 - name.size() : 0, ' ');
    std::snprintf(text, sizeof text, " %6.1f%% %10.3f%c %9.1f %9.1e", 100 * row.at("kept_tiles").get<double>(),
                  own.at("ms").get<double>(), mark(own), own.at("gflops").get<double>(), row.at("error").get<double>());
    out << text;
    for (const auto &peer : results.at("peers")) {
      const json &other = row.at("results").at(peer.get<std::string>());
      if (other.contains("ms")) {
        const std::string verdict = other.at("ratio").at("verdict");
        unknown |= verdict == "unknown";
        same |= verdict == "same";
        char ratio[32];
        std::snprintf(ratio, sizeof ratio, "(%s%.2fx%s)", verdict == "same" ? "~" : "",
                      other.at("ratio").at("value").get<double>(), verdict == "unknown" ? "?" : "");
        std::snprintf(text, sizeof text, " %8.2f%c %9s", other.at("ms").get<double>(), mark(other), ratio);
      } else {
        const std::string why = peer.get<std::string>() + ": " + other.at("error").get<std::string>();
        auto found = std::find(notes.begin(), notes.end(), why);
        if (found == notes.end()) found = notes.insert(notes.end(), why);
        std::snprintf(text, sizeof text, " %18s%zu", "-", static_cast<size_t>(found - notes.begin()) + 1);
      }
      out << text;
    }
    out << "\n";
  }
  for (size_t at = 0; at < notes.size(); ++at) out << "  -" << at + 1 << "  " << notes[at] << "\n";
  if (unknown)
    out << "  ?   not known: samples differ too much for " << 100 * knownWithin << " %, or are fewer than " << fewest
        << " (more --row-seconds may help)\n";
  if (same) out << "  ~   about the same: the interval of the ratio holds 1\n";
  if (!results.at("complete").get<bool>())
    out << "not complete: stopped after " << results.at("rows").size() << " rows\n";
  return out.str();
}

}  // namespace weft::bench
