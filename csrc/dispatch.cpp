// CPU features + FASTNN_ISA -> one kernel table. Compiled for the baseline.
#include "dispatch.hpp"

#include <stdlib.h>
#include <string.h>

#include <stdexcept>
#include <string>

#if defined(__x86_64__) || defined(_M_X64)
#include <cpuid.h>
#endif

namespace fastnn {

#define FASTNN_DECLARE(isa)                  \
    namespace isa {                          \
    extern const Table<float> float_table;   \
    extern const Table<double> double_table; \
    }
#ifdef FASTNN_HAVE_X86
FASTNN_DECLARE(x86_64_v2)
FASTNN_DECLARE(avx2)
FASTNN_DECLARE(avx512)
#endif
#ifdef FASTNN_HAVE_NEON
FASTNN_DECLARE(neon)
#endif

namespace {

#ifdef FASTNN_HAVE_X86
constexpr unsigned kAvx512Vnni = 1u << 11, kAvxVnni = 1u << 4;  // of leaf 7: ecx; of its subleaf 1: eax

struct Features {
    bool sse42 = false, avx2 = false, avx512 = false, avx_vnni = false, avx512_vnni = false;

    Features() {
        unsigned a, b, c, d;
        if (!__get_cpuid(1, &a, &b, &c, &d)) return;
        sse42 = c & bit_SSE4_2;
        const bool fma = c & bit_FMA, f16c = c & bit_F16C;
        if (!(c & bit_OSXSAVE)) return;
        // Does the operating system save the registers?  Bits 1, 2: xmm, ymm; 5, 6, 7: masks and zmm.
        unsigned low, high;
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        const bool ymm = (low & 0x6) == 0x6, zmm = (low & 0xe6) == 0xe6;
        if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return;
        avx2 = sse42 && ymm && fma && f16c && (b & bit_AVX2);
        const unsigned needed = bit_AVX512F | bit_AVX512VL | bit_AVX512DQ | bit_AVX512BW;
        avx512 = avx2 && zmm && (b & needed) == needed;
        avx512_vnni = avx512 && (c & kAvx512Vnni);
        if (a < 1 || !__get_cpuid_count(7, 1, &a, &b, &c, &d)) return;
        avx_vnni = avx2 && (a & kAvxVnni);
    }
};
#endif

InstructionSets detect() {
    InstructionSets sets;
    [[maybe_unused]] const auto add = [&](const char* name, const Table<float>* f, const Table<double>* d,
                                          bool last_way) {
        sets.items[sets.count++] = {name, f, d, f->int8_way_count - !last_way};
    };
#ifdef FASTNN_HAVE_X86
    const Features cpu;
    if (cpu.sse42) add("x86-64-v2", &x86_64_v2::float_table, &x86_64_v2::double_table, true);
    if (cpu.avx2) add("avx2", &avx2::float_table, &avx2::double_table, cpu.avx_vnni);
    if (cpu.avx512) add("avx512", &avx512::float_table, &avx512::double_table, cpu.avx512_vnni);
#endif
#ifdef FASTNN_HAVE_NEON
    add("neon", &neon::float_table, &neon::double_table, true);  // every aarch64 has it
#endif
    return sets;
}

}  // namespace

int InstructionSets::find(const char* name) const {
    for (int i = 0; i < count; ++i)
        if (strcmp(items[i].name, name) == 0) return i;
    return -1;
}

const InstructionSets& instruction_sets() {
    static const InstructionSets sets = detect();
    return sets;
}

int default_instruction_set() {
    const InstructionSets& sets = instruction_sets();
    const char* asked = getenv("FASTNN_ISA");
    if (asked == nullptr || *asked == '\0') {
        if (sets.count == 0)
            throw std::runtime_error("this CPU lacks SSE4.2, the least that fastnn's native kernels need");
        return sets.count - 1;
    }
    const int found = sets.find(asked);
    if (found >= 0) return found;
    std::string available;
    for (int i = 0; i < sets.count; ++i) available += (i ? ", " : "") + std::string(sets.items[i].name);
    throw std::runtime_error("FASTNN_ISA is '" + std::string(asked) +
                             "', but this CPU and this build of fastnn have: " + available);
}

}  // namespace fastnn
