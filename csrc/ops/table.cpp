// The kernel table of one instruction set and one float type. Compiled once for each: FASTNN_ISA (the name in
// C++), FASTNN_ISA_NAME (for people), FASTNN_FLOAT, FASTNN_VECTOR_BYTES. Exports that table and nothing else.
#include "../kernels/table.hpp"

#include "../kernels/moments.hpp"
#include "../kernels/optimizers.hpp"
#include "../kernels/peak.hpp"
#include "all.hpp"

namespace {

template <class A, size_t n>
constexpr int length(A (&)[n]) {
    return static_cast<int>(n);
}

void loss(int loss, const double* parameters, size_t count, size_t B, size_t O, const Real* z,
          const int64_t* labels, const Real* values, const Real* weight, Real* value, Real* dz) {
    if (loss < length(kLosses))
        kLosses[loss](parameters, count, B, O, z, labels, values, weight, value, dz);
    else
        own_loss(*fastnn::own<Real>(fastnn::OwnKind::loss, loss - length(kLosses)), parameters[0], B, O, z,
                 values, weight, value, dz);
}

bool update(int rule, const double* coefficients, const fastnn::Adjustment& adjustment, size_t n, Real* w,
            const Real* g, Real* const* slots) {
    if (rule < length(kUpdates)) return kUpdates[rule](coefficients, adjustment, n, w, g, slots);
    return own_update(*fastnn::own<Real>(fastnn::OwnKind::rule, rule - length(kUpdates)), coefficients,
                      adjustment, n, w, g, slots);
}

using Function = void (*)(size_t n, const Real* x, Real* out);
const Function kFunctions[] = {
#define FASTNN_X(name) function_loop<::name>,
    FASTNN_FUNCTIONS(FASTNN_X)
#undef FASTNN_X
};
const char* const kFunctionNames[] = {
#define FASTNN_X(name) #name,
    FASTNN_FUNCTIONS(FASTNN_X)
#undef FASTNN_X
};
void function(int function, size_t n, const Real* x, Real* out) { kFunctions[function](n, x, out); }

}  // namespace

namespace fastnn {
namespace FASTNN_ISA {

#if FASTNN_FLOAT
extern const Table<float> float_table;
const Table<float> float_table = {
#else
extern const Table<double> double_table;
const Table<double> double_table = {
#endif
    FASTNN_ISA_NAME,
    FASTNN_VECTOR_BYTES,
    length(kActivationNames),
    length(kLossNames),
    length(kRuleNames),
    length(kFunctionNames),
    kActivationNames,
    kLossNames,
    kRuleNames,
    kFunctionNames,
    kRuleSlots,
    kRuleCoefficients,
    kLossTargets,
    kLossWidths,
    kOperations,
    length(kOperations),
#if FASTNN_FLOAT
    kInt8Ways,
    length(kInt8Ways),
#else
    nullptr,
    0,
#endif
    kPanel,
    shuffle,
    gather,
    check_sparse_rows,
    moments,
    finite,
    ops::derive,
    loss,
    squared_norm,
    update,
    function,
    multiply_adds,
};

}  // namespace FASTNN_ISA
}  // namespace fastnn
