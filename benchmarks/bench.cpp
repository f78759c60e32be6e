#include "benchmarks/bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <optional>

#include <torch/utils.h>
#include <torch/version.h>

#include "autotune/samples.h"
#include "autotune/trial.h"
#include "autotune/turns.h"
#include "benchmarks/peak.h"
#include "benchmarks/results.h"
#include "benchmarks/work.h"
#include "compiler/reference.h"
#include "ops/attention.h"
#include "ops/call_site.h"
#include "ops/kept_pattern.h"
#include "ops/passes.h"
#include "ops/variant_library.h"
#include "runtime/schedule_cache.h"

namespace weft::bench {

using nlohmann::json;
using torch::Tensor;
using Clock = std::chrono::steady_clock;

namespace {

double secondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

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
    const ops::Binding call = bind(false);
    std::tie(saved.o, saved.rows) = ops::runForward(call);
    saved.dO = torch::randn_like(saved.o);
    const ops::KeptPattern pattern(call);
    const auto &schedule = bind(work.backward).set.schedule;
    toDo = workOf(call, pattern, work.backward);
    for (const Tensor &tensor : inputs.tensors) bytes += static_cast<double>(tensor.nbytes());
    bytes = (bytes + static_cast<double>(saved.o.nbytes())) * (work.backward ? 2 : 1);
    scheduleText = describe(schedule, targetOf(parseDevice(work.device)));
  }

  double seconds() {
    at::NoGradGuard guard;
    const auto start = Clock::now();
    const ops::Binding call = bind(work.backward);
    if (work.backward) ops::runBackward(call, saved.o, saved.rows, saved.dO, {});
    else ops::runForward(call);
    synchronize(inputs.tensors[0].device());
    return secondsSince(start);
  }

  autotune::Saved saved;
  Work toDo;
  double bytes = 0;
  std::string scheduleText;

 private:
  const Case &work;
  const ops::SampleInputs &inputs;
  ops::Binding bind(bool backward) { return ops::bindCall(work.variant, inputs.names, inputs.tensors, backward); }
};

