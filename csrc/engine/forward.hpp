// The forward half of the walk: rows through all operations, 512 at a time. The memory is of one call, or a
// Frozen's for good.
#pragma once

#include <vector>

#include "buffers.hpp"
#include "interruption.hpp"

namespace fastnn {

// What the operations of a plan read many times, copied once for all rows: see Operation::packed.
template <class T>
class Packed {
  public:
    // Not all of it, where an interruption is found.
    void make(const Table<T>& kernels, const Plan& plan, const Tensors<T>& tensors, const Use& use,
              Interruption& interruption);
    // To the calls of one member.
    void show(std::vector<Call<T>>& calls) const {
        for (size_t i = 0; i < calls_.size(); ++i)
            for (int p = 0; p < kMostPacked; ++p) calls[i].packed[p] = calls_[i].packed[p];
    }

  private:
    void arrange(Arena& arena, const Table<T>& kernels, const Plan& plan, const Use& use);
    void pack_rows(void (*pack)(const Call<T>&, int, Range), size_t i, int t, const Tensor& tensor,
                   size_t line, Interruption& interruption);
    Buffers<T> bound_;
    std::vector<Call<T>> calls_;
    Block block_;
};

// One operation, for the first `rows` of its batch.
template <class T>
void predict(const Operation<T>& operation, const Call<T>& call, size_t rows) {
    (operation.predict ? operation.predict : operation.forward)(call, {0, rows});
}

// Of a row, of all operations.
size_t most_positions(const Plan& plan);
constexpr size_t kRowsAtOnce = 512;  // through all operations: 512 x 784 float32 is 1.6 MB

// What the walk takes on one thread, in ns: an estimate.
template <class T>
double forward_ns(const Table<T>& kernels, const Plan& plan, size_t n);

// out (n, outputs): the last operation's output for rows 0 .. n-1 of x. buffers: one a thread, made where they are missing or
// too small. stop: as a Trainer's; where it is true, out is not all written. Throws std::bad_alloc, Refused.
template <class T>
void forward(const Table<T>& kernels, const Plan& plan, const Tensors<T>& tensors, const Packed<T>& packed,
             std::vector<Buffers<T>>& buffers, const Rows& x, size_t n, T* out, bool (*stop)(void*),
             void* context);

// The same of a model that may be trained on after it: nothing is kept from call to call.
template <class T>
void forward_once(const Table<T>& kernels, const Plan& plan, const Tensors<T>& tensors, const Rows& x,
                  size_t n, T* out, bool (*stop)(void*), void* context);

}  // namespace fastnn
