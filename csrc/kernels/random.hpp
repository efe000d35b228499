// Philox4x32-7 (Salmon et al. 2011), the bits of _random.py, and shuffles drawn from them.
#pragma once

#include "parallel.hpp"
#include "table.hpp"

#if defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace {

constexpr size_t L =
    FASTNN_VECTOR_BYTES / 8;  // Philox blocks computed at once, a 32-bit word in each 64-bit lane
typedef uint64_t U64 __attribute__((vector_size(FASTNN_VECTOR_BYTES)));

// The 64-bit products of the low halves.
FASTNN_INLINE U64 multiply_low(U64 a, U64 b) {
#if FASTNN_AVX512
    return (U64)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif FASTNN_AVX2
    return (U64)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif FASTNN_SSE
    return (U64)_mm_mul_epu32((__m128i)a, (__m128i)b);
#elif defined(__ARM_NEON) && FASTNN_VECTOR_BYTES == 16
    return (U64)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b));
#else
    return (a & 0xffffffffu) * (b & 0xffffffffu);
#endif
}

constexpr size_t kChunk = 256;  // elements whose bits are drawn at a time: 1 kB of L1

// The bits of elements 4 * block .. 4 * block + kChunk - 1.
void fill_bits(const fastnn::RandomKey& key, uint64_t block, uint32_t* out) {
    U64 lane;
    for (size_t i = 0; i < L; ++i) lane[i] = i;
    const U64 multiplier0 = 0xD2511F53u + U64{}, multiplier1 = 0xCD9E8D57u + U64{};
    for (size_t done = 0; done < kChunk; done += 4 * L, block += L) {
        U64 c0 = block + lane, c1 = key.op + U64{}, c2 = (key.step & 0xffffffffu) + U64{},
            c3 = (key.step >> 32) + U64{};
        uint32_t k0 = static_cast<uint32_t>(key.seed), k1 = static_cast<uint32_t>(key.seed >> 32);
        FASTNN_UNROLL
        for (int round = 0; round < 7; ++round) {
            // The high halves of c0 and c2 are not cleared: the multiplication does not see them.
            const U64 p0 = multiply_low(c0, multiplier0), p1 = multiply_low(c2, multiplier1);
            c0 = (p1 >> 32) ^ c1 ^ static_cast<uint64_t>(k0);
            c2 = (p0 >> 32) ^ c3 ^ static_cast<uint64_t>(k1);
            c1 = p1 & 0xffffffffu;
            c3 = p0 & 0xffffffffu;
            k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
        }
        const U64 low = (c0 & 0xffffffffu) | (c1 << 32), high = (c2 & 0xffffffffu) | (c3 << 32);
        uint64_t words[2 * L];  // interleaved: words 0, 1 then 2, 3 of each block
        FASTNN_UNROLL
        for (size_t i = 0; i < L; ++i) words[2 * i] = low[i], words[2 * i + 1] = high[i];
        __builtin_memcpy(out + done, words, sizeof words);
    }
}

typedef uint32_t HalfWords __attribute__((vector_size(FASTNN_VECTOR_BYTES / 2)));
FASTNN_INLINE VU load_bits(const uint32_t* bits) {  // W of them, each in a lane as wide as Real
    VU v;
    if constexpr (kFloat) {
        __builtin_memcpy(&v, bits, sizeof v);
    } else {
        HalfWords half;
        __builtin_memcpy(&half, bits, sizeof half);
        v = (VU) __builtin_convertvector(half, U64);
    }
    return v;
}

// f(i, lanes, bits) over 0 .. n-1, the bits being those of elements first + i.
template <class F>
FASTNN_INLINE void for_bits(size_t first, size_t n, const fastnn::RandomKey& key, F&& f) {
    uint32_t bits[kChunk + W];
    for (size_t done = 0; done < n;) {
        const size_t skip = (first + done) % 4;  // not 0 only at the start
        fill_bits(key, (first + done) / 4, bits);
        const size_t here = n - done < kChunk - skip ? n - done : kChunk - skip;
        for_vectors(here, [&](size_t i, auto lanes) { f(done + i, lanes, load_bits(bits + skip + i)); });
        done += here;
    }
}

// order <- 0 .. n-1 shuffled, from the last place down: see _random.shuffle. The bits of kChunk / 2 places at a time.
void shuffle(fastnn::RandomKey key, size_t n, int64_t* order) {
    constexpr size_t kPlaces = kChunk / 2;
    uint32_t bits[kChunk];
    for (size_t i = 0; i < n; ++i) order[i] = static_cast<int64_t>(i);
    for (size_t end = n; end > 1;) {
        const size_t begin = (end - 1) / kPlaces * kPlaces;
        fill_bits(key, begin / 2, bits);
        for (size_t i = end; i-- > begin;) {
            const uint64_t low = bits[2 * (i - begin)], high = bits[2 * (i - begin) + 1], count = i + 1;
            const size_t place = (high * count + (low * count >> 32)) >> 32;
            const int64_t row = order[i];
            order[i] = order[place];
            order[place] = row;
        }
        end = begin;
    }
}

}  // namespace
