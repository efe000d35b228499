// See frozen.hpp.
#include "frozen.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine.hpp"

namespace fastnn {

template <class T>
class Frozen<T>::Lease {
  public:
    explicit Lease(const Frozen& frozen) : frozen_(frozen) {
        for (auto& place : frozen.free_)
            if ((memory_ = place.exchange(nullptr, std::memory_order_acquire)) != nullptr) return;
        memory_ = new Workspace;
    }
    ~Lease() {
        for (auto& place : frozen_.free_) {
            Workspace* none = nullptr;
            if (place.compare_exchange_strong(none, memory_, std::memory_order_release)) return;
        }
        delete memory_;
    }
    Lease(const Lease&) = delete;
    Workspace& operator*() const { return *memory_; }

  private:
    const Frozen& frozen_;
    Workspace* memory_ = nullptr;
};

template <class T>
Frozen<T>::Frozen(const Table<T>& kernels, Plan plan, const Tensors<T>& tensors, const Extents& extents,
                  const Link& link, bool live, const Int8& int8, bool (*stop)(void*), void* context)
    : kernels_(kernels), plan_(std::move(plan)), link_(link), live_(live), tensors_(tensors) {
    const bool whole = !int8.matrices.empty();
    Interruption interruption;
    interruption.begin(stop, context);
    if (whole) pack(int8, interruption);
    if (!live && !whole) copy(tensors, extents, interruption);
    if (!live) pack(interruption);
    for (size_t i = 0; i < plan_.ops.size(); ++i) {
        const Op& op = plan_.ops[i];
        const Operation<T>& operation = kernels_.operations[op.code];
        Step step{i, op.other, nullptr, nullptr};
        if (!op.declared->source && !op.declared->predict.passes) {
            step.serve = live ? nullptr : operation.serve;
            step.predict = operation.predict ? operation.predict : operation.forward;
        }
        steps_.push_back(step);
    }
}

template <class T>
void Frozen<T>::copy(const Tensors<T>& tensors, const Extents& extents, Interruption& interruption) {
    const auto arrange = [&](Arena& arena) {
        tensors_.parameters = arena.take<T>(extents.parameters);
        tensors_.statistics = arena.take<T>(extents.statistics);
        tensors_.scaling = arena.take<double>(extents.scaling);
    };
    Arena counting(nullptr);
    arrange(counting);
    block_ = Block(std::max<size_t>(counting.used(), 64));
    Arena dealing(block_.get());
    arrange(dealing);
    constexpr size_t kAtOnce = size_t(1) << 22;  // numbers: some milliseconds
    for (size_t i = 0; i < extents.parameters && !interruption.found(); i += kAtOnce) {
        const size_t n = std::min(kAtOnce, extents.parameters - i);
        std::copy_n(tensors.parameters + i, n, const_cast<T*>(tensors_.parameters) + i);
        interruption.look();
    }
    std::copy_n(tensors.statistics, extents.statistics, tensors_.statistics);
    std::copy_n(tensors.scaling, extents.scaling, const_cast<double*>(tensors_.scaling));
}

template <class T>
void Frozen<T>::pack(Interruption& interruption) {
    Use use{false, false, false, kRowsAtOnce};
    use.serving = true;
    packed_.make(kernels_, plan_, tensors_, use, interruption);
}

template <class T>
void Frozen<T>::pack([[maybe_unused]] const Int8& int8, [[maybe_unused]] Interruption& interruption) {
    if constexpr (sizeof(T) == 4) {
        const Int8Way<T>& way = kernels_.int8_ways[int8.way];
        wholes_.resize(plan_.ops.size());
        const auto arrange = [&](Arena& arena, bool packs) {
            for (size_t i = 0; i < plan_.ops.size(); ++i) {
                const WholeNumbers& from = int8.matrices[i];
                if (from.weights == nullptr) continue;
                void* const to = arena.take<char>(way.bytes(from.K, from.N));
                if (!packs) continue;
                if (!interruption.found()) wholes_[i] = way.pack(from, to);
                plan_.ops[i].whole = &wholes_[i];
                interruption.look();
            }
        };
        Arena counting(nullptr);
        arrange(counting, false);
        whole_block_ = Block(std::max<size_t>(counting.used(), 64));
        Arena dealing(whole_block_.get());
        arrange(dealing, true);
    }
}

template <class T>
Frozen<T>::~Frozen() {
    for (auto& place : free_) delete place.load();
}

template <class T>
size_t Frozen<T>::columns(Answer answer) const {
    return two_columns(answer) ? 2 : plan_.outputs;
}

template <class T>
void Frozen<T>::answer(Answer answer, const T* z, size_t n, T* out) const {
    const size_t values = n * plan_.outputs;
    if (!linked(answer)) {
        if (out != z) std::copy_n(z, values, out);
        return;
    }
    const T* from = z;
    if (two_columns(answer)) {
        for (size_t i = n; i-- > 0;) out[2 * i + 1] = z[i], out[2 * i] = -out[2 * i + 1];
        from = out;
    }
    Call<T> call{};
    call.B = n, call.I = call.O = call.F = columns(answer);
    call.x = from, call.a = call.z = out, call.activation = link_.activation;
    kernels_.operations[link_.operation].forward(call, {0, n});
}

template <class T>
void Frozen<T>::run(const Rows& x, size_t n, Answer wanted, T* out, bool (*stop)(void*),
                    void* context) const {
    if (n == 0) return;
    Lease lease(*this);
    Workspace& mine = *lease;
    T* z = out;
    if (two_columns(wanted)) {
        mine.logits.resize(n);
        z = mine.logits.data();
    }
    if (live_)
        forward_once(kernels_, plan_, tensors_, x, n, z, stop, context);
    else
        forward(kernels_, plan_, tensors_, packed_, mine.many, x, n, z, stop, context);
    answer(wanted, z, n, out);
}

namespace {

// Whether none is beyond float's range, which a scaling would hide.
bool fits(const Rows& x, size_t n, size_t I) {
    bool all = true;
    for (size_t i = 0; i < n; ++i) {
        const auto* row = reinterpret_cast<const double*>(static_cast<const char*>(x.data) +
                                                          static_cast<ptrdiff_t>(i) * x.stride);
        for (size_t j = 0; j < I; ++j) all &= std::abs(row[j]) <= std::numeric_limits<float>::max();
    }
    return all;
}

}  // namespace

template <class T>
bool Frozen<T>::run_few(const Rows& x, size_t n, Answer wanted, T* out) const {
    static constexpr int64_t kOrder[kFewRows] = {0, 1, 2, 3, 4, 5, 6, 7};
    Lease lease(*this);
    Buffers<T>& mine = (*lease).few;
    if (mine.rows == 0) {
        mine.make(kernels_, plan_, kFewRows, false, false, 0, false);
        mine.bind(plan_, tensors_);
        packed_.show(mine.calls);
    }
    const size_t I = plan_.inputs;
    const T* in = mine.x;
    if (plan_.ops[0].declared->source) {
        const auto gather = kernels_.operations[plan_.ops[0].code].gather;
        if (gather(mine.calls[0], x, kOrder, n, 0, I, mine.x) != kFine) return false;
        if (sizeof(T) == 4 && x.stored == kFloat64 && !fits(x, n, I)) return false;
    } else if (x.stored == (sizeof(T) == 4 ? kFloat32 : kFloat64) &&
               (n == 1 || x.stride == static_cast<ptrdiff_t>(I * sizeof(T)))) {
        in = static_cast<const T*>(x.data);
    } else {
        kernels_.gather(x, kOrder, n, 0, I, mine.x);
    }
    if (!kernels_.finite(n * I, in)) return false;
    for (const Step& step : steps_) {
        Call<T>& call = mine.calls[step.i];
        call.x = in;
        if (step.other >= 0) call.other = mine.calls[step.other].x;
        if (step.serve)
            step.serve(call, n);
        else if (step.predict)
            step.predict(call, {0, n});
        else
            call.a = const_cast<T*>(in);
        in = call.a;
    }
    answer(wanted, in, n, out);
    return true;
}

template class Frozen<float>;
template class Frozen<double>;

}  // namespace fastnn
