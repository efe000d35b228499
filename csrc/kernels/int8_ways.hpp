// The ways to sum products of bytes: of vectors of weights, four of a column in each lane of 32 bits, and four values of a row.
// All make the same whole numbers. No loops, no floats.
//
// A way has
//   Stored, offset_signed, offset_unsigned: what a row is stored as, and what is added to it: rows with a negative value hold
//       -127 .. 127, others 0 .. 255. At most one of the two is not 0, and is subtracted again from the sums.
//   order: which of the four weights lie in which byte, an involution
//   kRows: of a tile of two vectors
//   add(sum, w, x): the sum with what four more weights of each column, and four values, have.
//
// Not among them: vpmaddubsw, which adds two products in 16 bits and saturates: 2 x 255 x 127 is 64,770.
#pragma once

#include "simd.hpp"

#if defined(__aarch64__)
#include <arm_neon.h>
#elif defined(__SSSE3__)
#include <tmmintrin.h>
#endif

#if FASTNN_FLOAT
namespace {
namespace int8 {

FASTNN_INLINE VI load_int(const void* p) {
    VI v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
FASTNN_INLINE VI broadcast_four(const void* p) {  // four bytes, in each lane
    int32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    return broadcast_int(four);
}

// The low bits of each lane, W of Stored. By hand: GCC 12 takes __builtin_convertvector apart, for 60 instructions.
template <class Stored>
FASTNN_INLINE void store_low(Stored* to, VI v) {
    [[maybe_unused]] constexpr bool bytes = sizeof(Stored) == 1;
    typedef Stored Low __attribute__((vector_size(W * sizeof(Stored))));
    Low low;
#if FASTNN_AVX512
    if constexpr (bytes)
        low = (Low)_mm512_cvtepi32_epi8((__m512i)v);
    else
        low = (Low)_mm512_cvtepi32_epi16((__m512i)v);
#elif FASTNN_AVX2
    if constexpr (bytes) {
        const __m256i four = _mm256_shuffle_epi8((__m256i)v, _mm256_set1_epi32(0x0c080400));
        const __m128i both =
            _mm_unpacklo_epi32(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));
        __builtin_memcpy(&low, &both, sizeof low);
    } else {
        const __m256i four = _mm256_shuffle_epi8((__m256i)v, _mm256_set1_epi64x(0x0d0c090805040100));
        low = (Low)_mm256_castsi256_si128(_mm256_permute4x64_epi64(four, 0x08));
    }
#elif FASTNN_SSE && defined(__SSSE3__)
    static_assert(!bytes);
    const __m128i four = _mm_shuffle_epi8((__m128i)v, _mm_set1_epi64x(0x0d0c090805040100));
    __builtin_memcpy(&low, &four, sizeof low);
#elif defined(__aarch64__)
    const int16x4_t half = vmovn_s32((int32x4_t)v);
    if constexpr (bytes) {
        const int8x8_t all = vmovn_s16(vcombine_s16(half, half));
        __builtin_memcpy(&low, &all, sizeof low);
    } else {
        low = (Low)half;
    }
#else
    low = __builtin_convertvector(v, Low);
#endif
    __builtin_memcpy(to, &low, sizeof low);
}

// Products of pairs of 16 bits, added: those of 255 and 127 are far from overflowing.
FASTNN_INLINE VI multiply_pairs(VI a, VI b) {
#if FASTNN_AVX512
    return (VI)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif FASTNN_AVX2
    return (VI)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif FASTNN_SSE
    return (VI)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
    return ((a << 16) >> 16) * ((b << 16) >> 16) + (a >> 16) * (b >> 16);
#endif
}

// Weights as 16 bits: exact everywhere, in two products and two sums for every four weights of a lane.
struct Widened {
    static constexpr const char* name = "widened";
    using Stored = int16_t;
    static constexpr int offset_signed = 0, offset_unsigned = 0;
    static constexpr size_t order[4] = {0, 2, 1, 3};  // bytes 0 and 2 become one pair, 1 and 3 the other
#if FASTNN_AVX512
    static constexpr size_t kRows = 12;  // 24 sums + 4 halves of weights + 2 broadcasts = 30 of 32 zmm
#else
    static constexpr size_t kRows = 4;  // 8 + 4 + 2 = 14 of 16
#endif
    typedef int16_t Pairs __attribute__((vector_size(sizeof(VI))));
    struct Weights {
        VI first, second;
    };
    struct Values {
        VI first, second;
    };
    using Sum = VI;

