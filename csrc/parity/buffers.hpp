// Memory that ends at a page which must not be touched, or begins after one, so that a read or write outside of it is a
// crash; ending at a page also makes it misaligned. And random numbers in it. No kernels.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

namespace parity {

using Ref = long double;
inline std::mt19937_64 g_random(1);
inline bool g_at_end = true;  // where memory touches a guard page

class Memory {
  public:
    explicit Memory(size_t bytes) : bytes_(bytes) {
        const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
        const size_t inner = (bytes + page) / page * page;
        total_ = inner + 2 * page;
        void* const base = mmap(nullptr, total_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        base_ = static_cast<char*>(base);
        if (base == MAP_FAILED || mprotect(base_ + page, inner, PROT_READ | PROT_WRITE) != 0) std::abort();
        data_ = g_at_end ? base_ + page + inner - bytes : base_ + page;
        poison();
    }
    Memory(Memory&& other) noexcept
        : bytes_(other.bytes_),
          total_(other.total_),
          base_(std::exchange(other.base_, nullptr)),
          data_(other.data_) {}
    Memory& operator=(const Memory&) = delete;
    ~Memory() {
        if (base_ != nullptr) munmap(base_, total_);
    }
    void poison() { std::memset(data_, 0xff, bytes_); }  // NaN in either float type; -1
    char* data() const { return data_; }
    size_t bytes() const { return bytes_; }
    std::vector<char> copy() const { return {data_, data_ + bytes_}; }
    void assign(const std::vector<char>& bytes) { std::memcpy(data_, bytes.data(), bytes_); }

  private:
    size_t bytes_, total_ = 0;
    char *base_, *data_;
};

// n elements.
template <class T>
class Buffer {
  public:
    explicit Buffer(size_t n) : memory_(n * sizeof(T)), n_(n) {}
    Buffer(size_t n, T fill) : Buffer(n) {
        for (size_t i = 0; i < n; ++i) get()[i] = fill;
    }
    Buffer(const Buffer& other) : Buffer(other.n_) { std::memcpy(get(), other.get(), n_ * sizeof(T)); }
    Buffer& operator=(const Buffer&) = delete;
    operator T*() const { return get(); }
    T* get() const { return reinterpret_cast<T*>(memory_.data()); }
    size_t size() const { return n_; }

  private:
    Memory memory_;
    size_t n_;
};

template <class T>
Buffer<T> copied(const std::vector<T>& values) {
    Buffer<T> b(values.size());
    std::copy(values.begin(), values.end(), b.get());
    return b;
}

template <class T>
void fill_uniform(T* data, size_t n, double low, double high) {
    std::uniform_real_distribution<double> d(low, high);
    for (size_t i = 0; i < n; ++i) data[i] = static_cast<T>(d(g_random));
}

template <class T>
Buffer<T> uniform(size_t n, double low, double high) {
    Buffer<T> b(n);
    fill_uniform(b.get(), n, low, high);
    return b;
}

}  // namespace parity
