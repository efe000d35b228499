// The losses: value of each row and gradient, in one pass over z where the loss allows it. No targets are checked here: labels are in 0 .. O-1.
//
// A new point-wise loss is a struct (value and gradient on vectors) and a name in FASTNN_LOSSES; formulas and
// sources stand in formulas/losses.py.
#pragma once

#include "activations.hpp"
#include "parallel.hpp"

namespace {

namespace losses {

enum : int { kLabels = 1, kValues = 2, kPointwise = 4 };
// A loss's `width`: its outputs for each target, kEach: as many as it has parameters.
enum : int { kEach = 0 };

FASTNN_INLINE V sign(V x) { return select(x == Real(0), V{}, select(x == x, copysign(broadcast(1), x), x)); }

#define FASTNN_POINTWISE(name, value_, gradient_)                                                   \
    struct name {                                                                                   \
        static constexpr int targets = kValues | kPointwise, width = 1;                             \
        static FASTNN_INLINE V value(V z, V y, [[maybe_unused]] Real p) { return value_; }          \
        static FASTNN_INLINE V gradient(V z, V y, [[maybe_unused]] Real p) { return gradient_; }    \
        static void run(const double* p, size_t, size_t B, size_t O, const Real* z, const int64_t*, \
                        const Real* y, const Real* weight, Real* value, Real* dz) {                 \
            pointwise<name>(static_cast<Real>(p[0]), B, O, z, y, weight, value, dz);                \
        }                                                                                           \
    };

template <class Loss>
void pointwise(Real p, size_t B, size_t O, const Real* z, const Real* y, const Real* weight, Real* value,
               Real* dz) {
    if (O == 1) {  // vectors along the rows
        for_vectors(B, [&](size_t i, auto lanes) {
            const V zi = load(z + i, lanes), yi = load(y + i, lanes);
            store(value + i, Loss::value(zi, yi, p), lanes);
            store(dz + i, Loss::gradient(zi, yi, p) * load(weight + i, lanes), lanes);
        });
        return;
    }
    const Real scale = Real(1.0 / static_cast<double>(O));
    for (size_t i = 0; i < B; ++i, z += O, y += O, dz += O) {
        const V factor = broadcast(weight[i] * scale);
        value[i] = scale * row_sum(O, [&](size_t j, auto lanes) {
                       const V zj = load(z + j, lanes), yj = load(y + j, lanes);
                       store(dz + j, Loss::gradient(zj, yj, p) * factor, lanes);
                       return Loss::value(zj, yj, p);
                   });
    }
}

FASTNN_INLINE V huber_value(V z, V y, Real delta) {
    const V r = abs(z - y);
    return select(r <= delta, Real(0.5) * r * r, delta * (r - Real(0.5) * delta));
}
// log(1 + e^z) - q z and sigmoid(z) - q: both from the same e^-|z|, which the compiler computes once.
FASTNN_INLINE V smoothed(V y, Real smoothing) { return y * (1 - smoothing) + Real(0.5) * smoothing; }

FASTNN_POINTWISE(mse, (z - y) * (z - y), 2 * (z - y))
FASTNN_POINTWISE(half_mse, Real(0.5) * (z - y) * (z - y), z - y)
FASTNN_POINTWISE(mae, abs(z - y), sign(z - y))
FASTNN_POINTWISE(huber, huber_value(z, y, p), min(broadcast(p), max(broadcast(-p), z - y)))
FASTNN_INLINE V expectile_weight(V z, V y, Real tau) {
    return select(z > y, broadcast(1 - tau), broadcast(tau));
}
FASTNN_INLINE V log_cosh_of(V r) { return r + log1p(Real(0.5) * expm1(-2 * r)); }  // r >= 0
FASTNN_INLINE V tweedie_value(V z, V y, Real power) {
    return exp((2 - power) * z) / (2 - power) - y * exp((1 - power) * z) / (1 - power);
}
// -(1 - p)^gamma log p with p = sigmoid(z), and its slope: the focal loss where y is 1; that of -z where it is 0.
FASTNN_INLINE V missed(V z, Real gamma) { return exp(-gamma * softplus(z)) * softplus(-z); }
FASTNN_INLINE V missed_slope(V z, Real gamma) {
    return -exp(-gamma * softplus(z)) * (gamma * ::sigmoid(z) * softplus(-z) + ::sigmoid(-z));
}

FASTNN_POINTWISE(log_cosh, log_cosh_of(abs(z - y)), tanh(z - y))
FASTNN_POINTWISE(quantile, max(p*(y - z), (p - 1) * (y - z)), Real(0.5) * sign(z - y) + (Real(0.5) - p))
FASTNN_POINTWISE(expectile, expectile_weight(z, y, p) * (z - y) * (z - y),
                 2 * expectile_weight(z, y, p) * (z - y))
FASTNN_POINTWISE(gamma, z + y * exp(-z), 1 - y * exp(-z))
FASTNN_POINTWISE(tweedie, tweedie_value(z, y, p), exp((2 - p) * z) - y * exp((1 - p) * z))
FASTNN_POINTWISE(binary_focal, y* missed(z, p) + (1 - y) * missed(-z, p),
                 y* missed_slope(z, p) - (1 - y) * missed_slope(-z, p))
FASTNN_POINTWISE(poisson, exp(z) - y * z, exp(z) - y)
FASTNN_POINTWISE(binary_cross_entropy, max(V{}, z) - z * smoothed(y, p) + log1p(exp(-abs(z))),
                 ::sigmoid(z) - smoothed(y, p))

// e = exp(z - max z), padded with zeros to whole vectors; returns the sum. A NaN or an infinity in z makes it
// NaN.
FASTNN_INLINE Real exp_row(size_t O, const Real* z, Real largest, Real* e) {
    return row_sum(O, [&](size_t j, auto lanes) {
        const V v = keep(exp(load(z + j, lanes) - largest), lanes);
        store(e + j, v);
        return v;
    });
}
FASTNN_INLINE Real* padded_row(size_t O) {
    return static_cast<Real*>(fastnn::scratch(fastnn::kRow, (O + W) * sizeof(Real)));
}

// -sum q log softmax(z) = sum(q) log(sum e) - sum q (z - max z); gradient softmax * sum(q) - q.
struct cross_entropy {
    static constexpr int targets = kLabels | kValues, width = 1;

