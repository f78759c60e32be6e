#include "ops/attention.h"

#include <iterator>
#include <sstream>

#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>
#include <torch/utils.h>

#include "ops/broadcast.h"
#include "ops/call_site.h"
#include "ops/inner_calls.h"
#include "ops/kept_pattern.h"
#include "ops/layout.h"
#include "ops/passes.h"
#include "ops/variant_library.h"

namespace weft::ops {

using ForwardSchema = std::tuple<at::Tensor, at::Tensor>(c10::string_view, const c10::List<std::string> &,
                                                         at::TensorList);
using BackwardSchema = std::vector<at::Tensor>(c10::string_view, const c10::List<std::string> &, at::TensorList,
                                               const at::Tensor &, const at::Tensor &, const at::Tensor &,
                                               const std::optional<at::Tensor> &);
using AttentionSchema = at::Tensor(c10::string_view, const c10::List<std::string> &, at::TensorList);

c10::List<std::string> toList(const std::vector<std::string> &names) {
  c10::List<std::string> list;
  for (const std::string &name : names) list.push_back(name);
  return list;
}

std::tuple<at::Tensor, at::Tensor> callForward(c10::string_view variant, const c10::List<std::string> &names,
                                               at::TensorList tensors) {
  static auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("weft::_forward_keeping_rows", "").typed<ForwardSchema>();
  return op.call(variant, names, tensors);
}
std::vector<at::Tensor> callBackward(c10::string_view variant, const c10::List<std::string> &names,
                                     at::TensorList tensors, const at::Tensor &o, const at::Tensor &rows,
                                     const at::Tensor &dO, const std::optional<at::Tensor> &dLse) {
  static auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("weft::_backward_from_rows", "").typed<BackwardSchema>();
  return op.call(variant, names, tensors, o, rows, dO, dLse);
}

at::Tensor callSelect(c10::string_view variant, const c10::List<std::string> &names, at::TensorList tensors) {
  at::AutoDispatchBelowADInplaceOrView guard;
  static auto op = c10::Dispatcher::singleton().findSchemaOrThrow("weft::select", "").typed<AttentionSchema>();
  return op.call(variant, names, tensors);
}

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;
using Names = std::vector<std::string>;

void demandSelection(const Variant &variant) {
  TORCH_CHECK(variant.selects(), "weft: variant '", variant.name(), "' selects no tiles; a 'select' statement would");
}

/// A file may be edited between the forward and the backward pass of a call.
std::string lastingOrThrow(const std::string &variant) {
  try {
    return lastingText(variant);
  } catch (const std::invalid_argument &error) {
    TORCH_CHECK(false, "weft: ", error.what());
  }
}

std::tuple<at::Tensor, at::Tensor> forward(c10::string_view variant, const c10::List<std::string> &names,
                                           at::TensorList tensors) {
  const auto site = callSite(variant, names, tensors);
  return runForward(bindCall(*site, tensors, false));
}

std::vector<at::Tensor> backward(c10::string_view variant, const c10::List<std::string> &names, at::TensorList tensors,
                                 const at::Tensor &o, const at::Tensor &rows, const at::Tensor &dO,
                                 const std::optional<at::Tensor> &dLse) {
  const auto site = callSite(variant, names, tensors);
  checkGradients(checkArguments(site->signature, tensors), tensors, o, rows, dO, dLse);
  const std::vector<at::Tensor> own = runBackward(bindCall(*site, tensors, true), o, rows, dO, dLse);
  std::vector<at::Tensor> gradients(tensors.size());
  for (size_t at = 0; at < own.size(); ++at) {
    const int place = site->signature.places[at];
    if (own[at].defined()) gradients[place] = own[at].to(tensors[place].scalar_type());
  }
  for (at::Tensor &gradient : gradients)
    if (!gradient.defined()) gradient = at::zeros({0}, o.options().dtype(at::kFloat));
  return gradients;
}

// ---- shapes only ---------------------------------------------------------------------------

std::tuple<at::Tensor, at::Tensor> forwardMeta(c10::string_view variant, const c10::List<std::string> &names,
                                               at::TensorList tensors) {
  const auto site = callSite(variant, names, tensors);
  const Arguments arguments = checkArguments(site->signature, tensors);
  const c10::SymInt B = arguments.size("B"), H = arguments.size("H"), T = arguments.size("T");
  const at::Tensor &value = tensors[site->signature.places[site->variant().keySets()[0].values]];
  return {emptyRows({B, H, T, value.sym_size(3)}, outputHasTokensFirst(site->signature, tensors), value.options()),
          at::empty_symint({rowsKept(site->variant()), B, H, T},
                           value.options().dtype(floatsBeside(value.scalar_type())))};
}

std::vector<at::Tensor> backwardMeta(c10::string_view variant, const c10::List<std::string> &names,
                                     at::TensorList tensors, const at::Tensor &o, const at::Tensor &rows,
                                     const at::Tensor &dO, const std::optional<at::Tensor> &dLse) {
  const auto site = callSite(variant, names, tensors);
  checkGradients(checkArguments(site->signature, tensors), tensors, o, rows, dO, dLse);
  std::vector<at::Tensor> gradients(tensors.size());
  for (size_t at = 0; at < site->variant().inputs().size(); ++at) {
    const int place = site->signature.places[at];
    const InputInfo &input = site->variant().inputs()[at];
    if (input.isFloat)
      gradients[place] = emptyRows(tensors[place].sym_sizes(), input.isRow && tokensFirst(tensors[place]),
                                   tensors[place].options().memory_format(at::MemoryFormat::Contiguous));
  }
  for (size_t at = 0; at < gradients.size(); ++at)
    if (!gradients[at].defined()) gradients[at] = at::empty({0}, tensors[at].options().dtype(at::kFloat));
  return gradients;
}

struct AttentionFunction : torch::autograd::Function<AttentionFunction> {
  static variable_list forward(AutogradContext *context, const std::string &variant,
                               const c10::List<std::string> &names, at::TensorList tensors) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [o, rows] = callForward(variant, names, tensors);
    variable_list saved(tensors.begin(), tensors.end());
    saved.push_back(o);
    saved.push_back(rows);
    context->save_for_backward(saved);
    context->saved_data["variant"] = variant;
    context->saved_data["names"] = names;
    context->set_materialize_grads(false);
    return {o, rows.select(0, 0)};
  }

