// See definitions.hpp. Bounds follow from the number of roundings; where they hold a constant beside it, that is for the
// operation's own function or root.
#include "definitions.hpp"

#include <cmath>

namespace parity {
namespace {

using std::fabs;

// dense ----------------------------------------------------------------------------------------------------------

void dense_forward(Sample& s) {
    const Values &x = s["x"], &w = s["w"], &b = s["b"], &made = s["z"];
    Wanted &z = s.wanted["z"], &a = s.wanted["a"];
    for (size_t n = 0; n < s.N(); ++n)
        for (size_t o = 0; o < s.O; ++o) {
            const size_t i = n * s.O + o;
            Sum sum;
            sum.add(b[o]);
            for (size_t k = 0; k < s.I; ++k) sum.add(x[n * s.I + k] * w[k * s.O + o]);
            z.set(i, sum.value, (s.I + 2) * s.eps * sum.size);
            const Ref value = s.activation->value(made[i], s.alpha);
            a.set(i, value, 6 * s.eps * (fabs(value) + std::fmax(Ref(1), fabs(made[i]))));
        }
}

void dense_backward(Sample& s) {
    const Values &x = s["x"], &w = s["w"], &dz = s["dz"], &saved = s["saved"];
    Wanted &dx = s.wanted["dx"], &dw = s.wanted["dw"], &db = s.wanted["db"];
    for (size_t n = 0; n < s.N(); ++n)
        for (size_t k = 0; k < s.I; ++k) {
            Sum sum;
            for (size_t o = 0; o < s.O; ++o) sum.add(dz[n * s.O + o] * w[k * s.O + o]);
            const Ref slope = s.activation->derivative(saved[n * s.I + k], s.alpha);
            dx.set(n * s.I + k, sum.value * slope, (s.O + 10) * s.eps * sum.size * (fabs(slope) + 4));
        }
    for (size_t o = 0; o < s.O; ++o) {
        Sum column;
        for (size_t n = 0; n < s.N(); ++n) column.add(dz[n * s.O + o]);
        db.set(o, column.value, (s.N() + 2) * s.eps * column.size);
        for (size_t k = 0; k < s.I; ++k) {
            Sum sum;
            for (size_t n = 0; n < s.N(); ++n) sum.add(x[n * s.I + k] * dz[n * s.O + o]);
            dw.set(k * s.O + o, sum.value, (s.N() + 2) * s.eps * sum.size);
        }
    }
}

// Element by element ---------------------------------------------------------------------------------------------

void activation_forward(Sample& s) {
    const Values& x = s["x"];
    for (size_t i = 0; i < x.size(); ++i) {
        const Ref value = s.activation->value(x[i], s.alpha);
        s.wanted["a"].set(i, value, 6 * s.eps * (fabs(value) + 4));
    }
}

void activation_backward(Sample& s) {
    const Values &saved = s["saved"], &dz = s["dz"];
    for (size_t i = 0; i < dz.size(); ++i) {
        const Ref slope = s.activation->derivative(saved[i], s.alpha);
        s.wanted["dx"].set(i, dz[i] * slope, 10 * s.eps * fabs(dz[i]) * (fabs(slope) + 4));
    }
}

void drop(Sample& s, const char* in, const char* out) {
    const Values& x = s[in];
    const Ref rate = s.settings["rate"], threshold = std::nearbyint(rate * 4294967296.0L);
    for (size_t i = 0; i < x.size(); ++i) {
        const bool keep = philox_bits(i, s.key) >= threshold;
        s.wanted[out].set(i, keep ? x[i] / (1 - rate) : 0, 2 * s.eps * fabs(x[i]));
    }
}
void dropout_forward(Sample& s) { drop(s, "x", "a"); }
void dropout_backward(Sample& s) { drop(s, "da", "dx"); }

Ref rrelu_slope(Sample& s, size_t i) {
    const Ref lower = s.settings["lower"], upper = s.settings["upper"];
    return s["x"][i] > 0 ? 1 : lower + (upper - lower) * (philox_bits(i, s.key) / 4294967296.0L);
}
void rrelu_forward(Sample& s) {
    const Values& x = s["x"];
    for (size_t i = 0; i < x.size(); ++i)
        s.wanted["a"].set(i, rrelu_slope(s, i) * x[i], 4 * s.eps * fabs(x[i]));
}
void rrelu_backward(Sample& s) {
    const Values& da = s["da"];
    for (size_t i = 0; i < da.size(); ++i)
        s.wanted["dx"].set(i, rrelu_slope(s, i) * da[i], 4 * s.eps * fabs(da[i]));
}
void rrelu_predict(Sample& s) {
    const Values& x = s["x"];
    const Ref slope = (s.settings["lower"] + s.settings["upper"]) / 2;
    for (size_t i = 0; i < x.size(); ++i)
        s.wanted["a"].set(i, (x[i] > 0 ? 1 : slope) * x[i], 4 * s.eps * fabs(x[i]));
}

void prelu_forward(Sample& s) {
    const Values &x = s["x"], &slope = s["slope"];
    for (size_t i = 0; i < x.size(); ++i)
        s.wanted["a"].set(i, (x[i] > 0 ? 1 : slope[i % s.O]) * x[i], s.eps * fabs(x[i]));
}
void prelu_backward(Sample& s) {
    const Values &x = s["x"], &slope = s["slope"], &da = s["da"];
    for (size_t i = 0; i < x.size(); ++i)
        s.wanted["dx"].set(i, (x[i] > 0 ? 1 : slope[i % s.O]) * da[i], s.eps * fabs(da[i]));
    for (size_t o = 0; o < s.O; ++o) {
        Sum sum;
        for (size_t n = 0; n < s.N(); ++n) sum.add(da[n * s.O + o] * std::fmin(x[n * s.O + o], Ref(0)));
        s.wanted["dslope"].set(o, sum.value, (s.N() + 2) * s.eps * sum.size);
    }
}

void scale_forward(Sample& s) {
    const Values &x = s["x"], &factor = s["factor"];
    for (size_t i = 0; i < x.size(); ++i) {
        const Ref value = factor[i % s.O] * x[i];
        s.wanted["a"].set(i, value, s.eps * fabs(value));
    }
}
void scale_backward(Sample& s) {
    const Values &x = s["x"], &factor = s["factor"], &da = s["da"];
    for (size_t i = 0; i < x.size(); ++i) {
        const Ref value = factor[i % s.O] * da[i];
        s.wanted["dx"].set(i, value, s.eps * fabs(value));
    }
    for (size_t o = 0; o < s.O; ++o) {
        Sum sum;
        for (size_t n = 0; n < s.N(); ++n) sum.add(da[n * s.O + o] * x[n * s.O + o]);
        s.wanted["dfactor"].set(o, sum.value, (s.N() + 2) * s.eps * sum.size);
    }
}

// Skips ----------------------------------------------------------------------------------------------------------

void sum_of(Sample& s, const char* x, const char* y, const char* out) {
    for (size_t i = 0; i < s[x].size(); ++i) {
        const Ref value = s[x][i] + s[y][i];
        s.wanted[out].set(i, value, s.eps * fabs(value));
    }
}
void copy_of(Sample& s, const char* x, const char* out) {
    for (size_t i = 0; i < s[x].size(); ++i) s.wanted[out].set(i, s[x][i], 0);
}
void fork_backward(Sample& s) { sum_of(s, "da", "dother", "dx"); }
void turn_forward(Sample& s) { copy_of(s, "other", "a"); }
void turn_backward(Sample& s) { copy_of(s, "dother", "dx"); }
void join_forward(Sample& s) { sum_of(s, "x", "other", "a"); }
void join_backward(Sample& s) { copy_of(s, "da", "dx"); }

// Over the channels of a row -------------------------------------------------------------------------------------

void softmax_forward(Sample& s) {
    const Values& x = s["x"];
    for (size_t n = 0; n < s.N(); ++n) {
        const Ref* const row = x.data() + n * s.O;
        Ref total = 0;
        for (size_t o = 0; o < s.O; ++o) total += std::exp(row[o]);
        for (size_t o = 0; o < s.O; ++o) {
            const Ref want = std::exp(row[o]) / total;
            s.wanted["a"].set(n * s.O + o, want, (s.O + 16) * s.eps * want);
        }
    }
}

void softmax_backward(Sample& s) {
    for (size_t n = 0; n < s.N(); ++n) {
        const Ref *const a = s["a"].data() + n * s.O, *const da = s["da"].data() + n * s.O;
        Sum mean;
        for (size_t o = 0; o < s.O; ++o) mean.add(a[o] * da[o]);
        for (size_t o = 0; o < s.O; ++o)
            s.wanted["dx"].set(n * s.O + o, a[o] * (da[o] - mean.value),
                               (s.O + 8) * s.eps * a[o] * (fabs(da[o]) + mean.size));
    }
}

void ordered_forward(Sample& s) {
    const size_t targets = static_cast<size_t>(s.settings["targets"]);
    for (size_t n = 0; n < s.N(); ++n) {
        const Ref* const x = s["x"].data() + n * s.O;
        std::vector<Sum> sums(targets);
        for (size_t o = 0; o < s.O; ++o) {
            Sum& sum = sums[o % targets];
            sum.add(o < targets ? x[o] : std::fmax(x[o], Ref(0)) + ref_log(1 + std::exp(-std::fabs(x[o]))));
            s.wanted["a"].set(n * s.O + o, sum.value, (s.O + 16) * s.eps * (sum.size + 1));
        }
    }
}
void ordered_backward(Sample& s) {
    const size_t targets = static_cast<size_t>(s.settings["targets"]);
    for (size_t n = 0; n < s.N(); ++n) {
        const Ref *const x = s["x"].data() + n * s.O, *const da = s["da"].data() + n * s.O;
        std::vector<Sum> sums(targets);
        for (size_t o = s.O; o-- > 0;) {
            Sum& sum = sums[o % targets];
            sum.add(da[o]);
            const Ref slope = o < targets ? 1 : 1 / (1 + std::exp(-x[o]));
            s.wanted["dx"].set(n * s.O + o, sum.value * slope, (s.O + 16) * s.eps * sum.size);
        }
    }
}

void maxout_forward(Sample& s) {
    const Values& x = s["x"];
    const size_t pieces = s.I / s.O;
    for (size_t i = 0; i < s.N() * s.O; ++i) {
        size_t first = 0;
        for (size_t k = 1; k < pieces; ++k)
            if (x[i * pieces + k] > x[i * pieces + first]) first = k;
        s.wanted["a"].set(i, x[i * pieces + first], 0);
        s.wanted["winner"].set(i, static_cast<Ref>(first), 0);
    }
}

void maxout_backward(Sample& s) {
    const Values &winner = s["winner"], &da = s["da"];
    const size_t pieces = s.I / s.O;
    for (size_t i = 0; i < s.N() * s.O; ++i)
        for (size_t k = 0; k < pieces; ++k)
            s.wanted["dx"].set(i * pieces + k, winner[i] == static_cast<Ref>(k) ? da[i] : 0, 0);
}

// Normalisation: groups of `count` elements. Element e of group g is element at(g, e) of x; its channel, which gamma and
// beta belong to, is g of batch_norm and e of layer_norm.
struct Groups {
    bool batch;
    size_t O, groups, count;

