#include "models/shared_attention.h"

#include <algorithm>

#include "ops/layout.h"
#include "ops/variant_library.h"

namespace weft {

using torch::Tensor;

namespace {

/// Where tensors begin among bytes: at a multiple of any type's size.
constexpr int64_t alignment = 64;

int64_t roomOf(const Tensor &tensor) {
  const auto bytes = static_cast<int64_t>(tensor.nbytes());
  return (bytes + alignment - 1) / alignment * alignment;
}
/// Of those that are there.
int64_t roomOf(const std::vector<Tensor> &tensors) {
  int64_t room = 0;
  for (const Tensor &own : tensors)
    if (own.defined()) room += roomOf(own);
  return room;
}

}  // namespace

SharedAttention::SharedAttention(SequenceShare &share, const std::string &variant,
                                 const std::vector<std::string> &names, const Tensors &tensors)
    : share(share), variant(variant), names(names), tensors(tensors), facts(findVariant(variant)) {
  const std::set<std::string> alone = rowsReadAlone(*facts);
  for (size_t at = 0; at < names.size(); ++at) {
    Input &input = inputs.emplace_back();
    for (const InputInfo &info : facts->inputs()) {
      if (info.name != names[at]) continue;
      const auto dim = [&](const char *name) { return std::ranges::find(info.dims, name) - info.dims.begin(); };
      const auto rank = static_cast<int64_t>(info.dims.size()), T = dim("T"), S = dim("S");
      TORCH_CHECK(T == rank || S == rank, "weft: variant '", facts->name(), "': input '", info.name,
                  "' has the dims T and S; where processes share a sequence, expected inputs of queries or of keys");
      input = {T < rank   ? Side::Queries
               : S < rank ? Side::Keys
                          : Side::All,
               std::min(T, S), 1, info.isRow && !alone.contains(info.name), info.isPooled};
      if (T < rank) length = tensors[at].size(T) / 2;
    }
  }
  for (size_t at = 0; at < names.size(); ++at)
    TORCH_CHECK(inputs[at].side == Side::All || tensors[at].size(inputs[at].axis) == 2 * length, "weft: variant '",
                facts->name(), "': expected two pieces of one length of queries and of keys, got input '", names[at],
                "' of ", tensors[at].sizes());
  whole = joiningOf(*facts) == Joining::None;
  if (const KeyListInfo &lists = facts->keyList(); lists.tile > 1) {
    const std::string &name = facts->inputs()[lists.input].name;
    Input &input = inputs[std::ranges::find(names, name) - names.begin()];
    input = {Side::Queries, tensors[&input - inputs.data()].dim() - 2, lists.tile};
    TORCH_CHECK(length % lists.tile == 0, "weft: variant '", facts->name(), "' has a list of keys for each ",
                lists.tile, " queries: expected pieces of such tiles, got ", length, " tokens");
  }
  if (!facts->selects()) return;
  const SelectionInfo::Round &round = facts->selection().rounds.back();
  TORCH_CHECK(length % round.tileQ == 0 && length % round.tileK == 0, "weft: variant '", facts->name(),
              "' chooses tiles of ", round.tileQ, " x ", round.tileK, ": expected pieces of whole tiles, got ", length,
              " tokens");
}

void SharedAttention::prepare() {
  selection = findSelection();
  needs = findNeeds();
}

void SharedAttention::prepare(const std::vector<Tensor> &known) {
  needs = known[0];
  selection = known[1];
}

// ---- what is needed ------------------------------------------------------------------------

ops::KeyRange SharedAttention::needed(int64_t queries, int64_t keys) const {
  const int *range = needs.const_data_ptr<int>() + 2 * (queries * share.pieces() + keys);
  return {range[0], range[1]};
}

std::vector<SharedAttention::Part> SharedAttention::wanted(int64_t owner, int64_t by) const {
  std::vector<Part> result;
  for (const int64_t piece : share.piecesOf(owner)) {
    ops::KeyRange all{length, 0};
    for (const int64_t queries : share.piecesOf(by))
      if (const ops::KeyRange range = needed(queries, piece); !range.empty())
        all = {std::min(all.first, range.first), std::max(all.end, range.end)};
    if (!all.empty()) result.push_back({piece, all});
  }
  return result;
}

bool SharedAttention::anyIn(int64_t step) const {
  for (int64_t owner = 0; owner < share.size; ++owner)
    if (!wanted(owner, (owner + step) % share.size).empty()) return true;
  return false;
}

Tensor SharedAttention::findNeeds() {
  const int64_t count = share.pieces();
  Tensor found = torch::zeros({count, count, 2}, torch::kInt32);
  if (whole) {
    found.select(2, 1).fill_(length);
    return found;
  }
  // Small inputs of keys say which tiles are kept; of rows nothing but their shapes is read.
  const Tensors told = gathered(Side::Keys, [](const Input &input) { return !input.isRow; }),
                like = own(Side::Keys, ownPieces()[0]);
  for (const int64_t queries : ownPieces())
    for (int64_t piece = 0; piece < count; ++piece) {
      Tensors keys = like;
      for (size_t at = 0; at < keys.size(); ++at)
        if (told[at].defined()) keys[at] = told[at].narrow(inputs[at].axis, piece * length, length);
      const ops::KeyRange range = ops::keptKeys(variant, pieceNames(), pieceTensors(queries, keys, piece * length));
      found[queries][piece][0] = range.first;
      found[queries][piece][1] = range.end;
    }
  share.group().sum(found, usualPatience);
  return found;
}

Tensor SharedAttention::findSelection() {
  if (!facts->selects()) return {};
  Tensors all = tensors;
  for (const Side side : {Side::Queries, Side::Keys}) {
    const Tensors told = gathered(side, [](const Input &input) { return !input.isRow || input.isPooled; });
    for (size_t at = 0; at < all.size(); ++at) {
      if (inputs[at].side != side) continue;
      std::vector<int64_t> sizes = all[at].sizes().vec();
      sizes[inputs[at].axis] = share.pieces() * length;
      // What no select reads is there for its shape.
      all[at] = told[at].defined() ? told[at] : all[at].narrow(inputs[at].axis, 0, 1).expand(sizes);
    }
  }
  return ops::selectTiles(variant, names, all);
}

// ---- how it comes --------------------------------------------------------------------------

SharedAttention::Tensors SharedAttention::own(Side side, int64_t piece) const {
  const int64_t place = piece == ownPieces()[0] ? 0 : 1;
  Tensors result(tensors.size());
  for (size_t at = 0; at < tensors.size(); ++at)
    if (const auto &[own, axis, tokens, isRow, isPooled] = inputs[at]; own == side)
      result[at] = tensors[at].narrow(axis, place * length / tokens, length / tokens);
  return result;
}

SharedAttention::Tensors SharedAttention::narrowed(const Tensors &keys, const ops::KeyRange &tokens,
                                                   int64_t first) const {
  Tensors result = keys;
  for (size_t at = 0; at < result.size(); ++at)
    if (result[at].defined() && inputs[at].side == Side::Keys)
      result[at] = result[at].narrow(inputs[at].axis, tokens.first - first, tokens.end - tokens.first);
  return result;
}

Tensor SharedAttention::packed(const std::vector<Tensors> &pieces) {
  int64_t room = 0;
  for (const Tensors &piece : pieces) room += roomOf(piece);
  Tensor bytes;
  int64_t begin = 0;
  for (const Tensors &piece : pieces)
    for (const Tensor &own : piece) {
      if (!own.defined()) continue;
      if (!bytes.defined()) bytes = torch::empty({room}, own.options().dtype(torch::kUInt8).requires_grad(false));
      const auto count = static_cast<int64_t>(own.nbytes());
      bytes.narrow(0, begin, count).view(own.scalar_type()).view(own.sizes()).copy_(own);
      begin += roomOf(own);
    }
  return bytes;
}

SharedAttention::Tensors SharedAttention::unpacked(const Tensor &bytes, int64_t &begin, const Tensors &like) const {
  Tensors result(like.size());
  for (size_t at = 0; at < like.size(); ++at) {
    if (!like[at].defined()) continue;
    const auto count = static_cast<int64_t>(like[at].nbytes());
    result[at] = bytes.narrow(0, begin, count).view(like[at].scalar_type()).view(like[at].sizes());
    begin += roomOf(like[at]);
  }
  return result;
}

SharedAttention::Arriving SharedAttention::exchange(const std::vector<std::vector<Tensors>> &sent,
                                                    const std::vector<std::vector<Part>> &received,
                                                    const Tensors &like) {
  Arriving result;
  int64_t begin = 0;
  std::vector<Tensors> all;
  std::vector<int64_t> counts, receivedCounts;
  for (int64_t process = 0; process < share.size; ++process) {
    all.insert(all.end(), sent[process].begin(), sent[process].end());
    int64_t &count = counts.emplace_back(0), before = begin;
    for (const Tensors &piece : sent[process]) count += roomOf(piece);
    for (const Part &part : received[process]) {
      result.parts.push_back({part, begin});
      begin += roomOf(narrowed(like, part.tokens));
    }
    receivedCounts.push_back(begin - before);
  }
  const auto bytes = tensors[0].options().dtype(torch::kUInt8).requires_grad(false);
  result.sent = packed(all);
  if (!result.sent.defined()) result.sent = torch::empty({0}, bytes);
  result.received = torch::empty({begin}, bytes);
  share.bytesSent += result.sent.numel();
  result.pending = share.group().exchange(result.sent, counts, result.received, receivedCounts);
  return result;
}

std::vector<SharedAttention::Piece> SharedAttention::arrived(Arriving &arriving, const Tensors &like) const {
  if (arriving.pending) arriving.pending->wait();
  arriving.pending.reset();
  std::vector<Piece> result;
  for (auto [part, begin] : arriving.parts)
    result.push_back({part, unpacked(arriving.received, begin, narrowed(like, part.tokens))});
  return result;
}

SharedAttention::Arriving SharedAttention::begin(int64_t step) {
  std::vector<std::vector<Tensors>> sent(share.size);
  std::vector<std::vector<Part>> received(share.size);
  if (!anyIn(step)) return {};
  for (const Part &part : wanted(share.rank, peer(step)))
    sent[peer(step)].push_back(narrowed(own(Side::Keys, part.piece), part.tokens));
  received[peer(-step)] = wanted(peer(-step), share.rank);
  return exchange(sent, received, own(Side::Keys, ownPieces()[0]));
}

SharedAttention::Tensors SharedAttention::gathered(Side side, const std::function<bool(const Input &)> &isMeant) {
  auto only = [&](Tensors piece) {
    for (size_t at = 0; at < piece.size(); ++at)
      if (!isMeant(inputs[at])) piece[at] = Tensor();
    return piece;
  };
  std::vector<Tensors> pieces(share.pieces());
  for (const int64_t piece : ownPieces()) pieces[piece] = only(own(side, piece));
  const Tensors like = pieces[ownPieces()[0]];
  if (std::ranges::none_of(like, [](const Tensor &own) { return own.defined(); })) return like;
  std::vector<std::vector<Tensors>> sent(share.size);
  std::vector<std::vector<Part>> received(share.size);
  for (int64_t process = 0; process < share.size; ++process) {
    if (process == share.rank) continue;
    for (const int64_t piece : ownPieces()) sent[process].push_back(pieces[piece]);
    for (const int64_t piece : share.piecesOf(process)) received[process].push_back(wholePiece(piece));
  }
  Arriving arriving = exchange(sent, received, like);
  for (Piece &own : arrived(arriving, like)) pieces[own.first.piece] = std::move(own.second);
  Tensors result(tensors.size());
  for (size_t at = 0; at < result.size(); ++at) {
    if (!like[at].defined()) continue;
    Tensors parts;
    for (const Tensors &piece : pieces) parts.push_back(piece[at]);
    result[at] = torch::cat(parts, inputs[at].axis);
  }
  return result;
}

// ---- what is computed of it ----------------------------------------------------------------

ops::Names SharedAttention::pieceNames() const {
  ops::Names result = names;
  result.push_back("origin");
  if (selection.defined()) result.push_back("selection");
  return result;
}

SharedAttention::Tensors SharedAttention::pieceTensors(int64_t queries, const Tensors &keys, int64_t first) const {
  const Tensors own = this->own(Side::Queries, queries);
  Tensors result;
  int64_t keyCount = 0;
  for (size_t at = 0; at < tensors.size(); ++at) {
    result.push_back(inputs[at].side == Side::Queries ? own[at]
                     : inputs[at].side == Side::Keys  ? keys[at]
                                                      : tensors[at]);
    if (inputs[at].side == Side::Keys) keyCount = keys[at].size(inputs[at].axis);
  }
  const int64_t all = share.pieces() * length;
  result.push_back(torch::tensor({queries * length, first, all, all}, torch::kInt64));
  if (selection.defined()) {
    const SelectionInfo::Round &round = facts->selection().rounds.back();
    result.push_back(selection.narrow(2, queries * length / round.tileQ, length / round.tileQ)
                         .narrow(3, first / round.tileK, keyCount / round.tileK));
  }
  return result;
}

SharedAttention::Tensors SharedAttention::noKeys() const { return narrowed(own(Side::Keys, ownPieces()[0]), {}); }

void SharedAttention::visitPairs(
    const std::function<void(int64_t, const Part &, const ops::KeyRange &, const Tensors &)> &visit,
    const std::function<void(int64_t)> &stepDone) {
  const std::vector<int64_t> queries = ownPieces();
  const Tensors like = own(Side::Keys, queries[0]);
  std::vector<Piece> here;
  for (const int64_t piece : queries) here.push_back({wholePiece(piece), own(Side::Keys, piece)});
  for (int64_t step = 0; step < share.size; ++step) {
    Arriving next;
    if (step + 1 < share.size) next = begin(step + 1);
    for (const auto &[part, keys] : here)
      for (int64_t number = 0; number < 2; ++number)
        if (const ops::KeyRange seen = needed(queries[number], part.piece); !seen.empty())
          visit(number, part, seen, narrowed(keys, seen, part.tokens.first));
    stepDone(step);
    if (step + 1 < share.size) here = arrived(next, like);
  }
  // What a row has but once stands in the first piece of all.
  for (int64_t number = 0; number < 2; ++number) {
    bool any = false;
    for (int64_t piece = 0; piece < share.pieces(); ++piece) any |= !needed(queries[number], piece).empty();
    const ops::KeyRange first = needed(queries[number], 0);
    if (!any || (hasOnce(*facts) && (first.empty() || first.first > 0))) visit(number, {}, {}, noKeys());
  }
}

std::tuple<Tensor, Tensor> SharedAttention::forward() {
  const std::vector<int64_t> queries = ownPieces();
  Tensor o, rows;
  auto take = [&](int64_t number, const Tensor &ownO, const Tensor &ownRows) {
    if (!o.defined()) {
      const auto sizes = ownO.sizes();
      o = ops::emptyRows({sizes[0], sizes[1], 2 * length, sizes[3]}, true,
                         tensors[std::ranges::find(names, "v") - names.begin()].options().requires_grad(false));
      rows = torch::empty({ownRows.size(0), sizes[0], sizes[1], 2 * length}, ownRows.options());
    }
    o.narrow(2, number * length, length).copy_(ownO);
    rows.narrow(3, number * length, length).copy_(ownRows);
  };
  if (whole) {
    const Tensors keys = allKeys();
    for (int64_t number = 0; number < 2; ++number) {
      const auto [ownO, ownRows] = ops::forwardOfPiece(variant, pieceNames(), pieceTensors(queries[number], keys, 0));
      take(number, ownO, ownRows);
    }
    return {o, rows};
  }
  std::vector<ops::JoinedRows> joined(2, ops::JoinedRows(*facts));
  visitPairs(
      [&](int64_t number, const Part &part, const ops::KeyRange &seen, const Tensors &keys) {
        const auto [ownO, ownRows] =
            ops::forwardOfPiece(variant, pieceNames(),
                                pieceTensors(queries[number], keys, part.piece * length + seen.first));
        joined[number].add(ownO, ownRows);
      },
      [](int64_t) {});
  for (int64_t number = 0; number < 2; ++number) take(number, joined[number].o(), joined[number].rows());
  return {o, rows};
}

/// Sums in f32 or more, of the own tokens.
class SharedAttention::Gradients {
 public:
  explicit Gradients(const SharedAttention &call) : call(call) {
    for (const Tensor &own : call.tensors)
      sums.push_back(own.is_floating_point() ? torch::zeros(own.sizes(), wide(own)) : Tensor());
  }

