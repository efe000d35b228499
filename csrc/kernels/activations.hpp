// The element-wise activations: value and derivative on vectors, and the loops that apply them to a block.
// No products, no threads.
//
// A new activation is a struct here and a name in FASTNN_ACTIVATIONS; formula, source and what `saved` is (z
// or a) stand in formulas/activations.py.
#pragma once

#include "math.hpp"
#include "own.hpp"

namespace {

constexpr Real kSeluScale = Real(1.0507009873554804934193349852946);  // Klambauer et al. 2017, equation 14
constexpr Real kSeluAlpha = Real(1.6732632423543772848170429916717);
constexpr Real kGeluCubic = Real(0.044715);  // Hendrycks & Gimpel 2016, section 2
constexpr Real kSqrt2OverPi = Real(0.79788456080286535588), kSqrtHalf = Real(0.70710678118654752440);
constexpr Real kInvSqrt2Pi = Real(0.39894228040143267794);

FASTNN_INLINE V one_where(VI mask) { return (V)(mask & bits_as<Int>(Real(1))); }

namespace activation {

#define FASTNN_ACTIVATION(name, z, value_, saved, derivative_)                                  \
    struct name {                                                                               \
        static FASTNN_INLINE V value(V z, [[maybe_unused]] V alpha) { return value_; }          \
        static FASTNN_INLINE V derivative([[maybe_unused]] V saved, [[maybe_unused]] V alpha) { \
            return derivative_;                                                                 \
        }                                                                                       \
    };

FASTNN_INLINE V gelu_tanh_of(V z) { return tanh(kSqrt2OverPi * z * (1 + kGeluCubic * z * z)); }
// tanh(softplus(z)) = (u^2 - 1) / (u^2 + 1), u = 1 + e^z; written with w = e^-|z| so that nothing overflows.
FASTNN_INLINE V tanh_softplus(V z, V w) {
    const V n = select(z < Real(0), w * (w + 2), 1 + 2 * w);
    return n / (n + 2 * select(z < Real(0), broadcast(1), w * w));
}
FASTNN_INLINE V sigmoid_of(V z, V w) { return select(z < Real(0), w, broadcast(1)) / (1 + w); }
FASTNN_INLINE V mish_derivative(V z) {
    const V w = exp(-abs(z)), t = tanh_softplus(z, w);
    return t + z * (1 - t * t) * sigmoid_of(z, w);
}
FASTNN_INLINE V silu_derivative(V z) {
    const V s = sigmoid(z);
    return s + z * s * (1 - s);
}
FASTNN_INLINE V gelu_tanh_derivative(V z) {
    const V t = gelu_tanh_of(z);
    return Real(0.5) * (1 + t) + Real(0.5) * z * (1 - t * t) * (kSqrt2OverPi * (1 + 3 * kGeluCubic * z * z));
}

FASTNN_ACTIVATION(identity, z, z, a, broadcast(1))
FASTNN_ACTIVATION(binary_step, z, select(z < Real(0), V{}, select(z >= Real(0), broadcast(1), z)), z,
                  one_where(abs(z) <= Real(1)))
FASTNN_ACTIVATION(sigmoid, z, ::sigmoid(z), a, a * (1 - a))
FASTNN_ACTIVATION(tanh, z, ::tanh(z), a, 1 - a * a)
FASTNN_ACTIVATION(relu, z, max(V{}, z), a, one_where(a > Real(0)))
FASTNN_ACTIVATION(leaky_relu, z, select(z > Real(0), z, alpha* z), a,
                  select(a > Real(0), broadcast(1), alpha))
FASTNN_ACTIVATION(elu, z, select(z > Real(0), z, alpha* expm1(min(V{}, z))), a,
                  select(a > Real(0), broadcast(1), a + alpha))
FASTNN_ACTIVATION(selu, z, kSeluScale* select(z > Real(0), z, kSeluAlpha* expm1(min(V{}, z))), a,
                  select(a > Real(0), broadcast(kSeluScale), a + kSeluScale * kSeluAlpha))
FASTNN_ACTIVATION(softplus, z, ::softplus(z), z, ::sigmoid(z))
FASTNN_ACTIVATION(gelu, z, Real(0.5) * z * (1 + erf(z * kSqrtHalf)), z,
                  Real(0.5) * (1 + erf(z * kSqrtHalf)) + z * (kInvSqrt2Pi * exp(Real(-0.5) * z * z)))
FASTNN_ACTIVATION(gelu_tanh, z, Real(0.5) * z * (1 + gelu_tanh_of(z)), z, gelu_tanh_derivative(z))
FASTNN_ACTIVATION(silu, z, z* ::sigmoid(z), z, silu_derivative(z))
FASTNN_ACTIVATION(mish, z, z* tanh_softplus(z, exp(-abs(z))), z, mish_derivative(z))
FASTNN_ACTIVATION(hard_sigmoid, z, min(broadcast(1), max(V{}, z / 6 + Real(0.5))), a,
                  (V)((VI)broadcast(Real(1.0 / 6.0)) & ((a > Real(0)) & (a < Real(1)))))
FASTNN_ACTIVATION(hard_tanh, z, min(broadcast(1), max(broadcast(-1), z)), a, one_where(abs(a) < Real(1)))
FASTNN_ACTIVATION(softsign, z, z / (1 + abs(z)), a, (1 - abs(a)) * (1 - abs(a)))
FASTNN_ACTIVATION(exponential, z, exp(z), a, a)

}  // namespace activation

// clang-format off
#define FASTNN_ACTIVATIONS(X) \
    X(identity) \
    X(binary_step) \
    X(sigmoid) \
    X(tanh) \
    X(relu) \
    X(leaky_relu) \
    X(elu) \
    X(selu) \
    X(softplus) \
    X(gelu) \
    X(gelu_tanh) \
    X(silu) \
    X(mish) \
    X(hard_sigmoid) \
    X(hard_tanh) \
    X(softsign) \
    X(exponential)
// clang-format on

enum : int {
#define FASTNN_X(name) kActivation_##name,
    FASTNN_ACTIVATIONS(FASTNN_X)
#undef FASTNN_X
        kActivations
};

// Both work on a (rows, cols) block that may be part of larger matrices. Contiguous blocks become one long
// row: a narrow one (cols < W) then wastes no lanes.
using Block = void (*)(size_t rows, size_t cols, const Real* in, size_t ldin, const Real* d, size_t ldd,
                       Real* out, size_t ldout, Parameter parameter);

template <class F>
void forward_block(size_t rows, size_t cols, const Real* z, size_t ldz, const Real*, size_t, Real* a,
                   size_t lda, Parameter parameter) {
    if (cols == ldz && cols == lda) cols *= rows, rows = 1;
    const V alpha = broadcast(parameter.alpha);
    for (; rows > 0; --rows, z += ldz, a += lda)
        for_vectors(cols,
                    [&](size_t j, auto lanes) { store(a + j, F::value(load(z + j, lanes), alpha), lanes); });
}

template <class F>
void backward_block(size_t rows, size_t cols, const Real* saved, size_t ldsaved, const Real* da, size_t ldda,
                    Real* dz, size_t lddz, Parameter parameter) {
    if (cols == ldsaved && cols == ldda && cols == lddz) cols *= rows, rows = 1;
    const V alpha = broadcast(parameter.alpha);
    for (; rows > 0; --rows, saved += ldsaved, da += ldda, dz += lddz)
        for_vectors(cols, [&](size_t j, auto lanes) {
            store(dz + j, load(da + j, lanes) * F::derivative(load(saved + j, lanes), alpha), lanes);
        });
}

const Block kForward[] = {
#define FASTNN_X(name) forward_block<activation::name>,
    FASTNN_ACTIVATIONS(FASTNN_X)
#undef FASTNN_X
};
const Block kBackward[] = {
#define FASTNN_X(name) backward_block<activation::name>,
    FASTNN_ACTIVATIONS(FASTNN_X)
#undef FASTNN_X
};
FASTNN_INLINE Block forward_of(int code) { return code < kActivations ? kForward[code] : own_forward; }
FASTNN_INLINE Block backward_of(int code) { return code < kActivations ? kBackward[code] : own_backward; }
Parameter parameter_of(int code, double alpha) {
    const auto* own =
        code < kActivations ? nullptr : fastnn::own<Real>(fastnn::OwnKind::activation, code - kActivations);
    return {static_cast<Real>(alpha), own};
}
const char* const kActivationNames[] = {
#define FASTNN_X(name) #name,
    FASTNN_ACTIVATIONS(FASTNN_X)
#undef FASTNN_X
};

}  // namespace
