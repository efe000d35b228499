// Batch and layer normalisation, and the layers that pick or scale by sign: maxout, prelu. The input's
// normalisation is gather.hpp's. Statistics over the batch are sums over the rows from first to last, a vector of columns at
// a time.
#pragma once

#include "dense.hpp"
#include "parallel.hpp"

namespace {

// f(j, lanes) for each vector of columns, shared out over threads.
template <class F>
FASTNN_INLINE void for_columns(size_t B, size_t O, double ns, F&& f) {
    share(O, ns * static_cast<double>(B), 64 / sizeof(Real), [&](size_t begin, size_t end) {
        for_vectors(end - begin, [&](size_t j, auto lanes) { f(begin + j, lanes); });
    });
}

// Sum over the rows of f(i): two chains, even and odd rows.
template <class F>
FASTNN_INLINE V rows_sum(size_t B, F&& f) {
    V even{}, odd{};
    size_t i = 0;
    for (; i + 2 <= B; i += 2) even += f(i), odd += f(i + 1);
    if (i < B) even += f(i);
    return even + odd;
}

void batch_norm_forward(size_t B, size_t O, size_t ld, const Real* x, const Real* gamma, const Real* beta,
                        double momentum, double epsilon, Real* running_mean, Real* running_var, Real* mean,
                        Real* inv_std, Real* a) {
    const Real rows = static_cast<Real>(B), unbias = static_cast<Real>(B > 1 ? B / (B - 1.0) : 1.0);
    const Real keep_ = static_cast<Real>(momentum), take = static_cast<Real>(1.0 - momentum);
    for_columns(B, O, 0.6, [&](size_t j, auto lanes) {
        const V mu = rows_sum(B, [&](size_t i) { return load(x + i * ld + j, lanes); }) / rows;
        const V var = rows_sum(B,
                               [&](size_t i) {
                                   const V d = load(x + i * ld + j, lanes) - mu;
                                   return d * d;
                               }) /
                      rows;
        const V scale = 1 / sqrt(var + static_cast<Real>(epsilon));
        const V g = load(gamma + j, lanes), b = load(beta + j, lanes);
        store(mean + j, mu, lanes);
        store(inv_std + j, scale, lanes);
        if (B > 1) {
            store(running_mean + j, keep_ * load(running_mean + j, lanes) + take * mu, lanes);
            store(running_var + j, keep_ * load(running_var + j, lanes) + take * (var * unbias), lanes);
        }
        for (size_t i = 0; i < B; ++i)
            store(a + i * ld + j, g * ((load(x + i * ld + j, lanes) - mu) * scale) + b, lanes);
    });
}

void batch_norm_predict(size_t B, size_t O, const Real* x, const Real* gamma, const Real* beta,
                        double epsilon, const Real* running_mean, const Real* running_var, Real* a) {
    for_columns(B, O, 0.3, [&](size_t j, auto lanes) {
        const V mu = load(running_mean + j, lanes);
        const V scale = 1 / sqrt(load(running_var + j, lanes) + static_cast<Real>(epsilon));
        const V g = load(gamma + j, lanes), b = load(beta + j, lanes);
        for (size_t i = 0; i < B; ++i)
            store(a + i * O + j, g * ((load(x + i * O + j, lanes) - mu) * scale) + b, lanes);
    });
}

void batch_norm_backward(size_t B, size_t O, size_t ld, const Real* x, const Real* gamma, const Real* mean,
                         const Real* inv_std, const Real* da, Real* dx, Real* dgamma, Real* dbeta) {
    const Real rows = static_cast<Real>(B);
    for_columns(B, O, 0.8, [&](size_t j, auto lanes) {
        const V mu = load(mean + j, lanes), scale = load(inv_std + j, lanes);
        const auto x_hat = [&](size_t i) { return (load(x + i * ld + j, lanes) - mu) * scale; };
        const V dg = rows_sum(B, [&](size_t i) { return load(da + i * ld + j, lanes) * x_hat(i); });
        const V db = rows_sum(B, [&](size_t i) { return load(da + i * ld + j, lanes); });
        const V factor = load(gamma + j, lanes) * scale;
        store(dgamma + j, dg, lanes);
        store(dbeta + j, db, lanes);
        for (size_t i = 0; i < B; ++i)
            store(dx + i * ld + j, factor * (load(da + i * ld + j, lanes) - (db + x_hat(i) * dg) / rows),
                  lanes);
    });
}

void layer_norm_forward(size_t B, size_t O, const Real* x, const Real* gamma, const Real* beta,
                        double epsilon, Real* mean, Real* inv_std, Real* a) {
    const Real outputs = static_cast<Real>(O);
    share(B, 0.5 * static_cast<double>(O), 1, [&](size_t begin, size_t end) {
        for (size_t i = begin; i < end; ++i) {
            const Real* xi = x + i * O;
            Real* ai = a + i * O;
            const Real mu = row_sum(O, [&](size_t j, auto lanes) { return load(xi + j, lanes); }) / outputs;
            const Real var = row_sum(O,
                                     [&](size_t j, auto lanes) {
                                         const V d = load(xi + j, lanes) - mu;
                                         return d * d;
                                     }) /
                             outputs;
            const V scale = 1 / sqrt(broadcast(var + static_cast<Real>(epsilon)));
            mean[i] = mu, inv_std[i] = scale[0];
            for_vectors(O, [&](size_t j, auto lanes) {
                store(ai + j,
                      load(gamma + j, lanes) * ((load(xi + j, lanes) - mu) * scale) + load(beta + j, lanes),
                      lanes);
            });
        }
    });
}

void layer_norm_backward_weights(size_t B, size_t O, const Real* x, const Real* mean, const Real* inv_std,
                                 const Real* da, Real* dgamma, Real* dbeta) {
    for_columns(B, O, 0.4, [&](size_t j, auto lanes) {
        store(dgamma + j,
              rows_sum(B,
                       [&](size_t i) {
                           return load(da + i * O + j, lanes) *
                                  ((load(x + i * O + j, lanes) - mean[i]) * inv_std[i]);
                       }),
              lanes);
        store(dbeta + j, rows_sum(B, [&](size_t i) { return load(da + i * O + j, lanes); }), lanes);
    });
}

void layer_norm_backward(size_t B, size_t O, const Real* x, const Real* gamma, const Real* mean,
                         const Real* inv_std, const Real* da, Real* dx) {
    const Real outputs = static_cast<Real>(O);
    share(B, 0.6 * static_cast<double>(O), 1, [&](size_t begin, size_t end) {
        for (size_t i = begin; i < end; ++i) {
            const Real *xi = x + i * O, *di = da + i * O;
            Real* out = dx + i * O;
            const Real mu = mean[i], scale = inv_std[i];
            const auto x_hat = [&](size_t j, auto lanes) { return (load(xi + j, lanes) - mu) * scale; };
            const auto dx_hat = [&](size_t j, auto lanes) {
                return load(di + j, lanes) * load(gamma + j, lanes);
            };
            const Real average = row_sum(O, dx_hat) / outputs;
            const Real slope =
                row_sum(O, [&](size_t j, auto lanes) { return dx_hat(j, lanes) * x_hat(j, lanes); }) /
                outputs;
            for_vectors(O, [&](size_t j, auto lanes) {
                store(out + j, scale * (dx_hat(j, lanes) - average - x_hat(j, lanes) * slope), lanes);
            });
        }
    });
}

// Maxout (Goodfellow et al. 2013): a[o] = max of `pieces` neighbours. The pieces of an output are neighbours
// in memory, so a lane would have to gather: scalars, with the comparison compiled to a conditional move.
void maxout_forward(size_t B, size_t O, size_t pieces, const Real* z, Real* a, int32_t* winner) {
    share(B * O, 0.5 * static_cast<double>(pieces), kGrain, [&](size_t begin, size_t end) {
        for (size_t o = begin; o < end; ++o) {
            const Real* zo = z + o * pieces;
            Real best = zo[0];
            int32_t first = 0;
            for (size_t k = 1; k < pieces; ++k) {
                // the first of the largest; a NaN counts as the largest, as in NumPy
                const bool better = !(zo[k] <= best) && best == best;
                best = better ? zo[k] : best;
                first = better ? static_cast<int32_t>(k) : first;
            }
            a[o] = best, winner[o] = first;
        }
    });
}

void maxout_backward(size_t B, size_t O, size_t pieces, const int32_t* winner, const Real* da, Real* dz) {
    share(B * O, 0.5 * static_cast<double>(pieces), kGrain, [&](size_t begin, size_t end) {
        for (size_t o = begin; o < end; ++o)
            for (size_t k = 0; k < pieces; ++k)
                dz[o * pieces + k] = winner[o] == static_cast<int32_t>(k) ? da[o] : Real(0);
    });
}

void prelu_forward(size_t B, size_t O, const Real* z, const Real* slope, Real* a) {
    share(B, 0.2 * static_cast<double>(O), 1, [&](size_t begin, size_t end) {
        for (size_t i = begin; i < end; ++i)
            for_vectors(O, [&](size_t j, auto lanes) {
                const V v = load(z + i * O + j, lanes);
                store(a + i * O + j, select(v > Real(0), v, load(slope + j, lanes) * v), lanes);
            });
    });
}

void prelu_backward(size_t B, size_t O, const Real* z, const Real* slope, const Real* da, Real* dz) {
    share(B, 0.3 * static_cast<double>(O), 1, [&](size_t begin, size_t end) {
        for (size_t i = begin; i < end; ++i)
            for_vectors(O, [&](size_t j, auto lanes) {
                const V v = load(z + i * O + j, lanes), factor = load(slope + j, lanes);
                store(dz + i * O + j, load(da + i * O + j, lanes) * select(v > Real(0), broadcast(1), factor),
                      lanes);
            });
    });
}

void prelu_backward_slope(size_t B, size_t O, const Real* z, const Real* da, Real* dslope) {
    for_columns(B, O, 0.3, [&](size_t j, auto lanes) {
        V total{};
        for (size_t i = 0; i < B; ++i)
            total += load(da + i * O + j, lanes) * min(V{}, load(z + i * O + j, lanes));
        store(dslope + j, total, lanes);
    });
}

}  // namespace
