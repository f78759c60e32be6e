#include "benchmarks/predictions.h"

#include <atomic>
#include <cstdio>
#include <optional>
#include <thread>

#include <torch/utils.h>

#include "autotune/modelled_call.h"
#include "benchmarks/results.h"
#include "benchmarks/work.h"
#include "ops/variant_library.h"
#include "runtime/environment.h"
#include "runtime/kernel_cache.h"

namespace weft::bench {
namespace {

using nlohmann::json;

json ofKernel(const timeline::Timeline &own) {
  json busy = json::object();
  for (const timeline::PipeShare &pipe : own.pipes) busy[pipe.name] = pipe.kernel;
  return {{"kernel", own.kernel},   {"predicted_us", 1e6 * own.seconds},  {"predicted_bound", own.bound},
          {"predicted_busy", busy}, {"predicted_issue", own.issueKernel}, {"registers", own.registers},
          {"warps", own.warps},     {"from", own.sass ? "SASS" : "PTX"},  {"notes", own.notes}};
}

/// Each kernel compiled, assembled and scheduled, on as many threads as there are.
std::vector<timeline::Timeline> predictKernels(const autotune::CallTimeline &call, const Schedule &schedule) {
  const std::vector<std::string> names = call.kernels(schedule);
  std::vector<timeline::Timeline> all(names.size());
  std::vector<std::string> errors(names.size());
  std::atomic<size_t> next{0};
  auto work = [&] {
    for (size_t at; (at = next++) < names.size();) try {
        all[at] = call.predict(names[at], schedule);
        all[at].kernel = names[at];
      } catch (const std::exception &error) {
        errors[at] = error.what();
      }
  };
  std::vector<std::thread> workers;
  for (unsigned left = std::max(1u, std::thread::hardware_concurrency()); left > 1; --left) workers.emplace_back(work);
  work();
  for (std::thread &worker : workers) worker.join();
  for (const std::string &error : errors)
    if (!error.empty()) throw std::runtime_error(error);
  return all;
}

json rowOf(const Case &work, const std::string &code, const timeline::Chip &chip) {
  json row = {{"variant", work.variant},
              {"B", work.shape.B},
              {"H", work.shape.H},
              {"T", work.shape.T},
              {"D", work.shape.D},
              {"dtype", work.type},
              {"direction", work.backward ? "backward" : "forward"},
              {"span", work.span},
              {"code", code}};
  try {
    torch::manual_seed(0);
    const auto variant = findVariant(work.variant);
    row["variant"] = variant->name();
    const auto inputs = ops::sampleInputs(*variant, work.shape, ops::scalarType(work.type), torch::kCPU, work.span);
    const autotune::Problem problem{work.variant, inputs.names, inputs.tensors, work.backward, work.shape.text()};
    const autotune::ModelledCall call(problem, chip);
    const Work toDo = workOf(call.onHost(), call.kept(), work.backward);
    double seconds = 0;
    json kernels = json::array();
    for (const timeline::Timeline &own : predictKernels(call.timeline(), call.untuned())) {
      seconds += own.seconds;
      kernels.push_back(ofKernel(own));
    }
    row["schedule"] = describe(call.untuned(), code == "sm_80" ? timeline::architecture(chip) : code);
    row["kept_tiles"] = toDo.keptShare;
    row["flops"] = toDo.flops;
    row["predicted_ms"] = 1e3 * seconds;
    row["predicted_tflops"] = 1e-12 * toDo.flops / seconds;
    row["peak_tflops"] = timeline::peakTeraflops(chip, work.type != "f32");
    row["kernels"] = std::move(kernels);
  } catch (const std::exception &error) {
    const std::string text = error.what();
    row["error"] = text.substr(0, text.find('\n'));
  }
  return row;
}

}  // namespace

json predictAll(const PredictionOptions &options) {
  const timeline::Chip &chip = timeline::chip(options.gpu);
  const std::string architecture = timeline::architecture(chip);
  std::vector<std::string> codes{"sm_80"};
  if (architecture == "sm_90") codes.push_back("sm_90a");
  json all = {{"schema", 1},
              {"kind", "predicted"},
              {"complete", false},
              {"gpu", options.gpu},
              {"product", timeline::product(chip)},
              {"architecture", architecture},
              {"date", now()},
              {"build", buildIdentity()},
              {"rows", json::array()}};
  const std::string asked = environment::gpu();
  size_t done = 0;
  for (const Case &work : options.cases)
    for (const std::string &code : codes) {
      if (options.stop && options.stop()) break;
      if (code != "sm_80" && work.type == "f32") {  // has none of its own
        ++done;
        continue;
      }
      if (options.progress)
        options.progress(done++, options.cases.size() * codes.size(),
                         work.variant + (work.backward ? " backward " : " forward ") + work.type + " [" +
                             work.shape.text() + "] " + code);
      environment::setGpu(code);
      all["rows"].push_back(rowOf(work, code, chip));
      if (options.save) options.save(all);
    }
  environment::setGpu(asked);
  all["complete"] = !(options.stop && options.stop());
  return all;
}

std::string predictionTable(const json &predictions) {
  std::string out = predictions.at("product").get<std::string>() + ": predicted, not measured\n";
  char text[512];
  for (const json &row : predictions.at("rows")) {
    std::snprintf(text, sizeof text, "%s [%d,%d,%d,%d] %s, %s", row.at("variant").get<std::string>().c_str(),
                  row.at("B").get<int>(), row.at("H").get<int>(), row.at("T").get<int>(), row.at("D").get<int>(),
                  row.at("direction").get<std::string>().c_str(),
                  (row.at("dtype").get<std::string>() + " " + row.at("code").get<std::string>()).c_str());
    std::string name = text;
    name.resize(std::max<size_t>(name.size(), 64), ' ');
    if (row.contains("error")) {
      out += name + " not predicted: " + row.at("error").get<std::string>() + "\n";
      continue;
    }
    const json *longest = &row.at("kernels").at(0);
    for (const json &kernel : row.at("kernels"))
      if (kernel.at("predicted_us") > longest->at("predicted_us")) longest = &kernel;
    std::snprintf(text, sizeof text, " %9.3f ms predicted %6.0f TFLOP/s predicted  %s",
                  row.at("predicted_ms").get<double>(), row.at("predicted_tflops").get<double>(),
                  longest->at("predicted_bound").get<std::string>().c_str());
    out += name + text + "\n";
  }
  if (!predictions.at("complete").get<bool>()) out += "not complete: stopped\n";
  return out;
}

}  // namespace weft::bench