  static variable_list backward(AutogradContext *context, variable_list gradients) {
    variable_list saved = context->get_saved_variables();
    const at::Tensor rows = saved.back();
    saved.pop_back();
    const at::Tensor o = saved.back();
    saved.pop_back();
    const std::string variant = context->saved_data["variant"].toStringRef();
    c10::List<std::string> names;
    for (const c10::IValue &name : context->saved_data["names"].toListRef()) names.push_back(name.toStringRef());
    const at::Tensor dO = gradients[0].defined() ? gradients[0] : at::zeros_like(o);
    std::optional<at::Tensor> dLse;
    if (gradients[1].defined()) dLse = gradients[1];
    std::vector<at::Tensor> all = callBackward(variant, names, saved, o, rows, dO, dLse);
    variable_list result{Variable(), Variable()};
    for (size_t at = 0; at < all.size(); ++at) result.push_back(saved[at].is_floating_point() ? all[at] : Variable());
    return result;
  }
};

/// A call's names and tensors, and what is found for those that the caller did not give.
struct Completed {
  Completed(c10::string_view variant, const c10::List<std::string> &given, at::TensorList tensors)
      : variant(variant), names(given.copy()), tensors(tensors.vec()) {}

  void add(const char *name, const at::Tensor &tensor) {
    names.push_back(name);
    tensors.push_back(tensor);
  }

  const std::string variant;
  c10::List<std::string> names;
  std::vector<at::Tensor> tensors;
};

bool lacksSeed(const CallSite &site) { return site.variant().hasDropout() && site.signature.seed < 0; }
bool lacksSelection(const CallSite &site) { return site.variant().selects() && site.signature.selection < 0; }

at::Tensor callSelect(const Completed &call) { return ops::callSelect(call.variant, call.names, call.tensors); }

/// Whether tiles are chosen by a call in float64: its kernels choose none.
bool selectsInDouble(const CallSite &site, at::TensorList tensors) {
  const auto at = static_cast<size_t>(site.signature.places[site.variant().keySets()[0].values]);
  return site.variant().selects() && at < tensors.size() && tensors[at].scalar_type() == at::kDouble;
}