    // Labels of few classes: a vector holds one class of W rows, so that nothing is added up across lanes and none is
    // empty. 32 rows of 2 classes take 0.2 us instead of 0.9.
    static constexpr size_t kFewClasses = 16;
    static void few_classes(double smoothing, size_t B, size_t O, const Real* z, const int64_t* labels,
                            const Real* weight, Real* value, Real* dz) {
        const Real classes = static_cast<Real>(O),
                   base = static_cast<Real>(smoothing / static_cast<double>(O)),
                   peak = static_cast<Real>(1.0 - smoothing), mass = classes * base + peak;
        share(B, 1.0 * static_cast<double>(O) + 10, W, [&](size_t begin, size_t end) {
            for_vectors(end - begin, [&](size_t done, auto lanes) {
                const size_t i0 = begin + done, rows = lanes.n;
                alignas(64) Real columns[kFewClasses * W];
                alignas(64) Int own_class[W];
                if (rows < W) {
                    for (size_t j = 0; j < O; ++j) store(columns + j * W, V{});
                    store(reinterpret_cast<Real*>(own_class), V{});
                }
                for (size_t r = 0; r < rows; ++r) {
                    for (size_t j = 0; j < O; ++j) columns[j * W + r] = z[(i0 + r) * O + j];
                    own_class[r] = static_cast<Int>(labels[i0 + r]);
                }
                const VI own_classes = (VI)load(reinterpret_cast<const Real*>(own_class));
                const auto is_own = [&](size_t j) {
                    return own_classes == broadcast_int(static_cast<Int>(j));
                };
                V top = load(columns), own = top, sum{}, total{};
                for (size_t j = 1; j < O; ++j) {
                    const V column = load(columns + j * W);
                    top = max(column, top), own = select(is_own(j), column, own);
                }
                for (size_t j = 0; j < O; ++j) {
                    const V shifted = load(columns + j * W) - top, e = exp(shifted);
                    total += e, sum += shifted;
                    store(columns + j * W, e);
                }
                const V w = load(weight + i0, lanes), scale = w * (mass / total), lift = w * base;
                V match = peak * (own - top);
                if (base > 0) match += base * sum;
                for (size_t j = 0; j < O; ++j)
                    store(columns + j * W,
                          load(columns + j * W) * scale - lift - select(is_own(j), w * peak, V{}));
                store(value + i0, log(total) * mass - match, lanes);
                for (size_t r = 0; r < rows; ++r)
                    for (size_t j = 0; j < O; ++j) dz[(i0 + r) * O + j] = columns[j * W + r];
            });
        });
    }