/// Seconds to compile all kernels of the pass, with nothing cached.
double compileSeconds(const Case &work, const ops::SampleInputs &inputs) {
  const ops::Binding call = ops::bindCall(work.variant, inputs.names, inputs.tensors, work.backward);
  const ops::KernelSet &set = call.set;
  const auto start = Clock::now();
  const CallForm form = call.form(work.backward ? Purpose::Backward : Purpose::Forward);
  for (const CallPlan::Step &step : planCall(*set.variant, set.type, set.schedule, form).steps) {
    CompileRequest request;
    request.variant = set.variant;
    request.kernel = step.kernel;
    request.dims = set.headDims;
    request.type = set.type;
    request.schedule = set.schedule;
    request.target = targetOf(set.device);
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
  const ops::SampleInputs inputs =
      ops::sampleInputs(*findVariant(work.variant), work.shape, ops::scalarType(work.type), device, work.span);
  const auto variant = ops::variantOfCall(work.variant, inputs.names, inputs.tensors);
  std::map<std::string, reference::Array> arrays;
  for (size_t at = 0; at < inputs.names.size(); ++at) arrays[inputs.names[at]] = toArray(inputs.tensors[at]);
  const Tensor out = ops::attention(work.variant, inputs.names, inputs.tensors);
  const Tensor gradient = torch::randn_like(out);
  const auto want =
      reference::evaluate(variant->tree(), arrays, work.backward ? toArray(gradient).values : std::vector<double>());
  if (!work.backward) return relative(out, want.o);
  out.backward(gradient);
  double worst = 0;
  for (size_t at = 0; at < inputs.names.size(); ++at)
    if (inputs.tensors[at].grad().defined())
      worst = std::max(worst, relative(inputs.tensors[at].grad(), want.gradients.at(inputs.names[at])));
  return worst;
}

/// Why something failed, short enough for a cell.
std::string reason(const std::exception &error) {
  const auto *torch = dynamic_cast<const c10::Error *>(&error);
  return std::string(torch ? torch->what_without_backtrace() : error.what()).substr(0, 240);
}

/// Nothing where it was stopped.
std::optional<json> runCase(const Case &work, std::vector<std::pair<std::string, std::unique_ptr<Peer>>> &peers,
                            const BenchOptions &options) {
  const torch::Device device = ops::useDevice(work.device);
  torch::manual_seed(0);
  const auto &shape = work.shape;
  json row = {{"variant", work.variant},
              {"B", shape.B},
              {"H", shape.H},
              {"T", shape.T},
              {"D", shape.D},
              {"dtype", work.type},
              {"direction", work.backward ? "backward" : "forward"},
              {"span", work.span > 0 ? work.span : shape.T / 2},
              {"results", json::object()}};
  json &results = row["results"];
  bool stopped = false;
  try {
    row["error"] = errorAgainstDouble(work, device);
    const ops::SampleInputs inputs =
        ops::sampleInputs(*findVariant(work.variant), shape, ops::scalarType(work.type), device, work.span);
    // What the pass itself adds: the high-water mark above what there is before.
    Own own(work, inputs);
    std::ofstream("/proc/self/clear_refs") << "5";
    const double before = processMemory("VmRSS");
    own.seconds();
    row["peak_mib"] = std::max(0.0, processMemory("VmHWM") - before);
    row["compile_s"] = compileSeconds(work, inputs);
    row["kept_tiles"] = own.toDo.keptShare;
    row["flops"] = own.toDo.flops;
    row["bytes"] = own.bytes;
    row["schedule"] = own.scheduleText;
    std::vector<autotune::Method> methods{{"weft", [&] { return own.seconds(); }, {}, ""}};
    for (auto &[name, peer] : peers) {
      if (options.stop && options.stop()) break;
      std::string why;
      try {
        why = peer->prepare(work, inputs, own.saved.o).substr(0, 240);
      } catch (const std::exception &error) {
        why = reason(error);
      }
      methods.push_back({name, [&peer = peer] { return peer->seconds(); }, {}, why});
    }
    for (autotune::Method &method : methods)
      method.seconds = [call = std::move(method.seconds)] {
        try {
          return call();
        } catch (const std::exception &error) {
          throw std::runtime_error(reason(error));
        }
      };
    const auto start = Clock::now();
    stopped =
        autotune::takeTurns(
            methods, options.effort, [&] { return secondsSince(start); }, options.stop) == autotune::TurnsEnd::Stopped;
    results = summary(methods, own.toDo.flops);
  } catch (const std::exception &error) {
    results["weft"] = {{"error", reason(error)}};
  }
  for (auto &[name, peer] : peers) peer->release();
  if (stopped || (options.stop && options.stop())) return std::nullopt;
  return row;
}

/// 64 x 64 shares of the first head at T = 256, each row relative to its largest.
json maskPicture(const Case &work) {
  ops::SampleShape shape{1, 1, 256, 16};
  const int64_t span = work.span > 0 ? std::max<int64_t>(1, work.span * 256 / std::max<int64_t>(work.shape.T, 256)) : 0;
  const auto inputs =
      ops::sampleInputs(*findVariant(work.variant), shape, torch::kFloat, ops::useDevice(work.device), span);
  const Tensor shares = ops::maskShares(work.variant, inputs.names, inputs.tensors).cpu();
  const Tensor relativeShares = shares / shares.amax(2, true).clamp_min(1e-20);
  const Tensor small =
      std::get<0>(torch::adaptive_max_pool2d(relativeShares.unsqueeze(0), {64, 64}))[0][0].contiguous();
  json rows = json::array();
  for (int64_t row = 0; row < 64; ++row) {
    json line = json::array();
    for (int64_t column = 0; column < 64; ++column)
      line.push_back(std::round(small[row][column].item<double>() * 1000) / 1000);
    rows.push_back(line);
  }
  return rows;
}

json tuningOf(const std::vector<Case> &cases, const Device &device) {
  json list = json::array();
  for (const TuningEntry &entry : ScheduleCache(device).entries()) {
    const bool used = std::any_of(cases.begin(), cases.end(), [&](const Case &work) {
      return findVariant(work.variant)->name() == entry.key.variant;
    });
    if (!used || entry.build != buildIdentity()) continue;
    json points = json::array();
    for (const TuningPoint &point : entry.points)
      if (!point.samples.empty())
        points.push_back({{"tile_q", point.schedule.tileQ},
                          {"tile_k", point.schedule.tileK},
                          {"keys_q", point.schedule.keysQ},
                          {"keys_k", point.schedule.keysK},
                          {"schedule", describe(point.schedule, "host")},
                          {"ms", 1e3 * autotune::median(point.samples)},
                          {"predicted_ms", 1e3 * point.predicted}});
    list.push_back({{"key", describe(entry.key)},
                    {"variant", entry.key.variant},
                    {"seconds", entry.seconds},
                    {"default_seconds", entry.defaultSeconds},
                    {"schedule", describe(entry.schedule, "host")},
                    {"points", points}});
  }
  return list;
}

}  // namespace