/// The same in float32, which chooses them: what estimates tiles is no more exact for more digits.
std::vector<at::Tensor> narrowed(at::TensorList tensors) {
  std::vector<at::Tensor> narrow;
  for (const at::Tensor &tensor : tensors)
    narrow.push_back(tensor.is_floating_point() ? tensor.to(at::kFloat) : tensor);
  return narrow;
}

at::Tensor selectTiles(c10::string_view variant, const c10::List<std::string> &names, at::TensorList tensors) {
  at::NoGradGuard guard;
  const auto site = callSite(variant, names, tensors);
  if (auto wide = broadcast(site->signature, tensors)) return selectTiles(variant, names, *wide);
  demandSelection(site->variant());
  if (selectsInDouble(*site, tensors)) return selectTiles(variant, names, narrowed(tensors));
  return runSelect(bindCall(*site, tensors, false));
}

at::Tensor selectMeta(c10::string_view variant, const c10::List<std::string> &names, at::TensorList tensors) {
  const auto site = callSite(variant, names, tensors);
  if (auto wide = broadcast(site->signature, tensors)) return selectMeta(variant, names, *wide);
  demandSelection(site->variant());
  return at::empty_symint(selectionShape(checkArguments(site->signature, tensors)),
                          tensors[0].options().dtype(at::kBool).requires_grad(false));
}

/// Other normalisers have nothing of the kind.
void demandSoftmax(c10::string_view variant) {
  auto parsed = variantOrThrow(variant);
  TORCH_CHECK(parsed->hasLogSumExp(), "weft: variant '", parsed->name(),
              "': expected a softmax for a log-sum-exp, got another normaliser; call weft::attention");
}

// ---- without gradients ---------------------------------------------------------------------

/// On the tensors' device, or shapes alone.
template <auto &run>
std::tuple<at::Tensor, at::Tensor> compute(c10::string_view variant, const c10::List<std::string> &names,
                                           at::TensorList tensors) {
  const auto site = callSite(variant, names, tensors);
  if (auto wide = broadcast(site->signature, tensors)) return compute<run>(variant, names, *wide);
  if (!tensors.empty() && lacksSeed(*site)) {
    Completed call(variant, names, tensors);
    call.add("seed", drawnSeed(tensors[0].device()));
    return compute<run>(call.variant, call.names, call.tensors);
  }
  if (lacksSelection(*site) && selectsInDouble(*site, tensors)) {
    Completed call(variant, names, tensors);
    call.add("selection", callSelect(call));
    return run(call.variant, call.names, call.tensors);
  }
  return run(variant, names, tensors);
}

template <auto &run>
at::Tensor withoutLse(c10::string_view variant, const c10::List<std::string> &names, at::TensorList tensors) {
  return std::get<0>(compute<run>(variant, names, tensors));
}
template <auto &run>
std::tuple<at::Tensor, at::Tensor> withLse(c10::string_view variant, const c10::List<std::string> &names,
                                           at::TensorList tensors) {
  demandSoftmax(variant);
  const auto [o, rows] = compute<run>(variant, names, tensors);
  return {o, rows.select(0, 0)};
}

// ---- with gradients ------------------------------------------------------------------------

/// False where no node of a graph would be made.
bool needsGraph(at::TensorList tensors) {
  const bool recorded = at::GradMode::is_enabled();
  for (const at::Tensor &tensor : tensors) {
    if (recorded && tensor.requires_grad()) return true;
    // A tangent: the node refuses it.
    if (torch::autograd::impl::get_autograd_meta(tensor) && tensor._fw_grad(0).defined()) return true;
  }
  return false;
}

variable_list applyAutograd(c10::string_view variant, const c10::List<std::string> &names, at::TensorList tensors) {
  const std::string text = lastingOrThrow(std::string(variant));
  const auto site = callSite(text, names, tensors);
  if (auto wide = broadcast(site->signature, tensors)) return applyAutograd(text, names, *wide);
  Completed call(text, names, tensors);
  if (lacksSeed(*site) && !tensors.empty()) call.add("seed", drawnSeed(tensors[0].device()));
  // Tiles are chosen once for both directions.
  if (lacksSelection(*site)) call.add("selection", callSelect(call));
  return AttentionFunction::apply(call.variant, call.names, at::TensorList(call.tensors));
}