    static void run(const double* parameters, size_t, size_t B, size_t O, const Real* z,
                    const int64_t* labels, const Real* y, const Real* weight, Real* value, Real* dz) {
        const double smoothing = parameters[0];
        const double floor_ = smoothing / static_cast<double>(O);
        const Real base = static_cast<Real>(floor_), peak = static_cast<Real>(1.0 - smoothing);
        const Real mass_of_label = static_cast<Real>(floor_ * static_cast<double>(O) + (1.0 - smoothing));
        if (O <= kFewClasses && labels != nullptr)
            return few_classes(smoothing, B, O, z, labels, weight, value, dz);
        share(B, 2.0 * static_cast<double>(O) + 10, W, [&](size_t begin, size_t end) {
            Real* e = padded_row(O);
            for (size_t i0 = begin; i0 < end; i0 += W) {
                const size_t rows = end - i0 < W ? end - i0 : W;
                Real total[W] = {}, mass[W] = {}, match[W] = {};
                for (size_t r = 0; r < rows; ++r) {
                    const size_t i = i0 + r;
                    const Real* zi = z + i * O;
                    Real* out = dz + i * O;
                    const Real top = row_max(O, zi);
                    total[r] = exp_row(O, zi, top, e);
                    if (labels != nullptr) {
                        const size_t label = static_cast<size_t>(labels[i]);
                        mass[r] = mass_of_label;
                        match[r] = peak * (zi[label] - top) + base * row_sum(O, [&](size_t j, auto lanes) {
                                                                  return load(zi + j, lanes) - top;
                                                              });
                        const V scale = broadcast(weight[i] * (mass_of_label / total[r]));
                        const V lift = broadcast(weight[i] * base);
                        for_vectors(O, [&](size_t j, auto lanes) {
                            store(out + j, load(e + j) * scale - lift, lanes);
                        });
                        out[label] -= weight[i] * peak;
                    } else {
                        const Real* yi = y + i * O;
                        const auto q = [&](size_t j, auto lanes) {
                            return load(yi + j, lanes) * peak + base;
                        };
                        mass[r] = row_sum(O, q);
                        match[r] = row_sum(O, [&](size_t j, auto lanes) {
                            return q(j, lanes) * (load(zi + j, lanes) - top);
                        });
                        const V scale = broadcast(mass[r] / total[r]), factor = broadcast(weight[i]);
                        for_vectors(O, [&](size_t j, auto lanes) {
                            store(out + j, (load(e + j) * scale - q(j, lanes)) * factor, lanes);
                        });
                    }
                }
                // the logarithms of W rows at once
                for_vectors(rows, [&](size_t, auto lanes) {
                    store(value + i0, log(load(total)) * load(mass) - load(match), lanes);
                });
            }
        });
    }
};

// -sum q (1 - p)^gamma log p, p = softmax(z). p d/dp of a term is c = q (1 - p)^gamma (gamma p log p / (1 - p) - 1), and the
// gradient c - p sum(c).
struct focal {
    static constexpr int targets = kLabels | kValues, width = 1;

    struct Term {
        V p, value, slope;  // of q = 1
    };
    static FASTNN_INLINE Term term(V log_p, Real gamma) {
        const V p = exp(log_p), rest = -expm1(log_p);
        const V power = gamma > 0 ? exp(gamma * log(rest)) : broadcast(1);
        const V ratio = select(rest > Real(0), log_p / rest, broadcast(-1));
        return {p, -power * log_p, power * (gamma * p * ratio - 1)};
    }

