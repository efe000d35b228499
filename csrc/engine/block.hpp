// Aligned memory, and how it is cut into buffers.
#pragma once

#include <stddef.h>

#include <memory>
#include <new>

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

// Cuts a block into pieces, each on cache lines of its own: once without memory, to learn how much is needed, then for
// good.
class Arena {
  public:
    explicit Arena(void* memory) : memory_(static_cast<char*>(memory)) {}
    template <class T>
    T* take(size_t n) {
        if (n > kMost / sizeof(T) || used_ > kMost) throw std::bad_alloc();
        const size_t here = used_;
        used_ += (n * sizeof(T) + 63) & ~static_cast<size_t>(63);
        return memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + here);
    }
    size_t used() const { return used_; }

  private:
    static constexpr size_t kMost = static_cast<size_t>(1) << 56;  // bytes: sums of two stay numbers
    char* memory_;
    size_t used_ = 0;
};

}  // namespace fastnn