at::Tensor attentionAutograd(c10::string_view variant, const c10::List<std::string> &names, at::TensorList tensors) {
  if (needsGraph(tensors)) return applyAutograd(variant, names, tensors)[0];
  at::AutoDispatchBelowADInplaceOrView guard;
  static auto op = c10::Dispatcher::singleton().findSchemaOrThrow("weft::attention", "").typed<AttentionSchema>();
  return op.call(variant, names, tensors);
}
std::tuple<at::Tensor, at::Tensor> withLseAutograd(c10::string_view variant, const c10::List<std::string> &names,
                                                   at::TensorList tensors) {
  if (needsGraph(tensors)) {
    demandSoftmax(variant);
    const variable_list results = applyAutograd(variant, names, tensors);
    return {results[0], results[1]};
  }
  at::AutoDispatchBelowADInplaceOrView guard;
  static auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("weft::attention_with_lse", "").typed<ForwardSchema>();
  return op.call(variant, names, tensors);
}

std::vector<at::Tensor> backwardAutograd(c10::string_view variant, const c10::List<std::string> &names,
                                         at::TensorList tensors, const at::Tensor &o, const at::Tensor &rows,
                                         const at::Tensor &dO, const std::optional<at::Tensor> &dLse) {
  bool needs = dO.requires_grad();
  for (const at::Tensor &tensor : tensors) needs |= tensor.requires_grad();
  TORCH_CHECK(!(at::GradMode::is_enabled() && needs),
              "weft: the second derivative of attention is not supported; call backward without create_graph=True");
  at::AutoDispatchBelowADInplaceOrView guard;
  return callBackward(variant, names, tensors, o, rows, dO, dLse);
}

}  // namespace

torch::Tensor attention(const std::string &variant, const std::vector<std::string> &names,
                        const std::vector<torch::Tensor> &tensors) {
  static auto op = c10::Dispatcher::singleton().findSchemaOrThrow("weft::attention", "").typed<AttentionSchema>();
  return op.call(variant, toList(names), tensors);
}

std::tuple<torch::Tensor, torch::Tensor> attentionWithLse(const std::string &variant,
                                                          const std::vector<std::string> &names,
                                                          const std::vector<torch::Tensor> &tensors) {
  static auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("weft::attention_with_lse", "").typed<ForwardSchema>();
  return op.call(variant, toList(names), tensors);
}

/// "q k v" as names: torch.jit.trace knows no lists of strings.
static Names namesIn(c10::string_view joined) {
  std::istringstream words{std::string(joined)};
  return {std::istream_iterator<std::string>(words), {}};
}

static at::Tensor attentionOfJoined(c10::string_view variant, c10::string_view names, at::TensorList tensors) {
  return attention(std::string(variant), namesIn(names), tensors.vec());
}
static std::tuple<at::Tensor, at::Tensor> withLseOfJoined(c10::string_view variant, c10::string_view names,
                                                          at::TensorList tensors) {
  return attentionWithLse(std::string(variant), namesIn(names), tensors.vec());
}

/// For functions of Python that stand between a call and its kernels.
static std::vector<at::Tensor> broadcastTensors(c10::string_view variant, const c10::List<std::string> &names,
                                                at::TensorList tensors) {
  return broadcast(callSite(variant, names, tensors)->signature, tensors).value_or(tensors.vec());
}

KeptTiles keptTiles(const std::string &variant, const Names &names, const std::vector<torch::Tensor> &tensors) {
  at::NoGradGuard guard;
  const auto site = callSite(variant, toList(names), tensors);
  if (auto wide = broadcast(site->signature, tensors)) return keptTiles(variant, names, *wide);
  if (selectsInDouble(*site, tensors)) return keptTiles(variant, names, narrowed(tensors));
  const Binding call = bindCall(*site, tensors, false);
  const KeptPattern pattern(call);
  KeptTiles result;
  result.total = pattern.tiles();
  result.keys = pattern.keys();
  result.reach = call.set.variant->seesDistancesAlone() ? pattern.reach() : call.S;
  for (int64_t head = 0; head < call.B * call.H; ++head)
    result.kept.push_back(pattern.count(head, call.set.schedule.tileQ, call.set.schedule.tileK).kept);
  for (int64_t head = 0; head < call.B * call.H; ++head) result.entropy.push_back(pattern.entropy(head));
  return result;
}

