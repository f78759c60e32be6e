#include "benchmarks/bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <fstream>
#include <locale>
#include <sstream>

#include "autotune/trial.h"
#include "compiler/reference.h"
#include "ops/attention.h"
#include "ops/kept_pattern.h"
#include "ops/passes.h"
#include "ops/variant_library.h"
#include "runtime/environment.h"
#include "runtime/schedule_cache.h"

namespace weft::bench {

using nlohmann::json;
using torch::Tensor;
using Clock = std::chrono::steady_clock;

namespace {

double secondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

template <class Work>
double best(int turns, torch::Device device, Work work) {
  double least = HUGE_VAL;
  for (int turn = 0; turn < turns; ++turn) {
    const auto start = Clock::now();
    work();
    synchronize(device);
    least = std::min(least, secondsSince(start));
  }
  return least;
}

/// GFLOP/s of a large matrix product: the yardstick for "share of the peak".
double measuredPeak(at::ScalarType type, torch::Device device) {
  const int64_t n = device.is_cuda() ? 8192 : 1536;
  const Tensor a = torch::randn({n, n}, device).to(type), b = torch::randn({n, n}, device).to(type);
  return 2e-9 * std::pow(static_cast<double>(n), 3) / best(7, device, [&] { torch::mm(a, b); });
}
double measuredBandwidth(torch::Device device) {
  const Tensor from = torch::ones({64 << 20}, torch::TensorOptions(device)), to = torch::empty_like(from);
  return 2e-9 * static_cast<double>(from.nbytes()) / best(5, device, [&] { to.copy_(from); });
}

/// MiB from a /proc/self/status line such as VmHWM.
double processMemory(const std::string &key) {
  std::ifstream stream("/proc/self/status");
  for (std::string line; std::getline(stream, line);)
    if (line.rfind(key + ":", 0) == 0) return static_cast<double>(std::stoll(line.substr(key.size() + 1))) / 1024;
  return 0;
}

/// The generated kernels of one case, called without autograd's own work but with all of the operator's.
class Own {
 public:
  Own(const Case &work, const ops::SampleInputs &inputs) : work(work), inputs(inputs) {
    at::NoGradGuard guard;
    ops::Binding call(set(false), inputs.names, inputs.tensors);
    std::tie(saved.o, saved.rows) = ops::runForward(call);
    saved.dO = torch::randn_like(saved.o);
    const ops::KeptPattern pattern(call);
    const auto &schedule = set(work.backward).schedule;
    double kept = 0, all = 0;
    for (int64_t head = 0; head < pattern.heads(); ++head) {
      kept += static_cast<double>(pattern.count(head, 64, 64).kept);
      all += static_cast<double>((call.T + 63) / 64 * ((call.S + 63) / 64));
    }
    keptShare = kept / all;
    double width = 0;
    for (const InputInfo &input : call.set.variant->inputs())
      if (input.isRow && (input.querySide || input.name == "v")) width += static_cast<double>(call.set.headDims.at(input.dims.back()));
    flops = kept * 64 * 64 * 2 * width * (work.backward ? 2.5 : 1);
    for (const Tensor &tensor : inputs.tensors) bytes += static_cast<double>(tensor.nbytes());
    bytes = (bytes + static_cast<double>(saved.o.nbytes())) * (work.backward ? 2 : 1);
    scheduleText = describe(schedule, work.device == "cpu" ? "host" : "sm_80");
  }

  double seconds() {
    at::NoGradGuard guard;
    const auto start = Clock::now();
    ops::Binding call(set(work.backward), inputs.names, inputs.tensors);
    if (work.backward) ops::runBackward(call, saved.o, saved.rows, saved.dO, {});
    else ops::runForward(call);
    synchronize(inputs.tensors[0].device());
    return secondsSince(start);
  }

  autotune::Saved saved;
  double keptShare = 0, flops = 0, bytes = 0;
  std::string scheduleText;

