// What decoding one token has to read and to multiply: counted, of any variant, by the plan that its calls run. Rows of
// keys are not there for it; where content chooses tiles, random rows are.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <torch/types.h>

#include "ops/sample_inputs.h"
#include "runtime/device.h"

namespace weft::autotune {

/// Calls that decode the newest of `length` tokens of B sequences, in one layer.
struct DecodeShape {
  int64_t B = 1, H = 8, G = 8, D = 64, length = 1024;
  std::string type = "bf16";             ///< of rows: f32, bf16, f16
  int64_t page = 0;                      ///< tokens of a page; 0: keys lie one after the other
  int64_t span = 0;                      ///< see ops::sampleInputs
  std::map<std::string, double> values;  ///< of inputs that are no rows, for all their entries
};

/// Of one call. Bytes count once what the heads of a group share.
struct DecodeCount {
  int tileQ = 0, tileK = 0;
  int64_t tiles = 0, keptTiles = 0;  ///< of keys, of all heads; heads of a group that go together count as one
  int64_t longest = 0;               ///< kept tiles of the program that has most
  int64_t programs = 0;      ///< of the kernel that attends: heads, groups, or pieces of their keys, of all sequences
  int kernels = 0;           ///< of the plan, and those that join pieces
  int clears = 0;            ///< buffers that are set to zero before
  double keyBytes = 0;       ///< of keys, values and other rows of keys, in kept tiles
  double headBytes = 0;      ///< the same where each program reads them for itself
  double inputBytes = 0;     ///< of other inputs with an entry a key, of lists and tables, and of page tables
  double queryBytes = 0;     ///< of the newest rows: queries, and o
  double choosingBytes = 0;  ///< of what plans and selections read and leave: pooled rows, means, maps
  double flops = 0;          ///< of products of the newest row with kept keys and values
  double executedFlops = 0;  ///< of all rows of the tile that the newest one stands in
  double choosingFlops = 0;  ///< of pooling and estimating

  double bytes() const { return keyBytes + inputBytes + queryBytes + choosingBytes; }
};

/// The tensors of such a call of so many sequences, with as many queries as keys: see ops::sampleInputs. Throws
/// std::runtime_error that lists the inputs where a value is of none, and where one would be larger than memory should
/// be.
ops::SampleInputs decodeInputs(const Variant &variant, const DecodeShape &shape, int64_t sequences, bool shapesAlone);

/// `device`: whose tiles are counted. A PTX emulator of an architecture stands for a GPU. Throws c10::Error where the
/// variant cannot be decoded.
DecodeCount countDecode(const std::string &variant, const DecodeShape &shape, const Device &device);

}  // namespace weft::autotune
