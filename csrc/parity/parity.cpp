// Every kernel of every instruction set here against plain long double loops. No Python, no SIMD, nothing shared with the
// kernels but the table and what reads a Spec.
//
// Sizes sit around the vector width. Outputs start as NaN, between pages that must not be touched. Tolerances follow from
// the number of roundings. Prints a line a kernel, returns 1 if any failed.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "../dispatch.hpp"
#include "checks.hpp"

#ifdef FASTNN_LOWERED  // 64-byte vectors compiled for AVX2: the AVX-512 tiles and tails on a CPU without it
namespace fastnn {
namespace lowered {
extern const Table<float> float_table;
extern const Table<double> double_table;
}  // namespace lowered
}  // namespace fastnn
#endif

namespace {

std::set<std::string> g_skipped;

template <class T>
bool run(const fastnn::Table<T>& table, int int8_ways, const char* type) {
    bool ok = true;
    for (const bool at_end : {true, false}) {
        parity::g_at_end = at_end;
        parity::Report report;
        parity::check_functions(table, report);
        parity::check_operations(table, report);
        parity::check_sources(table, report);
        parity::check_moments(table, report);
        parity::check_losses(table, report);
        parity::check_rules(table, report);
        if constexpr (sizeof(T) == 4) parity::check_int8(table, int8_ways, report);
        ok &= report.print(std::string(table.instruction_set) + " " + type);
        g_skipped.insert(report.skipped().begin(), report.skipped().end());
    }
    return ok;
}

}  // namespace

// parity [NAME...]: the instruction sets of those names, or all that run here.
int main(int count, char** names) {
    const auto wanted = [&](const char* name) {
        return count == 1 ||
               std::any_of(names + 1, names + count, [&](const char* n) { return !std::strcmp(n, name); });
    };
    int checked = 0;
    bool ok = true;
    const auto check = [&](const fastnn::Table<float>& f, const fastnn::Table<double>& d, int int8_ways) {
        if (!wanted(f.instruction_set)) return;
        ++checked;
        ok &= run(f, int8_ways, "float32") & run(d, 0, "float64");
    };
    const auto& sets = fastnn::instruction_sets();
    for (int i = 0; i < sets.count; ++i)
        check(*sets.items[i].float_table, *sets.items[i].double_table, sets.items[i].int8_ways);
#ifdef FASTNN_LOWERED
    if (sets.find("avx2") >= 0)
        check(fastnn::lowered::float_table, fastnn::lowered::double_table,
              fastnn::lowered::float_table.int8_way_count);
#endif
    ok &= checked > 0;
    for (const auto& name : g_skipped) std::printf("not checked, has no definition here: %s\n", name.c_str());
    std::printf("%s\n", !checked ? "no such instruction set here" : ok ? "all kernels agree" : "FAILED");
    return ok ? 0 : 1;
}
