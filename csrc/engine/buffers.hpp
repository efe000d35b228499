// The buffers of one plan for batches of up to so many rows, one allocation, and the calls of its operations bound to them.
#pragma once

#include <string.h>

#include <algorithm>
#include <vector>

#include "../kernels/table.hpp"
#include "block.hpp"
#include "plan.hpp"

namespace fastnn {

// The product, or std::bad_alloc where it is beyond any memory.
inline size_t times(size_t a, size_t b) {
    constexpr size_t kMost = static_cast<size_t>(1) << 56;
    if (b != 0 && a > kMost / b) throw std::bad_alloc();
    return a * b;
}

// Which operation reads these rows of a plan as they are, sparse, so that nobody makes them dense; -1: none. Where more than
// one value of ten is an entry, a dense product is as fast, and dense rows take little more memory than sparse ones.
template <class T>
int takes_sparse(const Table<T>& table, const Plan& plan, const Rows& x) {
    if (x.starts == nullptr || static_cast<double>(x.entries) >
                                   0.1 * static_cast<double>(x.count) * static_cast<double>(plan.inputs))
        return -1;
    const bool source = plan.ops[0].declared->source;
    if (source && (!table.operations[plan.ops[0].code].sparse || plan.ops.size() == 1)) return -1;
    const Op& op = plan.ops[source];
    if (op.whole) return -1;
    return table.operations[op.code].sparse && op.positions == 1 ? source : -1;
}

// What the tensors of a plan lie in.
template <class T>
struct Tensors {
    const T* parameters = nullptr;
    T* statistics = nullptr;
    const double* scaling = nullptr;
};

template <class T>
class Buffers {
  public:
    size_t rows = 0;
    bool sparse = false;        // so is what goes in: neither x nor dx are there
    T* x = nullptr;             // rows x inputs
    int64_t* labels = nullptr;  // (rows,), training only like all below
    T* values = nullptr;        // rows x outputs
    size_t weights = 0;         // a row: 1, or outputs
    T* weight = nullptr;        // rows x weights
    T* value = nullptr;         // the same: of the loss
    T* dx = nullptr;            // rows x inputs: written by some, asked for by none
    T* gradient = nullptr;      // like the parameters
    std::vector<Call<T>> calls;
    Activated last{0,
                   0};  // the activation whose output the loss takes, and what its derivative is written in
    const T* last_saved = nullptr;

    // `first`: the first operation that learns; `weights_a_row`: of the loss; training only.
    void make(const Table<T>& table, const Plan& plan, size_t capacity, bool sparse_, bool training,
              size_t first, bool clears_gradient, size_t weights_a_row = 1) {
        if (capacity <= rows && weights_a_row <= weights && sparse == sparse_) return;
        rows = 0;  // stays so if memory runs out
        sparse = sparse_;
        weights = weights_a_row;
        Arena counting(nullptr);
        arrange(counting, table, plan, capacity, training, first);
        block_ = Block();  // the old one first: never two at a time
        block_ = Block(counting.used());
        Arena dealing(block_.get());
        arrange(dealing, table, plan, capacity, training, first);
        if (clears_gradient) memset(gradient, 0, plan.parameters * sizeof(T));  // also between the tensors
        rows = capacity;
    }

    // The calls, for tensors that lie there.
    void bind(const Plan& plan, const Tensors<T>& where) {
        for (size_t i = 0; i < plan.ops.size(); ++i) {
            const Op& op = plan.ops[i];
            const size_t params = op.declared->params.size();
            for (size_t t = 0; t < op.tensors.size(); ++t) {
                const Tensor& tensor = op.tensors[t];
                if (op.declared->source)
                    calls[i].statistics[t - params] = const_cast<double*>(where.scaling + tensor.offset);
                else if (t >= params)
                    calls[i].statistics[t - params] = where.statistics + tensor.offset;
                else  // a bias that is not trained lies with the statistics
                    calls[i].params[t] =
                        (tensor.trainable ? where.parameters : where.statistics) + tensor.offset;
            }
        }
    }

