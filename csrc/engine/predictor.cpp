// Predictions of a model that may be trained between them: nothing is kept from call to call. See engine.hpp.
#include "engine.hpp"
#include "forward.hpp"

namespace fastnn {

template <class T>
class Predictor<T>::Impl {
  public:
    Impl(const Table<T>& kernels, Plan plan) : kernels_(kernels), plan_(std::move(plan)) {}

    void run(const Tensors<T>& tensors, const Rows& x, size_t n, T* out, bool (*stop)(void*),
             void* context) const {
        Packed<T> packed;  // pays for more rows than are taken at once
        const bool sparse = takes_sparse(kernels_, plan_, x) >= 0;
        if (n * most_positions(plan_) > kRowsAtOnce)
            packed.make(kernels_, plan_, tensors, {false, false, false, n, sparse});
        std::vector<Buffers<T>> buffers;
        forward(kernels_, plan_, tensors, packed, buffers, x, n, out, stop, context);
    }

  private:
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
