// See forward.hpp.
#include "forward.hpp"

#include <algorithm>
#include <atomic>

#include "../threads.hpp"
#include "engine.hpp"
#include "interruption.hpp"
#include "schedule.hpp"
#include "team.hpp"

namespace fastnn {

constexpr size_t kPackedAtOnce = size_t(1) << 22;  // numbers

template <class T>
void Packed<T>::make(const Table<T>& kernels, const Plan& plan, const Tensors<T>& tensors, const Use& use,
                     Interruption& interruption) {
    bound_.calls.assign(plan.ops.size(), {});
    bound_.bind(plan, tensors);
    Arena counting(nullptr);
    arrange(counting, kernels, plan, use);
    if (counting.used() == 0) return;
    block_ = Block(counting.used());
    Arena dealing(block_.get());
    arrange(dealing, kernels, plan, use);
    calls_ = std::move(bound_.calls);
    for (size_t i = 0; i < plan.ops.size(); ++i)
        if (const auto pack = kernels.operations[plan.ops[i].code].pack)
            for (size_t t = 0; t < plan.ops[i].declared->params.size(); ++t)
                pack_rows(pack, i, static_cast<int>(t), plan.ops[i].tensors[t], kernels.panel_columns,
                          interruption);
}

// A few milliseconds of rows at a time: a matrix of 12,000 x 12,000 takes a second.
template <class T>
void Packed<T>::pack_rows(void (*pack)(const Call<T>&, int, Range), size_t i, int t, const Tensor& tensor,
                          size_t line, Interruption& interruption) {
    if (tensor.columns == 0) return;
    const size_t most = std::max<size_t>(kPackedAtOnce / tensor.columns / line, 1) * line;
    for (size_t row = 0; row < tensor.rows() && !interruption.found(); row += most) {
        pack(calls_[i], t, {row, std::min(row + most, tensor.rows())});
        interruption.look();
    }
}

template <class T>
void Packed<T>::arrange(Arena& arena, const Table<T>& kernels, const Plan& plan, const Use& use) {
    for (size_t i = 0; i < plan.ops.size(); ++i) {
        const Op& op = plan.ops[i];
        Call<T>& call = bound_.calls[i];
        call.P = op.positions, call.I = op.inputs, call.O = op.outputs;
        if constexpr (sizeof(T) == 4) call.whole = op.whole;
        const auto packed = kernels.operations[op.code].packed;
        for (int p = 0; packed && p < kMostPacked; ++p) {
            const size_t elements = packed(call, use, p);
            call.packed[p] = elements > 0 ? arena.take<T>(elements) : nullptr;
        }
    }
}

size_t most_positions(const Plan& plan) {
    size_t most = 1;
    for (const Op& op : plan.ops) most = std::max(most, op.positions);
    return most;
}

constexpr double kWholeNs = 0.4;  // of a product in whole numbers beside the same in floats

template <class T>
double forward_ns(const Table<T>& kernels, const Plan& plan, size_t n) {
    double ns = 0;
    for (const Op& op : plan.ops)
        ns += kernels.operations[op.code].ns(n * op.positions, op.inputs, op.outputs, op.settings.data()) *
              (op.whole ? kWholeNs : 1);
    return ns;
}

namespace {

// Of the rows that go in, for all threads together: sparse ones are made dense.
constexpr size_t kBytes = size_t(32) << 20;

// Ctrl-C is answered between operations of 32 rows or of 50 ms: two layers of 8000 would take seconds for 512 rows.
constexpr double kPieceNs = 5e7, kSlowNs = 1e7;

template <class T>
struct Walk final : Program {
    Walk(const Table<T>& kernels_, const Plan& plan_, const Tensors<T>& tensors_, const Packed<T>& packed_,
         std::vector<Buffers<T>>& buffers_, const Rows& x_, size_t n_, T* out_)
        : kernels(kernels_),
          plan(plan_),
          tensors(tensors_),
          packed(packed_),
          buffers(buffers_),
          x(x_),
          n(n_),
          out(out_),
          sparse(takes_sparse(kernels, plan, x)) {}
    const Table<T>& kernels;
    const Plan& plan;
    const Tensors<T>& tensors;
    const Packed<T>& packed;
    std::vector<Buffers<T>>& buffers;  // one a thread
    const Rows x;
    const size_t n;
    T* const out;
    const int sparse;  // the operation that reads sparse rows
    size_t piece = 0;
    bool slow = false;  // a piece takes long: looked between its operations, too
    std::atomic<int64_t> wrong_row{-1}, wrong_column{0};  // of a value that the source cannot take

    Interruption interruption;  // looked for between tasks: 512 rows are soon done, all may take minutes