 private:
  const Case &work;
  const ops::SampleInputs &inputs;
  ops::KernelSet &set(bool backward) { return ops::kernelSet(work.variant, inputs.names, inputs.tensors, backward); }
};

/// Seconds to compile all kernels of the pass, with nothing cached.
double compileSeconds(const Case &work, const ops::SampleInputs &inputs) {
  auto &set = ops::kernelSet(work.variant, inputs.names, inputs.tensors, work.backward);
  const auto start = Clock::now();
  const ops::Binding call(set, inputs.names, inputs.tensors);
  const bool fused = ops::isFused(call);
  for (const std::string &kernel : kernelNames(*set.variant, work.backward)) {
    const bool twoPass = kernel == "backward_dq" || kernel == "backward_dkdv" || kernel.find("_keys") != std::string::npos;
    if (work.backward && (kernel == "forward" || (fused ? twoPass : kernel == "backward"))) continue;
    CompileRequest request;
    request.variant = set.variant;
    request.kernel = kernel;
    request.dims = set.headDims;
    request.type = set.type;
    request.schedule = set.schedule;
    request.target = set.device.kind == Device::Kind::Cpu ? environment::cpu() : targetOf(set.device);
    compile(request);
  }
  return secondsSince(start);
}

reference::Array toArray(const Tensor &tensor) {
  const Tensor flat = tensor.detach().cpu().to(torch::kDouble).contiguous();
  return {flat.sizes().vec(), {flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel()}};
}

double relative(const Tensor &got, const reference::Array &want) {
  const reference::Array have = toArray(got);
  double off = 0, scale = 1;
  for (size_t at = 0; at < want.values.size(); ++at) {
    if (std::isfinite(want.values[at])) scale = std::max(scale, std::fabs(want.values[at]));
    if (have.values[at] != want.values[at]) off = std::max(off, std::fabs(have.values[at] - want.values[at]));
  }
  return off / scale;
}

/// Error of the output, or the worst of all gradients, against the double-precision evaluation of the variant.
double errorAgainstDouble(Case work, torch::Device device) {
  work.shape.B = 1;
  work.shape.H = 2;
  work.shape.T = 192;
  work.span = work.span > 0 ? std::min<int64_t>(work.span, 96) : 0;
  auto variant = findVariant(work.variant);
  const ops::SampleInputs inputs = ops::sampleInputs(*variant, work.shape, ops::scalarType(work.type), device, work.span);
  std::map<std::string, reference::Array> arrays;
  for (size_t at = 0; at < inputs.names.size(); ++at) arrays[inputs.names[at]] = toArray(inputs.tensors[at]);
  const Tensor out = ops::attention(work.variant, inputs.names, inputs.tensors);
  const Tensor gradient = torch::randn_like(out);
  const auto want = reference::evaluate(variant->tree(), arrays, work.backward ? toArray(gradient).values : std::vector<double>());
  if (!work.backward) return relative(out, want.o);
  out.backward(gradient);
  double worst = 0;
  for (size_t at = 0; at < inputs.names.size(); ++at)
    if (inputs.tensors[at].grad().defined()) worst = std::max(worst, relative(inputs.tensors[at].grad(), want.gradients.at(inputs.names[at])));
  return worst;
}

json summary(std::vector<double> samples, double flops) {
  std::sort(samples.begin(), samples.end());
  auto at = [&](double share) { return samples[static_cast<size_t>(share * static_cast<double>(samples.size() - 1) + 0.5)]; };
  const double middle = autotune::median(samples);
  return {{"ms", 1e3 * middle}, {"low", 1e3 * at(0.25)}, {"high", 1e3 * at(0.75)}, {"samples", samples.size()}, {"gflops", 1e-9 * flops / middle}};
}

json runCase(const Case &work, std::vector<std::pair<std::string, std::unique_ptr<Peer>>> &peers, const BenchOptions &options) {
  const torch::Device device = ops::useDevice(work.device);
  torch::manual_seed(0);
  const auto &shape = work.shape;
  json row = {{"variant", work.variant}, {"B", shape.B}, {"H", shape.H}, {"T", shape.T}, {"D", shape.D}, {"dtype", work.type},
              {"direction", work.backward ? "backward" : "forward"}, {"span", work.span > 0 ? work.span : shape.T / 2}, {"results", json::object()}};
  json &results = row["results"];
  try {
    row["error"] = errorAgainstDouble(work, device);
    const ops::SampleInputs inputs = ops::sampleInputs(*findVariant(work.variant), shape, ops::scalarType(work.type), device, work.span);
    // What the pass itself adds: the high-water mark above what there is before.
    Own own(work, inputs);
    std::ofstream("/proc/self/clear_refs") << "5";
    const double before = processMemory("VmRSS");
    own.seconds();
    row["peak_mib"] = std::max(0.0, processMemory("VmHWM") - before);
    row["compile_s"] = compileSeconds(work, inputs);
    row["kept_tiles"] = own.keptShare;
    row["flops"] = own.flops;
    row["bytes"] = own.bytes;
    row["schedule"] = own.scheduleText;
    std::vector<std::pair<std::string, std::function<double()>>> turns{{"weft", [&] { return own.seconds(); }}};
    for (auto &[name, peer] : peers) {
      std::string why;
      try {
        why = peer->prepare(work, inputs, own.saved.o);
      } catch (const c10::Error &error) {
        why = error.what_without_backtrace();
      } catch (const std::exception &error) {
        why = error.what();
      }
      if (!why.empty()) results[name] = {{"error", why.substr(0, 240)}};
      else turns.emplace_back(name, [&peer = peer] { return peer->seconds(); });
    }
    std::map<std::string, std::vector<double>> samples;
    const auto start = Clock::now();
    for (int round = -1; round < options.samples; ++round) {
      if (round > 2 && secondsSince(start) > options.rowSeconds) break;
      for (auto &[name, call] : turns) {
        if (results.contains(name)) continue;
        try {
          const double seconds = call();
          if (round >= 0) samples[name].push_back(seconds);  // the first round warms up
        } catch (const std::exception &error) {
          results[name] = {{"error", std::string(error.what()).substr(0, 240)}};
        }
      }
    }
    for (auto &[name, list] : samples)
      if (!results.contains(name)) results[name] = summary(list, own.flops);
  } catch (const c10::Error &error) {
    results["weft"] = {{"error", std::string(error.what_without_backtrace()).substr(0, 240)}};
  } catch (const std::exception &error) {
    results["weft"] = {{"error", std::string(error.what()).substr(0, 240)}};
  }
  for (auto &[name, peer] : peers) peer->release();
  return row;
}

/// 64 x 64 shares of the first head at T = 256, each row relative to its largest.
json maskPicture(const Case &work) {
  ops::SampleShape shape{1, 1, 256, 16};
  const int64_t span = work.span > 0 ? std::max<int64_t>(1, work.span * 256 / std::max<int64_t>(work.shape.T, 256)) : 0;
  const auto inputs = ops::sampleInputs(*findVariant(work.variant), shape, torch::kFloat, ops::useDevice(work.device), span);
  const Tensor shares = ops::maskShares(work.variant, inputs.names, inputs.tensors).cpu();
  const Tensor relativeShares = shares / shares.amax(2, true).clamp_min(1e-20);
  const Tensor small = torch::nn::functional::adaptive_max_pool2d(relativeShares.unsqueeze(0), torch::nn::functional::AdaptiveMaxPool2dFuncOptions({64, 64}))[0][0].contiguous();
  json rows = json::array();
  for (int64_t row = 0; row < 64; ++row) {
    json line = json::array();
    for (int64_t column = 0; column < 64; ++column) line.push_back(std::round(small[row][column].item<double>() * 1000) / 1000);
    rows.push_back(line);
  }
  return rows;
}

json tuningOf(const std::vector<Case> &cases, const Device &device) {
  json list = json::array();
  for (const TuningEntry &entry : ScheduleCache(device).entries()) {
    const bool used = std::any_of(cases.begin(), cases.end(), [&](const Case &work) { return findVariant(work.variant)->name() == entry.key.variant; });
    if (!used || entry.build != buildIdentity()) continue;
    json points = json::array();
    for (const TuningPoint &point : entry.points)
      if (!point.samples.empty())
        points.push_back({{"tile_q", point.schedule.tileQ}, {"tile_k", point.schedule.tileK}, {"schedule", describe(point.schedule, "host")},
                          {"ms", 1e3 * autotune::median(point.samples)}, {"predicted_ms", 1e3 * point.predicted}});
    list.push_back({{"key", describe(entry.key)}, {"variant", entry.key.variant}, {"seconds", entry.seconds}, {"default_seconds", entry.defaultSeconds},
                    {"schedule", describe(entry.schedule, "host")}, {"points", points}});
  }
  return list;
}

std::string now() {
  const std::time_t time = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M", std::localtime(&time));
  return text;
}

std::string nameOf(const json &row) {
  std::ostringstream text;
  text.imbue(std::locale::classic());   // the name is compared with that of other runs
  text << row.at("variant").get<std::string>() << ' ' << row.at("direction").get<std::string>() << ' ' << row.at("dtype").get<std::string>() << " ["
       << row.at("B") << ',' << row.at("H") << ',' << row.at("T") << ',' << row.at("D") << "] span " << row.at("span");
  return text.str();
}

}  // namespace

json runBench(const BenchOptions &options) {
  json results = {{"schema", 1}, {"date", now()}, {"torch", TORCH_VERSION}, {"threads", torch::get_num_threads()}, {"build", buildIdentity()},
                  {"rows", json::array()}, {"masks", json::object()}, {"peers", options.peers}};
  if (options.cases.empty()) return results;
  const Device device = parseDevice(options.cases[0].device);
  const torch::Device place = ops::useDevice(options.cases[0].device);
  const std::string identity = ScheduleCache(device).deviceName();
  results["device"] = identity.substr(0, identity.find_first_of("+ "));
  for (const Case &work : options.cases)
    if (!results["peak_gflops"].contains(work.type)) results["peak_gflops"][work.type] = measuredPeak(ops::scalarType(work.type), place);
  results["bandwidth_gbs"] = measuredBandwidth(place);
  std::vector<std::pair<std::string, std::unique_ptr<Peer>>> peers;
  for (const std::string &name : options.peers) peers.emplace_back(name, makePeer(name));
  for (size_t at = 0; at < options.cases.size(); ++at) {
    const Case &work = options.cases[at];
    if (options.stop && options.stop()) {
      results["interrupted"] = true;
      break;
    }
    if (options.progress)
      options.progress(at, options.cases.size(), work.variant + (work.backward ? " backward " : " forward ") + work.type + " T=" + std::to_string(work.shape.T));
    if (!results["masks"].contains(work.variant)) results["masks"][work.variant] = maskPicture(work);
    results["rows"].push_back(runCase(work, peers, options));
  }
  results["tuning"] = tuningOf(options.cases, device);
  return results;
}

std::vector<std::string> regressions(const json &before, const json &now) {
  for (const json *one : {&before, &now})
    if (!one->contains("rows") || one->value("schema", 0) != 1) throw std::runtime_error("expected results of weft bench (schema 1)");
  std::vector<std::string> lines;
  for (const json &row : now.at("rows"))
    for (const json &old : before.at("rows")) {
      if (nameOf(row) != nameOf(old)) continue;
      const json &a = old.at("results").at("weft"), &b = row.at("results").at("weft");
      std::ostringstream line;
      line.precision(3);
      if (b.contains("error") && !a.contains("error")) line << nameOf(row) << ": fails now: " << b.at("error").get<std::string>();
      if (a.contains("ms") && b.contains("ms")) {
        const double was = a.at("ms"), is = b.at("ms");
        const double noise = std::max({0.05 * was, a.at("high").get<double>() - was, is - b.at("low").get<double>()});
        if (is - was > noise) line << nameOf(row) << ": " << was << " ms -> " << is << " ms (" << 100 * (is / was - 1) << " % slower)";
      }
      if (!line.str().empty()) lines.push_back(line.str());
    }
  return lines;
}

std::string table(const json &results) {
  std::ostringstream out;
  char text[256];
  std::snprintf(text, sizeof text, "%-58s %7s %10s %9s %9s", "", "kept", "weft ms", "GFLOP/s", "error");
  out << text;
  for (const auto &peer : results.at("peers")) {
    std::snprintf(text, sizeof text, " %16s", peer.get<std::string>().c_str());
    out << text;
  }
  out << "\n";
  std::vector<std::string> notes;
  for (const json &row : results.at("rows")) {
    const json &own = row.at("results").at("weft");
    if (own.contains("error")) {
      out << nameOf(row) << ": " << own.at("error").get<std::string>() << "\n";
      continue;
    }
    const double ms = own.at("ms");
    std::snprintf(text, sizeof text, "%-58s %6.1f%% %10.3f %9.1f %9.1e", nameOf(row).c_str(), 100 * row.at("kept_tiles").get<double>(), ms,
                  own.at("gflops").get<double>(), row.at("error").get<double>());
    out << text;
    for (const auto &peer : results.at("peers")) {
      const json &other = row.at("results").at(peer.get<std::string>());
      if (other.contains("ms")) {
        std::snprintf(text, sizeof text, " %8.2f (%4.2fx)", other.at("ms").get<double>(), other.at("ms").get<double>() / ms);
      } else {
        const std::string why = peer.get<std::string>() + ": " + other.at("error").get<std::string>();
        auto found = std::find(notes.begin(), notes.end(), why);
        if (found == notes.end()) found = notes.insert(notes.end(), why);
        std::snprintf(text, sizeof text, " %15s%zu", "-", static_cast<size_t>(found - notes.begin()) + 1);
      }
      out << text;
    }
    out << "\n";
  }
  for (size_t at = 0; at < notes.size(); ++at) out << "  -" << at + 1 << "  " << notes[at] << "\n";
  return out.str();
}

}  // namespace weft::bench