    static void run(const double* parameters, size_t, size_t B, size_t O, const Real* z,
                    const int64_t* labels, const Real* y, const Real* weight, Real* value, Real* dz) {
        const Real gamma = static_cast<Real>(parameters[0]);
        share(B, 4.0 * static_cast<double>(O) + 20, 1, [&](size_t begin, size_t end) {
            Real* e = padded_row(O);
            for (size_t i = begin; i < end; ++i) {
                const Real* zi = z + i * O;
                Real* out = dz + i * O;
                const Real top = row_max(O, zi);
                const V log_total = log(broadcast(exp_row(O, zi, top, e))), factor = broadcast(weight[i]);
                const auto log_p = [&](size_t j, auto lanes) {
                    return (load(zi + j, lanes) - top) - log_total;
                };
                if (labels != nullptr) {
                    const size_t label = static_cast<size_t>(labels[i]);
                    const Term own = term(broadcast(zi[label] - top) - log_total, gamma);
                    value[i] = own.value[0];
                    for_vectors(O, [&](size_t j, auto lanes) {
                        store(out + j, -exp(log_p(j, lanes)) * own.slope * factor, lanes);
                    });
                    out[label] += own.slope[0] * weight[i];
                    continue;
                }
                const Real* yi = y + i * O;
                value[i] = row_sum(O, [&](size_t j, auto lanes) {
                    return load(yi + j, lanes) * term(log_p(j, lanes), gamma).value;
                });
                const V total = broadcast(row_sum(O, [&](size_t j, auto lanes) {
                    const V slope = load(yi + j, lanes) * term(log_p(j, lanes), gamma).slope;
                    store(out + j, slope, lanes);
                    return slope;
                }));
                for_vectors(O, [&](size_t j, auto lanes) {
                    store(out + j, (load(out + j, lanes) - exp(log_p(j, lanes)) * total) * factor, lanes);
                });
            }
        });
    }
};

// max(0, 1 + max over j != y of z_j - z_y)
struct hinge {
    static constexpr int targets = kLabels, width = 1;

    static void run(const double*, size_t, size_t B, size_t O, const Real* z, const int64_t* labels,
                    const Real*, const Real* weight, Real* value, Real* dz) {
        for (size_t i = 0; i < B; ++i, z += O, dz += O) {
            const size_t label = static_cast<size_t>(labels[i]);
            const Real own = z[label];
            for_vectors(O, [&](size_t j, auto lanes) { store(dz + j, V{}, lanes); });
            // The first j of the largest margin; a NaN counts as the largest, as in NumPy.
            size_t rival = label;
            Real worst = -kInfinity;
            for (size_t j = 0; j < O; ++j) {
                if (j == label) continue;
                const Real margin = z[j] - own + 1;
                if (!(margin <= worst)) {
                    worst = margin, rival = j;
                    if (margin != margin) break;
                }
            }
            value[i] = worst < 0 ? Real(0) : worst;
            if (worst > 0) dz[rival] = weight[i], dz[label] = -weight[i];
        }
    }
};

// Of T targets the means z[0 .. T-1] and the logarithms of the variances z[T .. 2 T-1]: the mean of
// (s + (m - y)^2 e^-s) / 2.
struct gaussian {
    static constexpr int targets = kValues, width = 2;

    static void run(const double*, size_t, size_t B, size_t O, const Real* z, const int64_t*, const Real* y,
                    const Real* weight, Real* value, Real* dz) {
        const size_t T = O / 2;
        const Real scale = Real(1.0 / static_cast<double>(T)), half = Real(0.5);
        for (size_t i = 0; i < B; ++i, z += O, y += T, dz += O) {
            const V factor = broadcast(weight[i] * scale);
            value[i] = scale * row_sum(T, [&](size_t j, auto lanes) {
                           const V s = load(z + T + j, lanes), r = load(z + j, lanes) - load(y + j, lanes);
                           const V precision = exp(-s), square = r * r * precision;
                           store(dz + j, r * precision * factor, lanes);
                           store(dz + T + j, half * (1 - square) * factor, lanes);
                           return half * (s + square);
                       });
        }
    }
};

// Of T targets the quantiles z[0 .. T-1] of the first level, then those of the next: the mean of their losses.
struct quantiles {
    static constexpr int targets = kValues, width = kEach;

