// What the engine runs: plan.py's table and the recipe of a training, as plain data. No code.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <limits>
#include <vector>

namespace fastnn {

enum class Kind {
    dense,
    activation,
    softmax,
    maxout,
    prelu,
    rrelu,
    dropout,
    batch_norm,
    layer_norm,
    normalize,
};
constexpr const char* kKindNames[] = {"dense", "activation", "softmax",    "maxout",     "prelu",
                                      "rrelu", "dropout",    "batch_norm", "layer_norm", "normalize"};
constexpr int kKinds = static_cast<int>(sizeof kKindNames / sizeof *kKindNames);

// A piece of the parameter buffer (trainable) or of the statistics buffer; normalize: of the scaling buffer, in double.
struct Tensor {
    size_t offset = 0, size = 0;
    bool trainable = false;
    double l1 = 0, l2 = 0, decay = 0;
};

// Tensors and settings by kind, in this order:
//   dense: weight, bias   prelu: slope   batch_norm: gamma, beta, running_mean, running_var; momentum, epsilon
//   layer_norm: gamma, beta; epsilon   normalize: shift, scale   rrelu: lower, upper   dropout: threshold, scale
constexpr int kTensors = 4, kSettings = 2;
struct Op {
    Kind kind = Kind::dense;
    size_t inputs = 0, outputs = 0;
    int activation = 0;  // fused into dense and activation, else the identity
    double alpha = 0;
    bool saves_z = false;  // the activation's derivative is written in terms of z, not of a
    double settings[kSettings] = {};
    Tensor tensors[kTensors];
    int tensor_count = 0;
};

struct Plan {
    std::vector<Op> ops;
    size_t inputs = 0, outputs = 0;
    size_t parameters = 0;    // elements of the parameter buffer
    bool normalizes = false;  // the first operation, and no other, is normalize: gathering the rows does it
    int identity = 0;         // the code of the activation that does nothing
};

struct Recipe {
    int loss = 0;
    double loss_parameter = 0;
    int rule = 0;
    uint64_t seed = 0;
    double clip_norm = std::numeric_limits<double>::infinity();
    double clip_value = std::numeric_limits<double>::infinity();
};

}  // namespace fastnn
