// What the engine runs: plan.py's table and the objective of a training, as plain data. No code.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <limits>
#include <vector>

#include "../kernels/call.hpp"
#include "spec.hpp"

namespace fastnn {

// A piece of the parameter buffer (trainable), of the statistics buffer or, of a source, of the scaling buffer.
struct Tensor {
    size_t offset = 0, size = 0;
    size_t columns = 0;  // of a matrix: the size of its last dimension; 0: no matrix
    bool trainable = false;
    double l1 = 0, l2 = 0, decay = 0;
    size_t rows() const { return size / columns; }
};

struct Op {
    int code = 0;  // an index into declared_operations() and a table's operations
    const Declared* declared = nullptr;
    size_t positions = 1, inputs = 0, outputs = 0;  // P, I, O
    size_t in = 0;                                  // F, values of a row that comes in
    int activation = 0;                             // fused into it, else the identity
    double alpha = 0;
    bool saves_z = false;  // the activation's derivative is written in terms of z, not of a
    std::vector<double> settings;
    std::vector<Tensor> tensors;          // parameters, then statistics, in the order of the Spec
    int other = -1, dother = -1;          // see plan.py
    const Whole<float>* whole = nullptr;  // of a Frozen: its matrix in whole numbers

    bool learns() const {
        for (const Tensor& tensor : tensors)
            if (tensor.trainable) return true;
        return false;
    }
    size_t out() const { return positions * outputs; }  // of one that goes out
};

struct Plan {
    std::vector<Op> ops;
    size_t inputs = 0, outputs = 0;  // values of a row
    size_t parameters = 0;           // elements of the parameter buffer
    int identity = 0;                // the code of the activation that does nothing
};

struct Objective {
    int loss = 0;
    std::vector<double> loss_parameters{0};  // at least one
    int rule = 0;
    uint64_t seed = 0;
    double clip_norm = std::numeric_limits<double>::infinity();
    double clip_value = std::numeric_limits<double>::infinity();
};

}  // namespace fastnn
