// What only predicts: a plan with parameters of its own, packed once, or with those of a model that lives on. No Python, no arithmetic.
#pragma once

#include <array>
#include <atomic>
#include <memory>

#include "forward.hpp"

namespace fastnn {

// What makes probabilities of the plan's outputs.
struct Link {
    int operation = -1;  // an index into the table's operations; -1: there are none
    Activated activation{0, 0};
    bool two_columns = false;  // of one value z: f(-z), f(z)
    bool predicted = false;    // predictions are what it makes
};

enum class Answer { prediction, probabilities, logits };

// The matrices in whole numbers: of each operation, or null; in which of the table's ways.
struct Int8 {
    int way = 0;
    std::vector<WholeNumbers> matrices;  // weights are null: in floats; none at all: no operation has one
};

// How many elements a state's buffers have.
struct Extents {
    size_t parameters = 0, statistics = 0, scaling = 0;
};

template <class T>
class Frozen {
  public:
    static constexpr size_t kFewRows = 8;  // or less: a call of its own, on the thread that calls

    // live: it keeps no copy of the tensors, which must stay where they are, and packs nothing: they may change between calls.
    // int8: it keeps no copy either, but what it packs. stop: as a Trainer's; where it is true, this may not be run.
    Frozen(const Table<T>& kernels, Plan plan, const Tensors<T>& tensors, const Extents& extents,
           const Link& link, bool live, const Int8& int8, bool (*stop)(void*), void* context);
    ~Frozen();
    Frozen(const Frozen&) = delete;

    size_t columns(Answer answer) const;
    double ns(size_t n) const { return forward_ns(kernels_, plan_, n); }
    const Plan& plan() const { return plan_; }
    const Table<T>& kernels() const { return kernels_; }

    // out (n, columns(answer)). stop: as a Trainer's. Throws std::bad_alloc, Refused.
    void run(const Rows& x, size_t n, Answer answer, T* out, bool (*stop)(void*), void* context) const;

    // The same of few rows, which are checked: false, and out is not written, where one has a value that is not finite, or that
    // the source cannot take.
    bool run_few(const Rows& x, size_t n, Answer answer, T* out) const;

  private:
    // The memory of one call at a time: taken from those that are free, or made.
    struct Workspace {
        Buffers<T> few;
        std::vector<Buffers<T>> many;
        std::vector<T> logits;
    };
    class Lease;
    struct Step {
        size_t i;
        int other;
        void (*serve)(const Call<T>&, size_t);
        void (*predict)(const Call<T>&, Range);  // both null: rows pass
    };

    void copy(const Tensors<T>& tensors, const Extents& extents, Interruption& interruption);
    void pack(const Int8& int8, Interruption& interruption);
    void pack(Interruption& interruption);
    void answer(Answer answer, const T* z, size_t n, T* out) const;
    bool linked(Answer answer) const {
        return answer == Answer::probabilities || (answer == Answer::prediction && link_.predicted);
    }
    bool two_columns(Answer answer) const { return answer == Answer::probabilities && link_.two_columns; }

    const Table<T>& kernels_;
    Plan plan_;
    const Link link_;
    const bool live_;
    Block block_;  // the parameters
    Tensors<T> tensors_;
    Packed<T> packed_;
    Block whole_block_;
    std::vector<Whole<T>> wholes_;
    std::vector<Step> steps_;
    mutable std::array<std::atomic<Workspace*>, 8> free_{};
};

}  // namespace fastnn
