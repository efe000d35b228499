// Predictions: the forward half of the walk, 512 rows at a time through all operations. See engine.hpp.
#include <algorithm>
#include <atomic>

#include "../threads.hpp"
#include "engine.hpp"
#include "interruption.hpp"
#include "schedule.hpp"
#include "team.hpp"

namespace fastnn {

template <class T>
class Predictor<T>::Impl {
  public:
    Impl(const Table<T>& kernels, Plan plan) : kernels_(kernels), plan_(std::move(plan)) {}

    void run(const Tensors<T>& tensors, const Rows& x, size_t n, T* out, bool (*stop)(void*),
             void* context) const {
        if (n == 0) return;
        double ns = 0;
        for (const Op& op : plan_.ops)
            ns += kernels_.operations[op.code].ns(n * op.positions, op.inputs, op.outputs);
        const Region region(ns);
        const int threads = region.threads();
        Work work{kernels_, plan_, tensors, x, n, out};
        work.interruption.begin(stop, context);
        const size_t dense = std::max<size_t>(4, kBytes / threads / (plan_.inputs * sizeof(T)));
        const size_t room = work.sparse < 0 ? dense : kRows;
        work.piece = std::min({kRows, room, round_up((n + threads - 1) / threads, 4)});
        work.buffers.resize(threads);
        if (n * most_positions() > kRows) work.pack();
        run_program(work, threads);
        if (work.wrong_row >= 0) throw Refused(work.wrong_row, work.wrong_column);
    }

  private:
    // Of a row, of all operations: what is packed pays for more rows than are taken at once.
    size_t most_positions() const {
        size_t most = 1;
        for (const Op& op : plan_.ops) most = std::max(most, op.positions);
        return most;
    }
    // Of the rows that go in, for all threads together: sparse ones are made dense.
    static constexpr size_t kBytes = size_t(32) << 20;
    static constexpr size_t kRows = 512;  // through all layers at once: 512 x 784 float32 is 1.6 MB

    struct Work final : Program {
        Work(const Table<T>& kernels_, const Plan& plan_, const Tensors<T>& tensors_, const Rows& x_,
             size_t n_, T* out_)
            : kernels(kernels_),
              plan(plan_),
              tensors(tensors_),
              x(x_),
              n(n_),
              out(out_),
              sparse(takes_sparse(kernels, plan, x)) {}
        const Table<T>& kernels;
        const Plan& plan;
        const Tensors<T> tensors;
        const Rows x;
        const size_t n;
        T* const out;
        const int sparse;  // the operation that reads sparse rows
        size_t piece = 0;
        std::vector<Buffers<T>> buffers;  // one a thread
        Buffers<T> packing;               // what all of them read: see Operation::packed
        Block packed_block;
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
            if (own.rows == 0) {
                own.make(kernels, plan, std::min(piece, n), sparse >= 0, false, 0, false);
                own.bind(plan, tensors);
                if (sparse >= 0) own.calls[sparse].sparse = &x;
                for (size_t i = 0; i < packing.calls.size(); ++i)
                    std::copy_n(packing.calls[i].packed, kMostPacked, own.calls[i].packed);
            }
            int64_t order[kRows];
            const T* in = gather(own, rows, order);
            if (wrong_row >= 0) return;
            for (size_t i = 0; i < plan.ops.size(); ++i) {
                const Op& op = plan.ops[i];
                Call<T>& call = own.calls[i];
                call.x = in;
                if (op.declared->source || op.declared->predict.passes) {
                    call.a = const_cast<T*>(in);
                    continue;
                }
                if (op.other >= 0) call.other = own.calls[op.other].x;
                const Operation<T>& operation = kernels.operations[op.code];
                (operation.predict ? operation.predict : operation.forward)(call, {0, rows.size()});
                in = call.a;
            }
            std::copy_n(in, rows.size() * plan.outputs, out + rows.begin * plan.outputs);
        }

        // What the operations read many times, packed once for all rows.
        void pack() {
            packing.calls.resize(plan.ops.size());
            packing.bind(plan, tensors);
            Arena counting(nullptr);
            arrange(counting);
            if (counting.used() == 0) return;
            packed_block = Block(counting.used());
            Arena dealing(packed_block.get());
            arrange(dealing);
            for (size_t i = 0; i < plan.ops.size(); ++i)
                if (const auto pack = kernels.operations[plan.ops[i].code].pack)
                    for (size_t t = 0; t < plan.ops[i].declared->params.size(); ++t)
                        if (plan.ops[i].tensors[t].columns > 0)
                            pack(packing.calls[i], static_cast<int>(t), {0, plan.ops[i].tensors[t].rows()});
        }
        void arrange(Arena& arena) {
            for (size_t i = 0; i < plan.ops.size(); ++i) {
                const Op& op = plan.ops[i];
                Call<T>& call = packing.calls[i];
                call.P = op.positions, call.I = op.inputs, call.O = op.outputs;
                const auto packed = kernels.operations[op.code].packed;
                for (int p = 0; packed && p < kMostPacked; ++p) {
                    const size_t elements = packed(call, {false, false, false, n, sparse >= 0}, p);
                    call.packed[p] = elements > 0 ? arena.take<T>(elements) : nullptr;
                }
            }
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
                                 : source    ? kernels.operations[plan.ops[0].code].gather(
                                                   own.calls[0], x, order, rows.size(), 0, I, own.x)
                                             : kernels.gather(x, order, rows.size(), 0, I, own.x);
            if (wrong != kFine) {
                wrong_row = order[wrong / I], wrong_column = static_cast<int64_t>(wrong % I);
            }
            return own.x;
        }
    };

    const Table<T>& kernels_;
    const Plan plan_;
};

template <class T>
Predictor<T>::Predictor(const Table<T>& kernels, Plan plan) : impl_(new Impl(kernels, std::move(plan))) {}
template <class T>
Predictor<T>::~Predictor() = default;
template <class T>
void Predictor<T>::run(const Tensors<T>& tensors, const Rows& x, size_t n, T* out, bool (*stop)(void*),
                       void* context) {
    impl_->run(tensors, x, n, out, stop, context);
}

template class Predictor<float>;
template class Predictor<double>;

}  // namespace fastnn