    static void run(const double* levels, size_t count, size_t B, size_t O, const Real* z, const int64_t*,
                    const Real* y, const Real* weight, Real* value, Real* dz) {
        const size_t T = O / count;
        const Real scale = Real(1.0 / static_cast<double>(O));
        for (size_t i = 0; i < B; ++i, y += T) {
            const V factor = broadcast(weight[i] * scale);
            Real total = 0;
            for (size_t l = 0; l < count; ++l, z += T, dz += T) {
                const Real q = static_cast<Real>(levels[l]);
                total += row_sum(T, [&](size_t j, auto lanes) {
                    const V zj = load(z + j, lanes), yj = load(y + j, lanes);
                    store(dz + j, quantile::gradient(zj, yj, q) * factor, lanes);
                    return quantile::value(zj, yj, q);
                });
            }
            value[i] = scale * total;
        }
    }
};

}  // namespace losses

#define FASTNN_LOSSES(X) \
    X(mse)               \
    X(half_mse)          \
    X(mae)               \
    X(huber)             \
    X(log_cosh)          \
    X(quantile)          \
    X(expectile)         \
    X(poisson)           \
    X(gamma)             \
    X(tweedie)           \
    X(binary_cross_entropy) X(cross_entropy) X(binary_focal) X(focal) X(hinge) X(gaussian) X(quantiles)

using LossLoop = void (*)(const double* parameters, size_t count, size_t B, size_t O, const Real* z,
                          const int64_t* labels, const Real* y, const Real* weight, Real* value, Real* dz);
const LossLoop kLosses[] = {
#define FASTNN_X(name) losses::name::run,
    FASTNN_LOSSES(FASTNN_X)
#undef FASTNN_X
};
// A loss of one's own, point by point.
void own_loss(const Own& own, double parameter, size_t B, size_t O, const Real* z, const Real* y,
              const Real* weight, Real* value, Real* dz) {
    const size_t n = B * O;
    Real* values = O == 1 ? value : static_cast<Real*>(fastnn::scratch(fastnn::kRow, n * sizeof(Real)));
    alignas(64) Real in[2 * kOwnBlock], out[2 * kOwnBlock];
    for (size_t i = 0; i < n; i += kOwnBlock) {
        const size_t count = n - i < kOwnBlock ? n - i : kOwnBlock;
        copy(count, z + i, in), copy(count, y + i, in + kOwnBlock);
        clear_behind(count, in), clear_behind(count, in + kOwnBlock);
        own.formula(&parameter, in, out);
        copy(count, out, values + i), copy(count, out + kOwnBlock, dz + i);
    }
    if (O == 1) {
        for_vectors(B, [&](size_t i, auto lanes) {
            store(dz + i, load(dz + i, lanes) * load(weight + i, lanes), lanes);
        });
        return;
    }
    const Real scale = Real(1.0 / static_cast<double>(O));
    for (size_t i = 0; i < B; ++i, values += O, dz += O) {
        const V factor = broadcast(weight[i] * scale);
        value[i] = scale * row_sum(O, [&](size_t j, auto lanes) {
                       store(dz + j, load(dz + j, lanes) * factor, lanes);
                       return load(values + j, lanes);
                   });
    }
}

const char* const kLossNames[] = {
#define FASTNN_X(name) #name,
    FASTNN_LOSSES(FASTNN_X)
#undef FASTNN_X
};
const int kLossWidths[] = {
#define FASTNN_X(name) losses::name::width,
    FASTNN_LOSSES(FASTNN_X)
#undef FASTNN_X
};
const int kLossTargets[] = {
#define FASTNN_X(name) losses::name::targets,
    FASTNN_LOSSES(FASTNN_X)
#undef FASTNN_X
};

// Softmax --------------------------------------------------------------------------------------------------

}  // namespace
