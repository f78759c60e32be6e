#include "compiler/target/image.h"

#include <array>
#include <charconv>
#include <utility>

#include "compiler/internal_error.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinAttributes.h"

namespace weft::target {
namespace {

constexpr llvm::StringLiteral attribute = "weft.image";

template <class Kind>
struct Named {
  Kind kind;
  llvm::StringLiteral name;
};

constexpr std::array<Named<ArgumentSlot::Kind>, 3> slotKinds{{
    {ArgumentSlot::Kind::Dim, "dim"},
    {ArgumentSlot::Kind::Pointer, "pointer"},
    {ArgumentSlot::Kind::Stride, "stride"},
}};
constexpr std::array<Named<Grid>, 6> grids{{
    {Grid::QueryTile, "query"},
    {Grid::KeyTile, "key"},
    {Grid::HeadKeyTile, "head_key"},
    {Grid::Group, "group"},
    {Grid::Head, "head"},
    {Grid::PositionTile, "position"},
}};

template <class Kind, size_t count>
llvm::StringRef nameOf(const std::array<Named<Kind>, count> &names, Kind kind) {
  for (const Named<Kind> &own : names)
    if (own.kind == kind) return own.name;
  throw InternalError("image", "a kind without a name");
}
template <class Kind, size_t count>
Kind kindOf(const std::array<Named<Kind>, count> &names, llvm::StringRef name) {
  for (const Named<Kind> &own : names)
    if (own.name == name) return own.kind;
  throw InternalError("image", "no kind named " + name.str());
}

/// "dim T", "pointer q", "stride q 2".
std::string print(const ArgumentSlot &slot) {
  std::string text = nameOf(slotKinds, slot.kind).str() + " " + slot.name;
  if (slot.kind == ArgumentSlot::Kind::Stride) text += " " + std::to_string(slot.index);
  return text;
}
ArgumentSlot parseSlot(llvm::StringRef text) {
  auto [kind, rest] = text.split(' ');
  auto [name, index] = rest.split(' ');
  ArgumentSlot slot{kindOf(slotKinds, kind), name.str()};
  if (!index.empty()) internalCheck(!index.getAsInteger(10, slot.index), "image", "no index: " + text.str());
  return slot;
}

}  // namespace

void describeImage(mlir::Operation *function, const KernelImage &image) {
  mlir::Builder b(function->getContext());
  llvm::SmallVector<std::string> slots;
  for (const ArgumentSlot &slot : image.slots) slots.push_back(print(slot));
  llvm::SmallVector<llvm::StringRef> texts(slots.begin(), slots.end());
  llvm::SmallVector<mlir::Attribute> maps;
  for (const TensorMapSlot &map : image.maps)
    maps.push_back(b.getStringAttr(map.tensor + " " + std::to_string(map.rows)));
  auto number = [&](int64_t value) { return b.getI64IntegerAttr(value); };
  function->setAttr(attribute, b.getDictionaryAttr({
                                   b.getNamedAttr("entry", b.getStringAttr(image.entry)),
                                   b.getNamedAttr("maps", b.getArrayAttr(maps)),
                                   b.getNamedAttr("slots", b.getStrArrayAttr(texts)),
                                   b.getNamedAttr("grid", b.getStringAttr(nameOf(grids, image.grid))),
                                   b.getNamedAttr("keyDim", b.getStringAttr(image.keyDim)),
                                   b.getNamedAttr("tileQ", number(image.tileQ)),
                                   b.getNamedAttr("tileK", number(image.tileK)),
                                   b.getNamedAttr("scratchBytes", number(image.scratchBytes)),
                                   b.getNamedAttr("threads", number(image.threads)),
                                   b.getNamedAttr("programsPerBlock", number(image.programsPerBlock)),
                                   b.getNamedAttr("residents", number(image.residents)),
                                   b.getNamedAttr("sharedBytes", number(image.sharedBytes)),
                               }));
}

KernelImage imageOf(mlir::ModuleOp module) {
  for (mlir::Operation &function : *module.getBody()) {
    auto all = function.getAttrOfType<mlir::DictionaryAttr>(attribute);
    if (!all) continue;
    auto text = [&](llvm::StringRef name) { return mlir::cast<mlir::StringAttr>(all.get(name)).str(); };
    auto number = [&](llvm::StringRef name) { return mlir::cast<mlir::IntegerAttr>(all.get(name)).getInt(); };
    KernelImage image;
    image.entry = text("entry");
    for (mlir::Attribute map : mlir::cast<mlir::ArrayAttr>(all.get("maps"))) {
      auto [tensor, rows] = mlir::cast<mlir::StringAttr>(map).getValue().split(' ');
      image.maps.push_back({tensor.str(), 0});
      internalCheck(!rows.getAsInteger(10, image.maps.back().rows), "image", "no rows of a map: " + tensor.str());
    }
    for (mlir::Attribute slot : mlir::cast<mlir::ArrayAttr>(all.get("slots")))
      image.slots.push_back(parseSlot(mlir::cast<mlir::StringAttr>(slot).getValue()));
    image.grid = kindOf(grids, text("grid"));
    image.keyDim = text("keyDim");
    image.tileQ = static_cast<int>(number("tileQ"));
    image.tileK = static_cast<int>(number("tileK"));
    image.scratchBytes = number("scratchBytes");
    image.threads = static_cast<int>(number("threads"));
    image.programsPerBlock = static_cast<int>(number("programsPerBlock"));
    image.residents = static_cast<int>(number("residents"));
    image.sharedBytes = number("sharedBytes");
    return image;
  }
  throw InternalError("image", "no function has one");
}

}  // namespace weft::target
