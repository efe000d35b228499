// The buffers of one plan for batches of up to so many rows: one allocation, every buffer on cache lines of its own.
#pragma once

#include <stdlib.h>
#include <string.h>

#include <memory>
#include <new>
#include <vector>

#include "plan.hpp"

namespace fastnn {

// 64-byte aligned memory that is given back.
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

// What one operation writes; rows x outputs unless said otherwise. Panels (table.hpp) only where something reads them.
template <class T>
struct Room {
    T* a = nullptr;
    T* z = nullptr;             // is a where the derivative of the activation is written in terms of a
    int32_t* winner = nullptr;  // maxout
    T* mean = nullptr;          // batch_norm: (outputs,), layer_norm: (rows,)
    T* inv_std = nullptr;
    // training only
    T* dz = nullptr;
    T* w_panels = nullptr;  // dense, inputs x outputs
    T* transposed_panels = nullptr;
    T* dz_panels = nullptr;
};

// What the rooms of a plan are made for. Packing pays where the unpacked matrix would not stay in half of L1, or would
// have to be transposed by every task.
struct Purpose {
    bool training, needs_gradient;
    size_t first_learning;  // operation; training only
    size_t panel_columns;

    template <class T>
    bool large(size_t elements) const {
        return training && elements * sizeof(T) > 16384;
    }
    template <class T>
    void deal(Dealer& dealer, const Op& op, size_t index, size_t rows, Room<T>& room) const {
        const size_t I = op.inputs, O = op.outputs;
        const auto panels = [&](bool wanted, size_t columns, size_t depth) {
            return wanted
                       ? dealer.take<T>((columns + panel_columns - 1) / panel_columns * panel_columns * depth)
                       : nullptr;
        };
        const bool dense = op.kind == Kind::dense, learns = dense && op.tensors[0].trainable;
        room.a = dealer.take<T>(rows * O);
        room.z = training && dense && op.saves_z ? dealer.take<T>(rows * O) : room.a;
        if (op.kind == Kind::maxout) room.winner = dealer.take<int32_t>(rows * O);
        if (op.kind == Kind::batch_norm || op.kind == Kind::layer_norm) {
            room.mean = dealer.take<T>(op.kind == Kind::batch_norm ? O : rows);
            room.inv_std = dealer.take<T>(op.kind == Kind::batch_norm ? O : rows);
        }
        if (!training) return;
        room.dz = dealer.take<T>(rows * O);
        room.w_panels = panels(learns && large<T>(I * O), O, I);
        room.transposed_panels = panels(learns && index > first_learning, I, O);
        room.dz_panels = panels(learns && large<T>(rows * O) && I >= 3 * panel_columns, O, rows);
    }
};

template <class T>
struct Workspace {
    size_t rows = 0;
    T* x = nullptr;             // rows x inputs; is rooms[0].a where the plan normalises
    int64_t* labels = nullptr;  // (rows,), training only like all below
    T* values = nullptr;        // rows x outputs
    T* weight = nullptr;        // (rows,)
    T* value = nullptr;         // (rows,)
    T* dx = nullptr;            // rows x inputs: written by some, asked for by none
    T* gradient = nullptr;      // like the parameters
    std::vector<Room<T>> rooms;

    void make(const Plan& plan, size_t capacity, const Purpose& purpose) {
        if (capacity <= rows) return;
        rows = 0;  // stays so if memory runs out
        rooms.assign(plan.ops.size(), {});
        Dealer counting(nullptr);
        deal(counting, plan, capacity, purpose);
        block_ = Block();  // the old one first: never two at a time
        block_ = Block(counting.used());
        Dealer dealing(block_.get());
        deal(dealing, plan, capacity, purpose);
        if (purpose.needs_gradient)
            memset(gradient, 0, plan.parameters * sizeof(T));  // also between the tensors
        rows = capacity;
    }

  private:
    void deal(Dealer& dealer, const Plan& plan, size_t capacity, const Purpose& purpose) {
        if (!plan.normalizes) x = dealer.take<T>(capacity * plan.inputs);
        if (purpose.training) {
            labels = dealer.take<int64_t>(capacity);
            values = dealer.take<T>(capacity * plan.outputs);
            weight = dealer.take<T>(capacity);
            value = dealer.take<T>(capacity);
            dx = dealer.take<T>(capacity * plan.inputs);
            gradient = dealer.take<T>(
                plan.parameters);  // untouched but for small tensors, unless its norm is asked for
        }
        for (size_t i = 0; i < plan.ops.size(); ++i) purpose.deal(dealer, plan.ops[i], i, capacity, rooms[i]);
        if (plan.normalizes) x = rooms[0].a;
    }
    Block block_;
};

}  // namespace fastnn