    static FASTNN_INLINE Weights weights(const int8_t* p) {
        const Pairs w = (Pairs)load_int(p);
        return {(VI)((w << 8) >> 8), (VI)(w >> 8)};
    }
    static FASTNN_INLINE Values values(const Stored* x) { return {broadcast_four(x), broadcast_four(x + 2)}; }
    static FASTNN_INLINE void add(Sum& sum, const Weights& w, const Values& x) {
        sum += multiply_pairs(w.first, x.first);
        sum += multiply_pairs(w.second, x.second);
    }
    static FASTNN_INLINE VI total(const Sum& sum) { return sum; }
};

// What the ways with products of bytes share: weights and values as they lie.
template <class Byte>
struct Fours {
    using Stored = Byte;
    static constexpr size_t order[4] = {0, 1, 2, 3};
    using Weights = VI;
    using Values = VI;

    static FASTNN_INLINE Weights weights(const int8_t* p) { return load_int(p); }
    static FASTNN_INLINE Values values(const Stored* x) { return broadcast_four(x); }
};

#if FASTNN_AVX512 || FASTNN_AVX2
// Four products and their sum in one instruction, which wraps like any sum of 32 bits. As an instruction alone it needs no
// option of the compiler's for the file: dispatch.cpp has asked the CPU.
struct Vnni : Fours<uint8_t> {
    static constexpr const char* name = "vnni";
    static constexpr int offset_signed = 128, offset_unsigned = 0;
#if FASTNN_AVX512
    static constexpr size_t kRows = 12;  // 24 sums + 2 of weights + 1 broadcast = 27 of 32 zmm
#else
    static constexpr size_t kRows = 6;  // 12 + 2 + 1 = 15 of 16 ymm
#endif
    using Sum = VI;

    static FASTNN_INLINE void add(Sum& sum, const Weights& w, const Values& x) {
#if FASTNN_AVX512
        asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "vm"(w));
#else
        asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(x), "xm"(w));
#endif
    }
    static FASTNN_INLINE VI total(const Sum& sum) { return sum; }
};
#elif defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
// sdot: four products of signed bytes and their sum. So rows of 0 .. 255 are stored 128 lower.
struct Dot : Fours<int8_t> {
    static constexpr const char* name = "dot";
    static constexpr int offset_signed = 0, offset_unsigned = -128;
    static constexpr size_t kRows = 12;  // 24 + 2 + 1 = 27 of 32
    using Sum = VI;

    static FASTNN_INLINE void add(Sum& sum, const Weights& w, const Values& x) {
        sum = (VI)vdotq_s32((int32x4_t)sum, (int8x16_t)x, (int8x16_t)w);
    }
    static FASTNN_INLINE VI total(const Sum& sum) { return sum; }
};
#elif defined(__aarch64__)
// smull and sadalp: products in 16 bits, of which two are added in 32: half as many instructions as Widened would take.
struct Long : Fours<int8_t> {
    static constexpr const char* name = "long";
    static constexpr int offset_signed = 0, offset_unsigned = -128;
    static constexpr size_t kRows = 4;  // 16 halves of sums + 2 of weights + 1 broadcast + 2 products
    struct Sum {
        int32x4_t low, high;  // of each column two parts
    };

    static FASTNN_INLINE void add(Sum& sum, const Weights& w, const Values& x) {
        const int8x16_t a = (int8x16_t)w, b = (int8x16_t)x;
        sum.low = vpadalq_s16(sum.low, vmull_s8(vget_low_s8(a), vget_low_s8(b)));
        sum.high = vpadalq_s16(sum.high, vmull_high_s8(a, b));
    }
    static FASTNN_INLINE VI total(const Sum& sum) { return (VI)vpaddq_s32(sum.low, sum.high); }
};
#endif

}  // namespace int8
}  // namespace
#endif