json runBench(const BenchOptions &options) {
  json results = {{"schema", 2},
                  {"complete", false},
                  {"date", now()},
                  {"torch", TORCH_VERSION},
                  {"threads", torch::get_num_threads()},
                  {"build", buildIdentity()},
                  {"rows", json::array()},
                  {"masks", json::object()},
                  {"peers", options.peers},
                  {"peak_gflops", json::object()},
                  {"peak_of", json::object()}};
  if (options.cases.empty()) return results;
  const Device device = parseDevice(options.cases[0].device);
  const bool gpu = ops::useDevice(options.cases[0].device).is_cuda();
  const std::string identity = ScheduleCache(device).deviceName();
  results["device"] = identity.substr(0, identity.find(gpu ? ',' : ' '));
  const auto put = [&](const std::string &type, const std::optional<Roof> &peak) {
    if (!peak) return;
    results["peak_gflops"][type] = 1e-9 * peak->rate;
    results["peak_of"][type] = peak->of;
  };
  auto typeOf = [](const std::string &type) { return rowTypeNamed(type).value_or(ElementType::F32); };
  for (const Case &work : options.cases)
    if (!results["peak_gflops"].contains(work.type)) put(work.type, peakOf(device, typeOf(work.type)));
  if (const auto bandwidth = memoryRoof(device, torch::get_num_threads())) {
    results["bandwidth_gbs"] = 1e-9 * bandwidth->rate;
    results["bandwidth_of"] = bandwidth->of;
  }
  std::vector<std::pair<std::string, std::unique_ptr<Peer>>> peers;
  for (const std::string &name : options.peers)
    peers.emplace_back(name, makePeer(name, {options.peerSeconds, options.stop}));
  results["tuning"] = tuningOf(options.cases, device);
  if (options.save) options.save(results);  // in place of those of an earlier run
  const auto stopped = [&] { return options.stop && options.stop(); };
  for (size_t at = 0; at < options.cases.size() && !stopped(); ++at) {
    const Case &work = options.cases[at];
    if (options.progress)
      options.progress(at, options.cases.size(),
                       work.variant + (work.backward ? " backward " : " forward ") + work.type +
                           " T=" + std::to_string(work.shape.T));
    if (!results["masks"].contains(work.variant)) results["masks"][work.variant] = maskPicture(work);
    if (auto row = runCase(work, peers, options)) results["rows"].push_back(*row);
    if (options.save) options.save(results);
  }
  // A peak that a row beats was measured while the machine was busy.
  for (const json &row : results["rows"]) {
    const json &own = row["results"]["weft"];
    const double peak = results["peak_gflops"].value(row["dtype"].get<std::string>(), HUGE_VAL);
    if (own.value("gflops", 0.0) > peak && !stopped())
      put(row["dtype"], arithmeticRoofAgain(device, typeOf(row["dtype"].get<std::string>()), torch::get_num_threads()));
  }
  results["complete"] = results["rows"].size() == options.cases.size();
  return results;
}

}  // namespace weft::bench