at::Tensor maskShares(const std::string &variant, const Names &givenNames, std::vector<at::Tensor> tensors) {
  at::NoGradGuard guard;
  // What is chosen is chosen by the true queries.
  Names names = givenNames;
  const Completed given(variant, toList(names), tensors);
  if (lacksSelection(*callSite(variant, given.names, tensors))) {
    names.push_back("selection");
    tensors.push_back(callSelect(given));
  }
  auto index = [&](const char *name) {
    return static_cast<size_t>(std::find(names.begin(), names.end(), name) - names.begin());
  };
  const size_t q = index("q"), v = index("v");
  TORCH_CHECK(q < tensors.size() && v < tensors.size(), "weft: expected tensors named 'q' and 'v'");
  tensors[q] = at::zeros_like(tensors[q]);
  const at::Tensor value = tensors[v];
  const int64_t length = value.size(2), chunk = std::min<int64_t>(128, length);
  // Keys beside those of v take their share of the mass and show nothing.
  const auto made = findVariant(variant);
  for (const KeySetInfo &keys : made->keySets())
    if (const size_t at = index(made->inputs()[keys.values].name.c_str()); at != v && at < tensors.size())
      tensors[at] = at::zeros({tensors[at].size(0), tensors[at].size(1), tensors[at].size(2), chunk},
                              value.options().requires_grad(false));
  std::vector<at::Tensor> columns;
  for (int64_t first = 0; first < length; first += chunk) {
    const int64_t count = std::min(chunk, length - first);
    at::Tensor identity = at::zeros({length, chunk}, value.options().requires_grad(false));
    identity.slice(0, first, first + count).slice(1, 0, count).copy_(at::eye(count, identity.options()));
    tensors[v] = identity.expand({value.size(0), value.size(1), length, chunk}).contiguous();
    columns.push_back(attention(variant, names, tensors)[0].slice(2, 0, count));
  }
  return at::cat(columns, 2);
}

TORCH_LIBRARY(weft, library) {
  library.def("attention(str variant, str[] names, Tensor[] tensors) -> Tensor");
  library.def("attention_with_lse(str variant, str[] names, Tensor[] tensors) -> (Tensor, Tensor)");
  library.def("attention.joined(str variant, str names, Tensor[] tensors) -> Tensor");
  library.def("attention_with_lse.joined(str variant, str names, Tensor[] tensors) -> (Tensor, Tensor)");
  library.def("_broadcast(str variant, str[] names, Tensor[] tensors) -> Tensor[]");
  library.def("select(str variant, str[] names, Tensor[] tensors) -> Tensor");
  library.def("_forward_keeping_rows(str variant, str[] names, Tensor[] tensors) -> (Tensor, Tensor)");
  library.def(
      "_backward_from_rows(str variant, str[] names, Tensor[] tensors, Tensor o, Tensor rows, Tensor do, "
      "Tensor? dlse) -> Tensor[]");
}
TORCH_LIBRARY_IMPL(weft, CompositeImplicitAutograd, library) {
  library.impl("attention.joined", attentionOfJoined);
  library.impl("attention_with_lse.joined", withLseOfJoined);
  library.impl("_broadcast", broadcastTensors);
}
// torch.vmap takes only torch's own composites apart by itself.
TORCH_LIBRARY_IMPL(weft, FuncTorchBatched, library) { library.impl("_broadcast", broadcastTensors); }
void implement(torch::Library &library) {
  library.impl("attention", withoutLse<forward>);
  library.impl("attention_with_lse", withLse<forward>);
  library.impl("select", selectTiles);
  library.impl("_forward_keeping_rows", forward);
  library.impl("_backward_from_rows", backward);
}
TORCH_LIBRARY_IMPL(weft, CPU, library) { implement(library); }
TORCH_LIBRARY_IMPL(weft, CUDA, library) { implement(library); }
TORCH_LIBRARY_IMPL(weft, Meta, library) {
  library.impl("attention", withoutLse<forwardMeta>);
  library.impl("attention_with_lse", withLse<forwardMeta>);
  library.impl("select", selectMeta);
  library.impl("_forward_keeping_rows", forwardMeta);
  library.impl("_backward_from_rows", backwardMeta);
}
TORCH_LIBRARY_IMPL(weft, Autograd, library) {
  library.impl("attention", attentionAutograd);
  library.impl("attention_with_lse", withLseAutograd);
  library.impl("_backward_from_rows", backwardAutograd);
}

}  // namespace weft::ops
