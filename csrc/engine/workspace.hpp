// The buffers of one plan for batches of up to so many rows: one allocation, every buffer on cache lines of its own.
#pragma once

#include <stdlib.h>
#include <string.h>

#include <memory>
#include <new>
#include <vector>

#include "plan.hpp"

namespace fastnn {

// 64-byte aligned, zeroed memory that is given back.
class Block {
  public:
    Block() = default;
    explicit Block(size_t bytes);
    void* get() const { return memory_.get(); }

  private:
    struct Free {
        void operator()(void* p) const;
    };
    std::unique_ptr<void, Free> memory_;
};

// Deals out pieces of a block: once without memory, to learn how much is needed, then for good.
class Dealer {
  public:
    explicit Dealer(void* memory) : memory_(static_cast<char*>(memory)) {}
    template <class T>
    T* take(size_t n) {
        const size_t here = used_;
        used_ += (n * sizeof(T) + 63) & ~static_cast<size_t>(63);
        return memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + here);
    }
    size_t used() const { return used_; }

  private:
    char* memory_;
    size_t used_ = 0;
};

// What one operation writes; rows x outputs unless said otherwise.
template <class T>
struct Room {
    T* a = nullptr;
    T* z = nullptr;             // is a where the derivative of the activation is written in terms of a
    T* dz = nullptr;            // training only
    int32_t* winner = nullptr;  // maxout
    T* mean = nullptr;          // batch_norm: (outputs,), layer_norm: (rows,)
    T* inv_std = nullptr;

    void deal(Dealer& dealer, const Op& op, size_t rows, bool training) {
        a = dealer.take<T>(rows * op.outputs);
        const bool keeps_z = training && op.kind == Kind::dense && op.saves_z;
        z = keeps_z ? dealer.take<T>(rows * op.outputs) : a;
        if (training) dz = dealer.take<T>(rows * op.outputs);
        if (op.kind == Kind::maxout) winner = dealer.take<int32_t>(rows * op.outputs);
        if (op.kind == Kind::batch_norm || op.kind == Kind::layer_norm) {
            const size_t groups = op.kind == Kind::batch_norm ? op.outputs : rows;
            mean = dealer.take<T>(groups);
            inv_std = dealer.take<T>(groups);
        }
    }
};

template <class T>
struct Workspace {
    size_t rows = 0;
    T* x = nullptr;             // rows x inputs
    int64_t* labels = nullptr;  // (rows,), training only like all below
    T* values = nullptr;        // rows x outputs
    T* weight = nullptr;        // (rows,)
    T* value = nullptr;         // (rows,)
    T* dx = nullptr;            // rows x inputs: written by some, asked for by none
    T* gradient = nullptr;      // like the parameters
    std::vector<Room<T>> rooms;

    void make(const Plan& plan, size_t capacity, bool training) {
        if (capacity <= rows) return;
        rows = 0;  // stays so if memory runs out
        rooms.assign(plan.ops.size(), {});
        Dealer counting(nullptr);
        deal(counting, plan, capacity, training);
        block_ = Block();  // the old one first: never two at a time
        block_ = Block(counting.used());
        Dealer dealing(block_.get());
        deal(dealing, plan, capacity, training);
        rows = capacity;
    }

  private:
    void deal(Dealer& dealer, const Plan& plan, size_t capacity, bool training) {
        x = dealer.take<T>(capacity * plan.inputs);
        if (training) {
            labels = dealer.take<int64_t>(capacity);
            values = dealer.take<T>(capacity * plan.outputs);
            weight = dealer.take<T>(capacity);
            value = dealer.take<T>(capacity);
            dx = dealer.take<T>(capacity * plan.inputs);
            gradient = dealer.take<T>(plan.parameters);
        }
        for (size_t i = 0; i < plan.ops.size(); ++i) rooms[i].deal(dealer, plan.ops[i], capacity, training);
    }
    Block block_;
};

}  // namespace fastnn
