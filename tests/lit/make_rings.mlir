// RUN: weft-opt %s --make-rings=stages=3 | FileCheck %s
// RUN: weft-opt %s --make-rings=stages=3 --pipeline-loads --overlap-products --allocate-shared --insert-barriers | FileCheck %s --check-prefix=PLACED

// What is loaded once has one tile, what a turn loads anew as many as there are stages. The producer runs the loops that
// loads stand in, and fills; consumers hold a tile from its first use to its last. Which key tile a turn is of comes
// with its keys. Both go on with the next program: what is loaded once is released, too.
// CHECK-LABEL: tile.kernel @k
// CHECK: tile.tensor @band
// CHECK: %[[QB:.*]] = cta.alloc : <1x64x64xbf16, #cta.swizzled>
// CHECK: %[[Q:.*]] = cta.ring %[[QB]] of @q
// CHECK: cta.alloc : <3x64x64xbf16, #cta.swizzled>
// CHECK: %[[K:.*]] = cta.ring {{.*}} of @k carries :
// CHECK: cta.alloc : <3x1x64xf32, #cta.padded<pitch = 256>>
// CHECK: %[[LSE:.*]] = cta.ring {{.*}} of @lse :
// CHECK: cta.roles producer {
// CHECK: %[[ONE:.*]] = cta.cursor 1
// CHECK: %[[THREE:.*]] = cta.cursor 3
// CHECK: cta.fill %[[Q]] at %[[ONE]] from[%arg0, %arg1] rows %arg2
// CHECK: tile.for keys[%arg0, %arg1] of %arg2 kept [@band] attributes {cta.carried_turns} {
// CHECK-NEXT: ^bb0(%[[KT:.*]]: i32, %[[FULL:.*]]: i1):
// CHECK-NEXT: cta.fill %[[K]] at %[[THREE]] from[%arg0, %arg1] rows %[[KT]] full %[[FULL]]
// CHECK-NEXT: cta.fill %[[LSE]] at %[[THREE]] from[%arg0, %arg1] rows %[[KT]] pad 1.000000e+00
// CHECK-NEXT: cta.advance %[[THREE]]
// CHECK-NEXT: tile.yield
// CHECK-NEXT: }
// CHECK-NEXT: cta.advance %[[ONE]]
// CHECK-NEXT: } consumers {
// CHECK: %[[ONE:.*]] = cta.cursor 1
// CHECK: %[[THREE:.*]] = cta.cursor 3
// CHECK: tile.for keys
// CHECK-NEXT: ^bb0
// CHECK-NEXT: %[[TILE:.*]] = cta.acquire %[[K]] at %[[THREE]]
// CHECK-NEXT: %[[INDEX:.*]], %[[FULL:.*]] = cta.carried %[[K]] at %[[THREE]]
// CHECK: cta.mma m64k16_bf16 nt %{{.*}}, %[[TILE]]
// CHECK: %[[NUMBERS:.*]] = cta.acquire %[[LSE]] at %[[THREE]]
// CHECK: tile.pairwise at[%arg0, %arg1, %arg2, %[[INDEX]]] full %[[FULL]] {{.*}} rows(%[[NUMBERS]]
// CHECK: cta.release %[[LSE]] at %[[THREE]]
// CHECK: cta.mma m64k16_bf16 nn
// CHECK-NEXT: cta.release %[[K]] at %[[THREE]]
// CHECK-NEXT: cta.advance %[[THREE]]
// CHECK: cta.release %[[Q]] at %[[ONE]]
// CHECK: cta.advance %[[ONE]]
// CHECK-NOT: cta.load

