#include "ops/bucket_order.h"

#include <torch/library.h>

#include "ops/attention.h"
#include "ops/sorted_rows.h"

namespace weft::ops {
namespace {

using torch::Tensor;

void check(const char *name, const Tensor &buckets, const Tensor &q, const Tensor &rows) {
  TORCH_CHECK(buckets.dim() == 3 && at::isIntegralType(buckets.scalar_type(), false) && buckets.size(0) == q.size(0) &&
                  buckets.size(1) == q.size(1) && buckets.size(2) == rows.size(2),
              "weft: attention_by_bucket: expected ", name, " of integers [", q.size(0), ", ", q.size(1), ", ",
              rows.size(2), "], got ", buckets.scalar_type(), " ", buckets.sizes());
}

}  // namespace

Tensor attentionByBucket(const Tensor &q, const Tensor &k, const Tensor &v, const Tensor &queryBuckets,
                         const Tensor &keyBuckets) {
  TORCH_CHECK(q.dim() == 4 && k.dim() == 4 && v.dim() == 4 && k.size(1) > 0 && q.size(1) % k.size(1) == 0 &&
                  v.size(1) == k.size(1),
              "weft: attention_by_bucket: expected q [B, H, T, D] and k, v [B, G, S, D] with G dividing H, got ",
              q.sizes(), ", ", k.sizes(), " and ", v.sizes());
  check("query buckets", queryBuckets, q, q);
  check("key buckets", keyBuckets, q, k);
  // Stable: in a bucket, tokens stay in the order of the text.
  auto [own, place] = torch::sort(queryBuckets, /*stable=*/true, /*dim=*/2, /*descending=*/false);
  auto [other, keyPlace] = torch::sort(keyBuckets, /*stable=*/true, /*dim=*/2, /*descending=*/false);
  const Tensor o =
      attention("bucket", {"q", "k", "v", "own", "other", "place", "key_place"},
                {inOrder(q, place), inOrder(k, keyPlace), inOrder(v, keyPlace), own, other, place, keyPlace});
  return asBefore(o, place);
}

TORCH_LIBRARY_FRAGMENT(weft, library) {
  library.def("attention_by_bucket(Tensor q, Tensor k, Tensor v, Tensor query_buckets, Tensor key_buckets) -> Tensor",
              attentionByBucket);
}

}  // namespace weft::ops
