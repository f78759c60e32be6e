// weft check, weft compile, weft variants: the compiler at the terminal.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <stdexcept>

#include "cli/commands.h"
#include "cli/timeline.h"
#include "ops/inspection.h"
#include "ops/variant_library.h"

namespace weft::cli {

/// Pipes too, up to what the parser takes; it says what is wrong with more.
static std::string readAll(const std::string &path) {
  std::ifstream stream(path, std::ios::binary);
  std::string text((1 << 20) + 1, '\0');
  if (!stream || stream.read(text.data(), static_cast<std::streamsize>(text.size())).bad())
    throw std::runtime_error("cannot open " + path);
  text.resize(static_cast<size_t>(stream.gcount()));
  return text;
}

void addVariants(CLI::App &app, Action &action) {
  CLI::App *command = app.add_subcommand("variants", "List the library's variants");
  command->callback([&action] {
    action = [] {
      for (const LibraryVariant &variant : variantLibrary()) {
        const size_t end = variant.text.find('\n');
        std::printf("%-22s %s\n", variant.name.c_str(), variant.text.substr(0, end).c_str());
      }
      return 0;
    };
  });
}

void addCheck(CLI::App &app, Action &action) {
  auto files = std::make_shared<std::vector<std::string>>();
  CLI::App *command = app.add_subcommand("check", "Check variants; exit code 1 on error");
  command->add_option("files", *files, ".weft files")->required();
  command->callback([&action, files] {
    action = [files] {
      bool failed = false;
      for (const std::string &path : *files) {
        const ParseResult result = parse(readAll(path), path);
        if (result.diagnostics.empty()) {
          std::printf("%s: ok\n", path.c_str());
          continue;
        }
        std::fputs(render(result.diagnostics).c_str(), stderr);
        failed = true;
      }
      return failed ? 1 : 0;
    };
  });
}

void addCompile(CLI::App &app, Action &action) {
  struct Options {
    std::string variant, kernel = "forward", target = "cpu", type = "f32", stage = "tile", deviceModel, shape;
    int64_t headDim = 64, terms = 8, span = 0;
    Schedule schedule;
  };
  auto options = std::make_shared<Options>();
  std::vector<std::string> stages = ops::stageNames();
  stages.push_back("timeline");
  CLI::App *command = app.add_subcommand("compile", "Print any stage of a kernel");
  command->add_option("variant", options->variant, "A library variant, a file, or file:name")->required();
  command
      ->add_option("--kernel", options->kernel,
                   "forward, backward, backward_delta, backward_dq, backward_dkdv, plan_*; of a GPU: backward_queries, "
                   "backward_keys")
      ->capture_default_str();
  command
      ->add_option("--target", options->target,
                   "cpu (this one), a CPU LLVM knows (haswell, ...) or a GPU (sm_80, sm_90a, ...)")
      ->capture_default_str();
  command->add_option("--stages", options->schedule.stages, "GPU: tiles of a streamed operand in shared memory, 1 to 4")
      ->capture_default_str();
  command->add_option("--head-dim", options->headDim, "Size of the dims that rows end in")->capture_default_str();
  command->add_option("--terms", options->terms, "Size of the dims that count terms, as in any(n < N, ...)")
      ->capture_default_str();
  command->add_option("--dtype", options->type, "f32, bf16, f16 or, on CPUs, f64")
      ->check(CLI::IsMember({"f32", "bf16", "f16", "f64"}))
      ->capture_default_str();
  command->add_option("--tile-q", options->schedule.tileQ, "Queries a tile")->capture_default_str();
  command->add_option("--tile-k", options->schedule.tileK, "Keys a tile")->capture_default_str();
  command->add_option("--keys-q", options->schedule.keysQ,
                      "Queries a tile of backward_dkdv and backward_keys; default: --tile-q");
  command->add_option("--keys-k", options->schedule.keysK,
                      "Keys a tile of backward_dkdv and backward_keys; default: --tile-k");
  command
      ->add_option("--block", options->schedule.blockRows,
                   "CPU: rows of a register block, 6, 8 or 12; 1: queries one by one, where they are few")
      ->capture_default_str();
  command->add_flag_callback(
      "--heads-inner", [options] { options->schedule.order = Order::HeadsInner; },
      "Programs of one tile, all heads, first");
  command
      ->add_option(
          "--emit", options->stage,
          "ast, weft, tile, llvm; of a CPU: vector, asm, obj (to standard output); of a GPU: nvvm, ptx, cubin, sass; "
          "timeline: the time predicted for a GPU; plan: the buffers and kernels of the pass")
      ->check(CLI::IsMember(stages))
      ->capture_default_str();
  command->add_option("--device-model", options->deviceModel,
                      "timeline: a100, h100, h200, l4, l40s or rtx4090 (default: one of --target)");
  command->add_option("--shape", options->shape, "timeline: B,H,T,D of the call (default: 2,16,4096 and --head-dim)");
  command->add_option("--span", options->span, "timeline: reach of spans and windows in tokens (default: half of T)")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 30));
  command->callback([&action, options, command] {
    action = [options, command] {
      if (options->stage == "timeline") {
        bool chosen = false;
        for (const char *name : {"--tile-q", "--tile-k", "--keys-q", "--keys-k", "--stages", "--heads-inner"})
          chosen |= command->count(name) > 0;
        const std::string shape =
            options->shape.empty() ? "2,16,4096," + std::to_string(options->headDim) : options->shape;
        return printTimeline(options->variant, options->kernel, options->type,
                             options->deviceModel.empty() ? deviceModelOf(options->target) : options->deviceModel,
                             ops::parseShape(shape), options->span,
                             chosen ? std::optional(options->schedule) : std::nullopt);
      }
      CompileRequest request;
      request.variant = ops::variantWithTerms(options->variant, options->terms);
      request.kernel = options->kernel;
      request.type = *rowTypeNamed(options->type);
      request.schedule = options->schedule;
      request.target = options->target == "cpu" ? "host" : options->target;
      for (const InputInfo &input : request.variant->inputs())
        if (input.isRow) request.dims[input.dims.back()] = options->headDim;
      std::string note;
      const std::string out = ops::stageText(request, options->stage, note);
      if (!note.empty()) std::fprintf(stderr, "%s\n", note.c_str());
      std::fwrite(out.data(), 1, out.size(), stdout);
      return 0;
    };
  });
}

}  // namespace weft::cli
