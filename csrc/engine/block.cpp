// See block.hpp.
#include "block.hpp"

#include <stdlib.h>

#include <new>

#ifdef _WIN32
#include <malloc.h>
#endif

namespace fastnn {

Block::Block(size_t bytes) {
    const size_t rounded = (bytes + 4095) & ~static_cast<size_t>(4095);
    void* memory = nullptr;
#ifdef _WIN32
    memory = _aligned_malloc(rounded, 64);
#else
    if (posix_memalign(&memory, 64, rounded) != 0) memory = nullptr;
#endif
    if (memory == nullptr) throw std::bad_alloc();
    memory_.reset(memory);
}

void Block::Free::operator()(void* p) const {
#ifdef _WIN32
    _aligned_free(p);
#else
    free(p);
#endif
}

}  // namespace fastnn
