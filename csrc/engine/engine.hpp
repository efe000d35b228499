// Whole slices of an epoch in one call. No Python, no arithmetic: the kernels have that.
#pragma once

#include <memory>
#include <stdexcept>

#include "buffers.hpp"

namespace fastnn {

// A value of X that the plan's source cannot take.
struct Refused : std::domain_error {
    Refused(int64_t row_, int64_t column_) : std::domain_error("X"), row(row_), column(column_) {}
    int64_t row, column;
};

// What training changes.
template <class T>
struct State {
    T* parameters;
    T* statistics;
    const double* scaling;
    T* const* slots;
    uint64_t step;  // steps taken before this call
};

// What the steps of one call visit: the rows `order` of x, targets and weight, `size` of them a step, in the last what is
// left.
template <class T>
struct Batches {
    Rows x;
    const int64_t* labels;  // one of labels (n,) and values (n, outputs) is null
    const T* values;
    const T* weight;  // (n, weights) or null: all 1
    size_t weights;   // a row: 1, or one an output, where a point-wise loss is the mean over rows and outputs
    double
        mean_weight;  // of the data that the batches are of: a loss is sum(weight * value) / (rows * weights * this)
    const int64_t* order;
    size_t rows, size;
    const double* coefficients;  // (steps, the rule's count)
    const double* lr;            // (steps,)
};

// Trains one plan with one objective. Not for two threads at a time.
template <class T>
class Trainer {
  public:
    Trainer(const Table<T>& kernels, Plan plan, const Objective& objective);
    ~Trainer();
    // Takes one optimizer step for every `size` rows, until a loss is not finite (its step is not taken) or an update
    // leaves anything that is not (its loss becomes NaN). losses: (steps,), what is not reached untouched; taken: the
    // steps taken, counted up as they are. stop(context) is asked by the calling thread every 50 ms between tasks; true
    // ends the call before the next update. The state is then as a whole step left it; not so after std::bad_alloc, which
    // a thread that packs may throw within an update. Throws std::out_of_range where a
    // label is none of the outputs, Refused where the source cannot take a value.
    void run(const State<T>& state, const Batches<T>& batches, double* losses, int64_t* taken,
             bool (*stop)(void*), void* context);

  private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

extern template class Trainer<float>;
extern template class Trainer<double>;

}  // namespace fastnn