    int phases() const override { return 1; }
    int64_t tasks(int64_t, int) const override { return static_cast<int64_t>((n + piece - 1) / piece); }
    bool finish(int64_t, int) override { return false; }
    void run(int64_t, int, int64_t task, int member) override {
        if (member == 0 && task > 0) interruption.look();
        if (interruption.found()) return;
        const Range rows = fastnn::piece(n, piece, task);
        Buffers<T>& own = buffers[member];
        prepare(own);
        int64_t order[kRowsAtOnce];
        const T* in = gather(own, rows, order);
        if (wrong_row >= 0) return;
        for (size_t i = 0; i < plan.ops.size(); ++i) {
            if (slow && member == 0) interruption.look();
            if (interruption.found()) return;
            const Op& op = plan.ops[i];
            Call<T>& call = own.calls[i];
            call.x = in;
            if (op.declared->source || op.declared->predict.passes) {
                call.a = const_cast<T*>(in);
                continue;
            }
            if (op.other >= 0) call.other = own.calls[op.other].x;
            predict(kernels.operations[op.code], call, rows.size());
            in = call.a;
        }
        std::copy_n(in, rows.size() * plan.outputs, out + rows.begin * plan.outputs);
    }

    void prepare(Buffers<T>& own) {
        const size_t rows = std::min(piece, n);
        if (own.rows < rows || own.sparse != (sparse >= 0)) {
            own.make(kernels, plan, rows, sparse >= 0, false, 0, false);
            own.bind(plan, tensors);
            packed.show(own.calls);
        }
        if (sparse >= 0) own.calls[sparse].sparse = &x;
    }

    // The rows as they lie there, where they are what the first operation reads.
    const T* gather(Buffers<T>& own, Range rows, int64_t* order) {
        const bool source = plan.ops[0].declared->source;
        const Stored real = sizeof(T) == 4 ? kFloat32 : kFloat64;
        const size_t I = plan.inputs;
        const bool plain = x.starts == nullptr && x.stride == static_cast<ptrdiff_t>(I * sizeof(T));
        if (!source && plain && x.stored == real) return static_cast<const T*>(x.data) + rows.begin * I;
        for (size_t i = 0; i < rows.size(); ++i) order[i] = static_cast<int64_t>(rows.begin + i);
        if (sparse >= 0) own.calls[sparse].order = order;
        const size_t wrong = sparse >= 0 ? kernels.check_sparse_rows(x, order, rows.size(), I)
                             : source ? kernels.operations[plan.ops[0].code].gather(own.calls[0], x, order,
                                                                                    rows.size(), 0, I, own.x)
                                      : kernels.gather(x, order, rows.size(), 0, I, own.x);
        if (wrong != kFine) {
            wrong_row = order[wrong / I], wrong_column = static_cast<int64_t>(wrong % I);
        }
        return own.x;
    }
};

}  // namespace

template <class T>
void forward(const Table<T>& kernels, const Plan& plan, const Tensors<T>& tensors, const Packed<T>& packed,
             std::vector<Buffers<T>>& buffers, const Rows& x, size_t n, T* out, bool (*stop)(void*),
             void* context) {
    if (n == 0) return;
    const Region region(forward_ns(kernels, plan, n));
    const size_t threads = static_cast<size_t>(region.threads());
    Walk<T> walk(kernels, plan, tensors, packed, buffers, x, n, out);
    walk.interruption.begin(stop, context);
    const size_t dense = std::max<size_t>(4, kBytes / threads / (plan.inputs * sizeof(T)));
    const size_t room = walk.sparse < 0 ? dense : kRowsAtOnce;
    const size_t quick = static_cast<size_t>(
        std::clamp(kPieceNs / forward_ns(kernels, plan, 1), 32.0, static_cast<double>(kRowsAtOnce)));
    walk.piece = std::min({kRowsAtOnce, room, quick / 4 * 4, round_up((n + threads - 1) / threads, 4)});
    walk.slow = forward_ns(kernels, plan, walk.piece) > kSlowNs;
    if (buffers.size() < threads) buffers.resize(threads);
    run_program(walk, static_cast<int>(threads));
    if (walk.wrong_row >= 0) throw Refused(walk.wrong_row, walk.wrong_column);
}

template <class T>
void forward_once(const Table<T>& kernels, const Plan& plan, const Tensors<T>& tensors, const Rows& x,
                  size_t n, T* out, bool (*stop)(void*), void* context) {
    Packed<T> packed;
    Interruption interruption;
    interruption.begin(stop, context);
    const bool sparse = takes_sparse(kernels, plan, x) >= 0;
    if (n * most_positions(plan) > kRowsAtOnce)  // packing pays for more rows than are taken at once
        packed.make(kernels, plan, tensors, {false, false, false, n, sparse}, interruption);
    if (interruption.found()) return;
    std::vector<Buffers<T>> buffers;
    forward(kernels, plan, tensors, packed, buffers, x, n, out, stop, context);
}

#define FASTNN_X(T)                                                                                      \
    template class Packed<T>;                                                                            \
    template double forward_ns(const Table<T>&, const Plan&, size_t);                                    \
    template void forward(const Table<T>&, const Plan&, const Tensors<T>&, const Packed<T>&,             \
                          std::vector<Buffers<T>>&, const Rows&, size_t, T*, bool (*)(void*), void*);    \
    template void forward_once(const Table<T>&, const Plan&, const Tensors<T>&, const Rows&, size_t, T*, \
                               bool (*)(void*), void*);
FASTNN_X(float)
FASTNN_X(double)
#undef FASTNN_X

}  // namespace fastnn