  private:
    void arrange(Arena& arena, const Table<T>& table, const Plan& plan, size_t capacity, bool training,
                 size_t first) {
        const size_t values_in = sparse ? 0 : times(capacity, plan.inputs);
        x = arena.take<T>(values_in);
        if (training) {
            labels = arena.take<int64_t>(capacity);
            values = arena.take<T>(times(capacity, plan.outputs));
            weight = arena.take<T>(times(capacity, weights));
            value = arena.take<T>(times(capacity, weights));
            dx = arena.take<T>(values_in);
            gradient = arena.take<T>(
                plan.parameters);  // untouched but for small tensors, unless its norm is asked for
        }
        calls.assign(plan.ops.size(), {});
        for (size_t i = 0; i < plan.ops.size(); ++i)
            arrange(arena, table.operations[plan.ops[i].code], plan, i, capacity, training, first);
        for (size_t i = 0; i < plan.ops.size(); ++i) {
            if (plan.ops[i].other >= 0) calls[i].other = calls[plan.ops[i].other].x;
            if (plan.ops[i].dother >= 0) calls[i].dother = calls[plan.ops[i].dother].da;
        }
        const Below below = below_of(plan, plan.ops.size());
        last = below.activation, last_saved = below.saved;
    }

    void arrange(Arena& arena, const Operation<T>& operation, const Plan& plan, size_t i, size_t capacity,
                 bool training, size_t first) {
        const Op& op = plan.ops[i];
        const Declared& declared = *op.declared;
        Call<T>& call = calls[i];
        const size_t elements = times(capacity, op.out());
        call.B = capacity, call.P = op.positions, call.I = op.inputs, call.O = op.outputs, call.F = op.in;
        call.op = static_cast<uint32_t>(i);
        if constexpr (sizeof(T) == 4) call.whole = op.whole;
        call.activation = {op.activation, op.alpha};
        for (size_t s = 0; s < op.settings.size(); ++s) call.settings[s] = op.settings[s];
        call.x = i == 0 ? x : calls[i - 1].a;
        const bool passes = declared.source || (training ? declared.forward : declared.predict).passes;
        call.a = passes ? const_cast<T*>(call.x) : arena.take<T>(elements);
        call.z = training && declared.keeps_z && op.saves_z ? arena.take<T>(elements) : call.a;
        const Sizes sizes(declared, op.settings.data(), capacity, op.positions, op.inputs, op.outputs, op.in);
        for (size_t s = 0; s < declared.scratch.size(); ++s) {
            size_t n = 0;
            if (!sizes.elements(declared.scratch[s].dims, &n)) throw std::bad_alloc();
            call.scratch[s] = declared.scratch[s].number == Number::kInt32
                                  ? static_cast<void*>(arena.take<int32_t>(n))
                                  : arena.take<T>(n);
        }
        if (training && !declared.source) {
            const Below below = below_of(plan, i);
            call.below = below.activation, call.saved = below.saved;
            call.da = arena.take<T>(elements);
            const bool wanted = i > first || declared.columns;
            T* const under = i > 0 && !plan.ops[i - 1].declared->source ? calls[i - 1].da : dx;
            call.dx = wanted ? under : nullptr;
            for (size_t t = 0; t < declared.params.size(); ++t)  // of what is not trained nobody reads it
                call.dparams[t] = !op.tensors[t].trainable ? arena.take<T>(op.tensors[t].size)
                                  : gradient == nullptr    ? nullptr
                                                           : gradient + op.tensors[t].offset;
        }
        if (!training || operation.packed == nullptr) return;
        const bool learns = std::all_of(op.tensors.begin(), op.tensors.end(),
                                        [](const Tensor& t) { return t.trainable || t.columns == 0; });
        for (int p = 0; p < kMostPacked; ++p) {
            const size_t n = operation.packed(call, {training, learns, i > first, capacity, sparse}, p);
            call.packed[p] = n > 0 ? arena.take<T>(n) : nullptr;
        }
    }

    // The activation whose output operation i takes (i = number of operations: the loss), and what its derivative is
    // written in.
    struct Below {
        Activated activation;
        const T* saved;
    };
    Below below_of(const Plan& plan, size_t i) const {
        if (i == 0) return {{plan.identity, 0}, x};
        const Op& op = plan.ops[i - 1];
        const Call<T>& call = calls[i - 1];
        const bool its_input = op.saves_z && !op.declared->keeps_z;
        return {{op.activation, op.alpha}, its_input ? call.x : call.z};
    }

    Block block_;
};

}  // namespace fastnn