  static torch::TensorOptions wide(const Tensor &own) {
    return own.options().requires_grad(false).dtype(own.scalar_type() == torch::kDouble ? torch::kDouble
                                                                                        : torch::kFloat);
  }

  /// Of inputs of one side, of all their tokens or of one of the own pieces, the `number`th, from its token `first` on.
  void add(Side side, const Tensors &gradients, int64_t number = 0, int64_t first = 0) {
    for (size_t at = 0; at < sums.size(); ++at) {
      const Input &input = call.inputs[at];
      if (input.side != side || !sums[at].defined() || !gradients[at].defined()) continue;
      Tensor &sum = sums[at];
      if (side == Side::All) sum.add_(gradients[at]);
      else sum.narrow(input.axis, number * call.length + first, gradients[at].size(input.axis)).add_(gradients[at]);
    }
  }

  Tensors finished() const {
    Tensors result;
    for (size_t at = 0; at < sums.size(); ++at)
      result.push_back(sums[at].defined() ? sums[at].to(call.tensors[at].scalar_type()) : Tensor());
    return result;
  }

 private:
  const SharedAttention &call;
  Tensors sums;
};

std::vector<Tensor> SharedAttention::backward(const Tensor &o, const Tensor &rows, const Tensor &dO) {
  const std::vector<int64_t> queries = ownPieces();
  Gradients sums(*this);
  auto part = [&](const Tensor &tensor, int64_t axis, int64_t number) {
    return tensor.narrow(axis, number * length, length);
  };
  /// Of the keys of this call; the rest is summed up.
  auto compute = [&](int64_t number, int64_t first, const Tensors &keys) {
    Tensors all = ops::backwardOfPiece(variant, pieceNames(), pieceTensors(queries[number], keys, first),
                                       part(o, 2, number), part(rows, 3, number), part(dO, 2, number));
    sums.add(Side::Queries, all, number);
    sums.add(Side::All, all);
    all.resize(tensors.size());
    for (size_t at = 0; at < all.size(); ++at)
      if (inputs[at].side != Side::Keys) all[at] = Tensor();
    return all;
  };
  auto inTheirType = [&](Tensors gradients) {
    for (size_t at = 0; at < gradients.size(); ++at)
      if (gradients[at].defined()) gradients[at] = gradients[at].to(tensors[at].scalar_type());
    return gradients;
  };
  // Those of integers are not sent.
  Tensors like = own(Side::Keys, queries[0]);
  for (Tensor &own : like)
    if (own.defined() && !own.is_floating_point()) own = Tensor();
  auto give = [&](const std::vector<Piece> &pieces, const std::vector<std::vector<Part>> &back) {
    std::vector<std::vector<Tensors>> sent(share.size);
    for (const auto &[part, gradients] : pieces) sent[share.ownerOf(part.piece)].push_back(inTheirType(gradients));
    return exchange(sent, back, like);
  };
  auto addOwn = [&](const Part &part, const Tensors &gradients) {
    sums.add(Side::Keys, gradients, part.piece == queries[0] ? 0 : 1, part.tokens.first);
  };
  auto takeBack = [&](Arriving &arriving) {
    for (const auto &[part, gradients] : arrived(arriving, like)) addOwn(part, gradients);
  };
  /// For the sums of gradients like these, of all tokens of a part.
  auto zerosOf = [&](const Part &part, const Tensors &gradients) {
    Tensors zeros(gradients.size());
    for (size_t at = 0; at < zeros.size(); ++at) {
      if (!gradients[at].defined()) continue;
      std::vector<int64_t> sizes = gradients[at].sizes().vec();
      sizes[inputs[at].axis] = part.tokens.end - part.tokens.first;
      zeros[at] = torch::zeros(sizes, Gradients::wide(gradients[at]));
    }
    return zeros;
  };

  if (whole) {
    const Tensors keys = allKeys();
    Tensors sum = compute(0, 0, keys);
    const Tensors other = compute(1, 0, keys);
    for (size_t at = 0; at < sum.size(); ++at)
      if (sum[at].defined()) sum[at] = sum[at].to(Gradients::wide(sum[at])) + other[at];
    std::vector<Piece> others;
    std::vector<std::vector<Part>> back(share.size, {wholePiece(queries[0]), wholePiece(queries[1])});
    back[share.rank].clear();
    for (int64_t process = 0; process < share.size; ++process)
      for (const int64_t piece : share.piecesOf(process)) {
        Tensors own(sum.size());
        for (size_t at = 0; at < sum.size(); ++at)
          if (sum[at].defined()) own[at] = sum[at].narrow(inputs[at].axis, piece * length, length);
        if (process == share.rank) addOwn(wholePiece(piece), own);
        else others.push_back({wholePiece(piece), own});
      }
    Arriving arriving = give(others, back);
    takeBack(arriving);
    return sums.finished();
  }

  std::vector<Piece> found;
  Arriving returning;
  visitPairs(
      [&](int64_t number, const Part &part, const ops::KeyRange &seen, const Tensors &keys) {
        const Tensors gradients = compute(number, part.piece * length + seen.first, keys);
        if (seen.empty()) return;
        if (found.empty() || found.back().first.piece != part.piece) found.push_back({part, zerosOf(part, gradients)});
        const Tensors places = narrowed(found.back().second, seen, part.tokens.first);
        for (size_t at = 0; at < places.size(); ++at)
          if (places[at].defined()) places[at].add_(gradients[at]);
      },
      [&](int64_t step) {
        if (step == 0) {
          for (const auto &[part, gradients] : found) addOwn(part, gradients);
        } else if (anyIn(step)) {
          takeBack(returning);
          std::vector<std::vector<Part>> back(share.size);
          back[peer(step)] = wanted(share.rank, peer(step));
          returning = give(found, back);
        }
        found.clear();
      });
  takeBack(returning);
  return sums.finished();
}

}  // namespace weft