// Mbarriers lie behind the tiles, 16 bytes for each, words behind them, then numbers of roles. Only the producer looks up
// what is kept, and says how many turns there are. A tile is released once the product that reads it is done; tiles of
// rings need no barriers.
// PLACED: cta.shared_bytes = 33960
// PLACED: cta.ring {{.*}} of @q barriers 33792
// PLACED: cta.ring {{.*}} of @k carries barriers 33808
// PLACED: cta.ring {{.*}} of @lse barriers 33872
// PLACED: cta.roles numbers 33920 producer
// PLACED: %[[FROM:.*]], %[[TO:.*]] = cta.turns
// PLACED: %[[COUNT:.*]] = arith.subi %[[TO]], %[[FROM]]
// PLACED: cta.give %[[COUNT]]
// PLACED: consumers
// PLACED-NOT: cta.turns
// PLACED: %[[COUNT:.*]] = cta.take
// PLACED-NOT: cta.turn
// PLACED: scf.for
// PLACED: cta.mma {{.*}} nn async
// PLACED-NEXT: cta.wait_mma
// PLACED-NEXT: cta.release
// PLACED-NOT: cta.barrier
// PLACED: tile.kernel @warps

// Products of warps copy by themselves.
// CHECK-LABEL: tile.kernel @warps
// CHECK-NOT: cta.roles
// CHECK: cta.load @q
!tile = tensor<64x64xf32, #cta.mma_sync<warps = 4>>
module @t {
  tile.kernel @k grid query schedule<q = 64, k = 64> attributes {cta.warps = 4 : i64} {
  ^bb0(%b: i32, %h: i32, %qt: i32):
    tile.tensor @q : bf16 ["B", "H", "T", "D"] operand strided
    tile.tensor @k : bf16 ["B", "H", "S", "D"] operand strided
    tile.tensor @lse : f32 ["B", "H", "T"] row
    tile.tensor @o : bf16 ["B", "H", "T", "D"] result strided
    tile.tensor @band : i32 [] plan
    %q = cta.load @q[%b, %h] rows %qt : !cta.shared<64x64xbf16, #cta.swizzled>
    %zero = arith.constant 0.0 : f32
    %start = tile.fill query %zero : !tile
    %sum = tile.for keys [%b, %h] of %qt kept [@band] init(%start : !tile) -> !tile {
    ^bb0(%kt: i32, %full: i1, %carried: !tile):
      %k = cta.load @k[%b, %h] rows %kt : !cta.shared<64x64xbf16, #cta.swizzled>
      %lse = cta.load_rows @lse[%b, %h] rows %kt fill 1.0 : !cta.shared<1x64xf32, #cta.padded<pitch = 256>>
      %s = cta.mma m64k16_bf16 nt %q, %k : !cta.shared<64x64xbf16, #cta.swizzled>, !cta.shared<64x64xbf16, #cta.swizzled> -> !tile
      %p = tile.pairwise at [%b, %h, %qt, %kt] full %full transposed tiles(%s : !tile)
          rows(%lse : !cta.shared<1x64xf32, #cta.padded<pitch = 256>>) reduce() -> !tile {
      ^bb0(%i: i32, %j: i32, %x: f32, %y: f32):
        %z = arith.addf %x, %y : f32
        tile.result %z : f32
      }
      %o = cta.mma m64k16_bf16 nn %p, %k add %carried : !tile : !tile, !cta.shared<64x64xbf16, #cta.swizzled> -> !tile
      tile.yield %o : !tile
    }
    tile.store %sum, @o[%b, %h] rows %qt : !tile
  }
  tile.kernel @warps grid query schedule<q = 64, k = 64> attributes {cta.warps = 4 : i64} {
  ^bb0(%b: i32, %h: i32, %qt: i32):
    tile.tensor @q : bf16 ["B", "H", "T", "D"] operand strided
    tile.tensor @o : bf16 ["B", "H", "T", "D"] result strided
    %q = cta.load @q[%b, %h] rows %qt : !cta.shared<64x64xbf16, #cta.padded<pitch = 144>>
    %s = cta.mma m16n8k16_bf16 nt %q, %q : !cta.shared<64x64xbf16, #cta.padded<pitch = 144>>, !cta.shared<64x64xbf16, #cta.padded<pitch = 144>> -> !tile
    tile.store %s, @o[%b, %h] rows %qt : !tile
  }
}
