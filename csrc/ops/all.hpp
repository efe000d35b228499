// The list of operations. A line here is all that tables, engine and bindings need to know of one.
#pragma once

#include "activation.hpp"
#include "batch_norm.hpp"
#include "conv.hpp"
#include "dense.hpp"
#include "dropout.hpp"
#include "embedding.hpp"
#include "last.hpp"
#include "layer_norm.hpp"
#include "maxout.hpp"
#include "ordered.hpp"
#include "pad.hpp"
#include "pool.hpp"
#include "prelu.hpp"
#include "recurrent.hpp"
#include "rms_norm.hpp"
#include "rrelu.hpp"
#include "scale.hpp"
#include "skip.hpp"
#include "softmax.hpp"
#include "sources.hpp"

// clang-format off
#define FASTNN_OPS(X) \
    X(cast) \
    X(normalize) \
    X(ids) \
    X(dense) \
    X(activation) \
    X(softmax) \
    X(maxout) \
    X(prelu) \
    X(rrelu) \
    X(dropout) \
    X(batch_norm) \
    X(layer_norm) \
    X(rms_norm) \
    X(scale) \
    X(ordered) \
    X(fork) \
    X(turn) \
    X(join) \
    X(rnn) \
    X(gru) \
    X(lstm) \
    X(last) \
    X(embedding) \
    X(conv) \
    X(max_pool) \
    X(avg_pool) \
    X(pad) \
    X(upsample)
// clang-format on

namespace {

const fastnn::Operation<Real> kOperations[] = {
#define FASTNN_X(op)                                                                            \
    {ops::op::spec,     ops::op::forward, ops::op::predict, ops::op::serve,  ops::op::backward, \
     ops::op::gradient, ops::op::prepare, ops::op::pack,    ops::op::packed, ops::op::gather,   \
     ops::op::sparse,   ops::op::ns,      ops::op::fits},
    FASTNN_OPS(FASTNN_X)
#undef FASTNN_X
};

}  // namespace