    Groups(const Sample& s, bool batch_norm)
        : batch(batch_norm), O(s.O), groups(batch ? s.O : s.N()), count(batch ? s.N() : s.O) {}
    size_t at(size_t g, size_t e) const { return batch ? e * O + g : g * O + e; }
    size_t channel(size_t g, size_t e) const { return batch ? g : e; }
    Ref tolerance(const Sample& s) const { return (2 * static_cast<Ref>(s.N() * O) + 40) * s.eps; }
};

struct Moments {
    Ref mean, variance;
};
Moments moments_of(const Values& x, const Groups& all, size_t g) {
    Moments m{0, 0};
    for (size_t e = 0; e < all.count; ++e) m.mean += x[all.at(g, e)] / all.count;
    for (size_t e = 0; e < all.count; ++e)
        m.variance += (x[all.at(g, e)] - m.mean) * (x[all.at(g, e)] - m.mean) / all.count;
    return m;
}

void norm_forward(Sample& s, const Groups& all) {
    const Values &x = s["x"], &gamma = s["gamma"], &beta = s["beta"];
    const Ref tolerance = all.tolerance(s);
    for (size_t g = 0; g < all.groups; ++g) {
        const Moments m = moments_of(x, all, g);
        const Ref scale = 1 / std::sqrt(m.variance + s.settings["epsilon"]);
        s.wanted["mean"].set(g, m.mean, tolerance);
        s.wanted["inv_std"].set(g, scale, tolerance * scale * (1 + scale * scale));
        for (size_t e = 0; e < all.count; ++e) {
            const size_t i = all.at(g, e), o = all.channel(g, e);
            s.wanted["a"].set(i, gamma[o] * (x[i] - m.mean) * scale + beta[o],
                              tolerance * 8 * (1 + scale * scale));
        }
    }
}

void norm_backward(Sample& s, const Groups& all) {
    const Values &x = s["x"], &gamma = s["gamma"], &da = s["da"], &mean = s["mean"], &inv_std = s["inv_std"];
    const Ref tolerance = all.tolerance(s);
    Values dgamma(s.O, 0), dbeta(s.O, 0);
    for (size_t g = 0; g < all.groups; ++g) {
        const Ref scale = inv_std[g];
        Ref sum = 0, product = 0;
        for (size_t e = 0; e < all.count; ++e) {
            const size_t i = all.at(g, e), o = all.channel(g, e);
            const Ref x_hat = (x[i] - mean[g]) * scale, dx_hat = da[i] * gamma[o];
            sum += dx_hat, product += dx_hat * x_hat;
            dgamma[o] += da[i] * x_hat, dbeta[o] += da[i];
        }
        for (size_t e = 0; e < all.count; ++e) {
            const size_t i = all.at(g, e), o = all.channel(g, e);
            const Ref x_hat = (x[i] - mean[g]) * scale;
            s.wanted["dx"].set(i, scale * (da[i] * gamma[o] - (sum + x_hat * product) / all.count),
                               tolerance * 8 * scale * (1 + scale * scale) * (1 + scale));
        }
    }
    for (size_t o = 0; o < s.O; ++o) {
        s.wanted["dgamma"].set(o, dgamma[o], tolerance * 100 * s.N());
        s.wanted["dbeta"].set(o, dbeta[o], tolerance * s.N());
    }
}

void layer_norm_forward(Sample& s) { norm_forward(s, Groups(s, false)); }
void layer_norm_backward(Sample& s) { norm_backward(s, Groups(s, false)); }
void batch_norm_backward(Sample& s) { norm_backward(s, Groups(s, true)); }

void batch_norm_forward(Sample& s) {
    const Groups all(s, true);
    norm_forward(s, all);
    const Values &mean = s["running_mean"], &variance = s["running_var"];
    const Ref keep = s.settings["momentum"], N = s.N();
    for (size_t o = 0; o < s.O; ++o) {
        const Moments m = moments_of(s["x"], all, o);
        const bool kept = s.N() == 1;  // one row has no variance
        s.wanted["running_mean"].set(o, kept ? mean[o] : keep * mean[o] + (1 - keep) * m.mean,
                                     all.tolerance(s));
        s.wanted["running_var"].set(
            o, kept ? variance[o] : keep * variance[o] + (1 - keep) * (m.variance * N / (N - 1)),
            2 * all.tolerance(s));
    }
}

void batch_norm_predict(Sample& s) {
    const Values &x = s["x"], &gamma = s["gamma"], &beta = s["beta"];
    const Values &mean = s["running_mean"], &variance = s["running_var"];
    for (size_t i = 0; i < x.size(); ++i) {
        const size_t o = i % s.O;
        const Ref scale = 1 / std::sqrt(variance[o] + s.settings["epsilon"]);
        s.wanted["a"].set(i, gamma[o] * (x[i] - mean[o]) * scale + beta[o], 30 * s.eps);
    }
}

void rms_norm_forward(Sample& s) {
    const Values &x = s["x"], &gamma = s["gamma"];
    const Groups all(s, false);
    const Ref tolerance = all.tolerance(s);
    for (size_t g = 0; g < all.groups; ++g) {
        Ref square = 0;
        for (size_t e = 0; e < all.count; ++e) square += x[all.at(g, e)] * x[all.at(g, e)] / all.count;
        const Ref scale = 1 / std::sqrt(square + s.settings["epsilon"]);
        s.wanted["inv_rms"].set(g, scale, tolerance * scale);
        for (size_t e = 0; e < all.count; ++e) {
            const size_t i = all.at(g, e);
            const Ref a = gamma[all.channel(g, e)] * x[i] * scale;
            s.wanted["a"].set(i, a, tolerance * std::fabs(a));
        }
    }
}

void rms_norm_backward(Sample& s) {
    const Values &x = s["x"], &gamma = s["gamma"], &da = s["da"], &inv_rms = s["inv_rms"];
    const Groups all(s, false);
    const Ref tolerance = all.tolerance(s);
    Values dgamma(s.O, 0), reach(s.O, 0);
    for (size_t g = 0; g < all.groups; ++g) {
        const Ref scale = inv_rms[g];
        Ref product = 0, size = 0;
        for (size_t e = 0; e < all.count; ++e) {
            const size_t i = all.at(g, e), o = all.channel(g, e);
            const Ref x_hat = x[i] * scale, dx_hat = da[i] * gamma[o];
            product += dx_hat * x_hat / all.count, size += std::fabs(dx_hat * x_hat) / all.count;
            dgamma[o] += da[i] * x_hat, reach[o] += std::fabs(da[i] * x_hat);
        }
        for (size_t e = 0; e < all.count; ++e) {
            const size_t i = all.at(g, e), o = all.channel(g, e);
            const Ref x_hat = x[i] * scale, dx_hat = da[i] * gamma[o];
            s.wanted["dx"].set(i, scale * (dx_hat - x_hat * product),
                               tolerance * std::fabs(scale) * (std::fabs(dx_hat) + std::fabs(x_hat) * size));
        }
    }
    for (size_t o = 0; o < s.O; ++o) s.wanted["dgamma"].set(o, dgamma[o], tolerance * reach[o]);
}

const std::map<std::string, Definition> kDefinitions = {
    {"dense", {.spans = {{"saved", {-1.5, 1.5}}}, .forward = dense_forward, .backward = dense_backward}},
    {"activation",
     {.spans = {{"x", {-4, 4}}, {"saved", {-1.5, 1.5}}},
      .forward = activation_forward,
      .backward = activation_backward}},
    {"softmax", {.spans = {{"x", {-4, 4}}}, .forward = softmax_forward, .backward = softmax_backward}},
    {"maxout", {.spans = {{"x", {-4, 4}}}, .forward = maxout_forward, .backward = maxout_backward}},
    {"prelu",
     {.spans = {{"x", {-4, 4}}, {"slope", {0, 0.5}}}, .forward = prelu_forward, .backward = prelu_backward}},
    {"rrelu",
     {.spans = {{"x", {-4, 4}}},
      .settings = {{"lower", 0.125}, {"upper", 0.375}},
      .forward = rrelu_forward,
      .backward = rrelu_backward,
      .predict = rrelu_predict}},
    {"dropout",
     {.spans = {{"x", {-4, 4}}},
      .settings = {{"rate", 0.3}},
      .forward = dropout_forward,
      .backward = dropout_backward}},
    {"batch_norm",
     {.spans = {{"gamma", {0.5, 2}}, {"running_var", {0.5, 2}}},
      .settings = {{"momentum", 0.9}, {"epsilon", 0.05}},
      .forward = batch_norm_forward,
      .backward = batch_norm_backward,
      .predict = batch_norm_predict}},
    {"layer_norm",
     {.spans = {{"gamma", {0.5, 2}}},
      .settings = {{"epsilon", 0.05}},
      .forward = layer_norm_forward,
      .backward = layer_norm_backward}},
    {"rms_norm",
     {.spans = {{"gamma", {0.5, 2}}},
      .settings = {{"epsilon", 0.05}},
      .forward = rms_norm_forward,
      .backward = rms_norm_backward}},
    {"scale", {.forward = scale_forward, .backward = scale_backward}},
    {"ordered",
     {.spans = {{"x", {-4, 4}}},
      .settings = {{"targets", 3}},
      .forward = ordered_forward,
      .backward = ordered_backward}},
    {"fork", {.backward = fork_backward}},
    {"turn", {.forward = turn_forward, .backward = turn_backward}},
    {"join", {.forward = join_forward, .backward = join_backward}},
};

}  // namespace

const Definition* definition_named(const std::string& operation) {
    for (const auto* const all : {&kDefinitions, &of_sequences(), &windowed_definitions()})
        if (const auto found = all->find(operation); found != all->end()) return &found->second;
    return nullptr;
}

}  // namespace parity
