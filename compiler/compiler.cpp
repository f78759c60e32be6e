#include "compiler/compiler.h"

#include <algorithm>

#include "compiler/default_schedule.h"
#include "compiler/internal_error.h"
#include "compiler/language/ast.h"
#include "compiler/language/checker.h"
#include "compiler/language/parser.h"
#include "compiler/pipeline.h"
#include "compiler/target/cpu/object_code.h"
#include "compiler/target/target.h"
#include "compiler/terms.h"

namespace weft {

const char *name(ElementType type) {
  switch (type) {
    case ElementType::F32: return "f32";
    case ElementType::BF16: return "bf16";
    case ElementType::F16: return "f16";
    case ElementType::F64: return "f64";
    case ElementType::I32: return "i32";
    case ElementType::I64: return "i64";
    case ElementType::Bool: return "bool";
  }
  return "?";
}

bool hasWideSums(const std::vector<std::string> &dims) {
  const auto has = [&](const char *dim) { return std::find(dims.begin(), dims.end(), dim) != dims.end(); };
  return !(has("T") && has("S"));
}

std::optional<ElementType> rowTypeNamed(std::string_view text) {
  for (ElementType type : rowTypes)
    if (text == name(type)) return type;
  return std::nullopt;
}

ElementType floatsBeside(ElementType rows) { return rows == ElementType::F64 ? rows : ElementType::F32; }

int64_t bytesOf(ElementType type) {
  switch (type) {
    case ElementType::F32:
    case ElementType::I32: return 4;
    case ElementType::BF16:
    case ElementType::F16: return 2;
    case ElementType::F64:
    case ElementType::I64: return 8;
    case ElementType::Bool: return 1;
  }
  return 4;
}

ParseResult parse(std::string_view source, std::string_view fileName) {
  ParseResult result;
  Diagnostics diagnostics(source, fileName);
  const ParsedVariants variants = parseFile(source, diagnostics);
  for (const auto &variant : variants)
    if (!diagnostics.full()) checkVariant(*variant, diagnostics);
  result.diagnostics = diagnostics.take();
  if (!result.diagnostics.empty()) return result;
  for (const auto &variant : variants) {
    try {
      result.variants.push_back(std::make_shared<const Variant>(variant));
    } catch (const InternalError &error) {
      result.diagnostics.push_back(makeDiagnostic(source, fileName, variant->range, error.what()));
      result.variants.clear();
      break;
    }
  }
  return result;
}

CompileResult compile(const CompileRequest &request) {
  CompileResult result;
  auto fail = [&](std::string message) {
    result.error = std::move(message);
    return result;
  };
  if (!request.variant) return fail("expected a variant, got none");
  if (std::ranges::find(rowTypes, request.type) == std::end(rowTypes))
    return fail(std::string("expected element type f32, bf16, f16 or f64, got ") + name(request.type));
  if (const auto terms = termDims(*request.variant); !terms.empty())
    return fail("expected a variant whose numbers of terms are written, got dim " + terms[0] + " as one of '" +
                request.variant->name() + "'");
  const bool wide = request.type == ElementType::F64;
  if (wide && isGpu(request.target)) return fail("f64 runs on CPUs alone, got target \"" + request.target + "\"");
  if (std::string wrong = illegal(request.schedule, *request.variant); !wrong.empty()) return fail(std::move(wrong));
  for (const InputInfo &input : request.variant->inputs()) {
    if (!input.isRow) continue;
    auto found = request.dims.find(input.dims.back());
    if (found == request.dims.end() || found->second < 1 || found->second > 256)
      return fail("expected dim " + input.dims.back() + " of input '" + input.name + "' from 1 to 256, got " +
                  (found == request.dims.end() ? "none" : std::to_string(found->second)));
  }
  if (!target::targetOf(request.target).knows(request.target))
    return fail(
        "expected \"host\", a CPU that LLVM knows (llc -mcpu=help lists them) or a GPU from \"sm_80\" on, got \"" +
        request.target + "\"");
  auto all = kernelNames(*request.variant, true, isGpu(request.target));
  if (std::find(all.begin(), all.end(), request.kernel) == all.end()) {
    std::string list;
    for (const std::string &known : all) list += " " + known;
    return fail("variant '" + request.variant->name() + "' has no kernel '" + request.kernel + "'; it has:" + list);
  }
  if (wide && (request.kernel.starts_with("select_") || request.kernel.starts_with("pool_")))
    return fail("tiles are selected in f32: of f64 expected a selection that is given");
  try {
    return runPipeline(request);
  } catch (const InternalError &error) {
    return fail(error.what());
  }
}

CpuFacts cpuFacts(const std::string &target) {
  const target::Machine machine = cpu::machineOf(target);
  return {machine.lanes, machine.registers, machine.amx, machine.pairs != target::Machine::Pairs::None};
}

bool isGpu(const std::string &target) { return target::targetOf(target).isGpu(); }

const char *buildIdentity() { return WEFT_BUILD_IDENTITY; }
std::string hostIdentity() { return cpu::hostDescription(); }

}  // namespace weft
