// RUN: weft-opt %s --make-rings --stagger-products | FileCheck %s
// RUN: weft-opt %s --make-rings --stagger-products --pipeline-loads --overlap-products | FileCheck %s --check-prefix=OVERLAP

// The producer fills a tile of zeros ahead of the others; v has a cursor of its own in both roles.
// CHECK-LABEL: tile.kernel @k
// CHECK: cta.roles producer {
// CHECK-NEXT: %[[CV:.*]] = cta.cursor 2
// CHECK: cta.fill %[[V:.*]] at %[[CV]] {{.*}} zeros
// CHECK-NEXT: cta.advance %[[CV]]
// CHECK-NEXT: tile.for
// CHECK: cta.fill %[[K:.*]] at %[[CK:.*]] from
// CHECK-NEXT: cta.fill %[[V]] at %[[CV]] from
// CHECK-NEXT: cta.advance %[[CK]]
// CHECK-NEXT: cta.advance %[[CV]]
// CHECK: } consumers {
// CHECK-NEXT: %[[CV:.*]] = cta.cursor 2
// CHECK: tile.fill query %{{.*}} : tensor<64xf32,
// CHECK: %[[NONE:.*]] = tile.fill query %{{.*}} : tensor<64x64xf32,
// CHECK-NEXT: %[[LOOP:.*]]:3 = tile.for {{.*}}, %[[NONE]] :
// CHECK-NEXT: ^bb0(%{{.*}}: i32, %{{.*}}: i1, %[[O:.*]]: tensor<64x64xf32{{.*}}>, %{{.*}}: tensor<64xf32{{.*}}>, %[[P:.*]]: tensor<64x64xf32{{.*}}>):
// CHECK: cta.mma m64k16_bf16 nt
// CHECK: %[[TILE:.*]] = cta.acquire %[[V]] at %[[CV]]
// CHECK-NEXT: %[[SUM:.*]] = cta.mma m64k16_bf16 nn %[[P]], %[[TILE]] add %[[O]]
// CHECK: %[[PAIRS:.*]]:2 = tile.pairwise
// CHECK: %[[SCALED:.*]] = tile.scale_rows %[[SUM]]
// CHECK: cta.release %[[V]] at %[[CV]]
// CHECK-NEXT: cta.advance %[[CV]]
// CHECK-NEXT: tile.yield %[[SCALED]], %{{.*}}, %[[PAIRS]]#0
// CHECK: %[[LAST:.*]] = cta.acquire %[[V]] at %[[CV]]
// CHECK-NEXT: %[[END:.*]] = cta.mma m64k16_bf16 nn %[[LOOP]]#2, %[[LAST]] add %[[LOOP]]#0
// CHECK-NEXT: cta.release
// CHECK-NEXT: cta.advance
// CHECK-NEXT: tile.store %[[END]]

// One wait lets the sum of the turn before go on beside the pairs; k is free when they are summed up, v after the next.
// OVERLAP: consumers
// OVERLAP: scf.for
// OVERLAP: %[[S:.*]] = cta.mma m64k16_bf16 nt async
// OVERLAP: %[[SUM:.*]] = cta.mma m64k16_bf16 nn async
// OVERLAP-NEXT: %[[DONE:.*]] = cta.wait_mma %[[S]] left 1
// OVERLAP-NEXT: %[[P:.*]]:2 = tile.pairwise {{.*}} tiles(%[[DONE]]
// OVERLAP: cta.release {{.*}} after %[[P]]#1
// OVERLAP: %[[ADDED:.*]] = cta.wait_mma %[[SUM]] :
// OVERLAP-NEXT: tile.scale_rows %[[ADDED]]
// OVERLAP: cta.release
// OVERLAP-NEXT: cta.advance
// OVERLAP-NEXT: scf.yield
!tile = tensor<64x64xf32, #cta.mma_sync<warps = 4>>
!row = tensor<64xf32, #cta.mma_sync<warps = 4>>
!shared = !cta.shared<64x64xbf16, #cta.swizzled>
module @t {
  tile.kernel @k grid query schedule<q = 64, k = 64> attributes {cta.warps = 4 : i64} {
  ^bb0(%b: i32, %h: i32, %qt: i32):
    tile.tensor @q : bf16 ["B", "H", "T", "D"] operand strided
    tile.tensor @k : bf16 ["B", "H", "S", "D"] operand strided
    tile.tensor @v : bf16 ["B", "H", "S", "E"] operand strided
    tile.tensor @o : bf16 ["B", "H", "T", "E"] result strided
    tile.tensor @band : i32 [] plan
    %q = cta.load @q[%b, %h] rows %qt : !shared
    %zero = arith.constant 0.0 : f32
    %start = tile.fill query %zero : !tile
    %rows = tile.fill query %zero : !row
    %sum:2 = tile.for keys [%b, %h] of %qt kept [@band] init(%start, %rows : !tile, !row) -> !tile, !row {
    ^bb0(%kt: i32, %full: i1, %carried: !tile, %numbers: !row):
      %k = cta.load @k[%b, %h] rows %kt : !shared
      %v = cta.load @v[%b, %h] rows %kt : !shared
      %s = cta.mma m64k16_bf16 nt %q, %k : !shared, !shared -> !tile
      %p:2 = tile.pairwise at [%b, %h, %qt, %kt] full %full tiles(%s : !tile) rows() reduce(add) -> !tile, !row {
      ^bb0(%i: i32, %j: i32, %x: f32):
        tile.result %x, %x : f32, f32
      }
      %scaled = tile.scale_rows %carried by %p#1 : !tile, !row
      %next = cta.mma m64k16_bf16 nn %p#0, %v add %scaled : !tile : !tile, !shared -> !tile
      tile.yield %next, %p#1 : !tile, !row
    }
    tile.store %sum#0, @o[%b, %h] rows %qt : !tile
  }
}
