// Definitions of what moves windows over images, pads or enlarges them: see definitions.hpp.
#include <cmath>

#include "definitions.hpp"

namespace parity {
namespace {

using std::fabs;
using Values = std::vector<Ref>;

// f(the sample and its window as a row of outputs, the cell of the image, the place in the kernel) of each cell of an image
// that a window reads.
template <class F>
void each_cell(Sample& s, F&& f) {
    const auto at = [&](const char* name, long otherwise) {
        const auto found = s.settings.find(name);
        return found == s.settings.end() ? otherwise : static_cast<long>(found->second);
    };
    const long H = at("height", 1), V = at("width", 1), KH = at("kernel_height", 1),
               KV = at("kernel_width", 1);
    for (size_t n = 0; n < s.B; ++n)
        for (long y = 0; y < at("out_height", 1); ++y)
            for (long x = 0; x < at("out_width", 1); ++x)
                for (long k = 0; k < KH * KV; ++k) {
                    const long h =
                        y * at("stride_height", 1) + k / KV * at("dilation_height", 1) - at("top", 0);
                    const long v =
                        x * at("stride_width", 1) + k % KV * at("dilation_width", 1) - at("left", 0);
                    if (h < 0 || v < 0 || h >= H || v >= V) continue;
                    const size_t row = n * s.P + static_cast<size_t>(y * at("out_width", 1) + x);
                    f(row, n * s.F / s.I + static_cast<size_t>(h * V + v), static_cast<size_t>(k));
                }
}

void set_sums(Sample& s, const char* name, const std::vector<Sum>& sums, Ref terms) {
    for (size_t i = 0; i < sums.size(); ++i)
        s.wanted[name].set(i, sums[i].value, (terms + 4) * s.eps * sums[i].size);
}

// f(group's input channel, output channel, its weight's place) of each pair of channels that a convolution joins
template <class F>
void each_weight(Sample& s, size_t k, F&& f) {
    const size_t groups = static_cast<size_t>(s.settings["groups"]), J = s.I / groups, OG = s.O / groups;
    for (size_t o = 0; o < s.O; ++o)
        for (size_t j = 0; j < J; ++j) f(o / OG * J + j, o, (k * J + j) * s.O + o);
}

void conv_forward(Sample& s) {
    const Values &x = s["x"], &w = s["w"], &b = s["b"], &made = s["z"];
    std::vector<Sum> z(s.N() * s.O);
    for (size_t i = 0; i < z.size(); ++i) z[i].add(b[i % s.O]);
    each_cell(s, [&](size_t row, size_t cell, size_t k) {
        each_weight(s, k,
                    [&](size_t c, size_t o, size_t at) { z[row * s.O + o].add(x[cell * s.I + c] * w[at]); });
    });
    set_sums(s, "z", z, static_cast<Ref>(w.size() / s.O));
    for (size_t i = 0; i < z.size(); ++i) {
        const Ref value = s.activation->value(made[i], s.alpha);
        s.wanted["a"].set(i, value, 6 * s.eps * (fabs(value) + std::fmax(Ref(1), fabs(made[i]))));
    }
}

void conv_backward(Sample& s) {
    const Values &x = s["x"], &w = s["w"], &dz = s["dz"], &saved = s["saved"];
    std::vector<Sum> dx(x.size()), dw(w.size()), db(s.O);
    each_cell(s, [&](size_t row, size_t cell, size_t k) {
        each_weight(s, k, [&](size_t c, size_t o, size_t at) {
            dx[cell * s.I + c].add(dz[row * s.O + o] * w[at]);
            dw[at].add(dz[row * s.O + o] * x[cell * s.I + c]);
        });
    });
    for (size_t i = 0; i < dz.size(); ++i) db[i % s.O].add(dz[i]);
    for (size_t i = 0; i < dx.size(); ++i) {
        const Ref slope = s.activation->derivative(saved[i], s.alpha), terms = w.size() / s.I + 10;
        s.wanted["dx"].set(i, dx[i].value * slope, terms * s.eps * dx[i].size * (fabs(slope) + 4));
    }
    set_sums(s, "dw", dw, static_cast<Ref>(s.N()));
    set_sums(s, "db", db, static_cast<Ref>(s.N()));
}

void max_pool_forward(Sample& s) {
    const Values& x = s["x"];
    std::vector<long> winner(s.N() * s.O, -1);
    Values best(s.N() * s.O, 0);
    each_cell(s, [&](size_t row, size_t cell, size_t k) {
        for (size_t o = 0; o < s.O; ++o) {
            const size_t i = row * s.O + o;
            if (winner[i] >= 0 && x[cell * s.O + o] <= best[i]) continue;
            winner[i] = static_cast<long>(k), best[i] = x[cell * s.O + o];
        }
    });
    for (size_t i = 0; i < best.size(); ++i) {
        s.wanted["a"].set(i, best[i], 0);
        s.wanted["winner"].set(i, static_cast<Ref>(winner[i]), 0);
    }
}
void max_pool_backward(Sample& s) {
    const Values &winner = s["winner"], &da = s["da"];
    std::vector<Sum> dx(s.B * s.F);
    each_cell(s, [&](size_t row, size_t cell, size_t k) {
        for (size_t o = 0; o < s.O; ++o)
            if (winner[row * s.O + o] == static_cast<Ref>(k)) dx[cell * s.O + o].add(da[row * s.O + o]);
    });
    set_sums(s, "dx", dx, s.settings["kernel_height"] * s.settings["kernel_width"]);
}

std::vector<size_t> counts(Sample& s) {
    std::vector<size_t> counts(s.N(), 0);
    each_cell(s, [&](size_t row, size_t, size_t) { ++counts[row]; });
    return counts;
}
void avg_pool_forward(Sample& s) {
    const Values& x = s["x"];
    const auto count = counts(s);
    std::vector<Sum> a(s.N() * s.O);
    each_cell(s, [&](size_t row, size_t cell, size_t) {
        for (size_t o = 0; o < s.O; ++o) a[row * s.O + o].add(x[cell * s.O + o] / count[row]);
    });
    set_sums(s, "a", a, s.settings["kernel_height"] * s.settings["kernel_width"]);
}
void avg_pool_backward(Sample& s) {
    const Values& da = s["da"];
    const auto count = counts(s);
    std::vector<Sum> dx(s.B * s.F);
    each_cell(s, [&](size_t row, size_t cell, size_t) {
        for (size_t o = 0; o < s.O; ++o) dx[cell * s.O + o].add(da[row * s.O + o] / count[row]);
    });
    set_sums(s, "dx", dx, s.settings["kernel_height"] * s.settings["kernel_width"]);
}

// f(a place in what comes in, one in what goes out) of each cell that is copied
template <class F>
void each_copy(Sample& s, F&& f) {
    const bool frame = s.settings.count("top") > 0;
    const auto at = [&](const char* name) { return static_cast<size_t>(s.settings[name]); };
    const size_t H = at("height"), V = at("width"), top = frame ? at("top") : 0,
                 left = frame ? at("left") : 0;
    const size_t high = frame ? 1 : at("factor_height"), wide = frame ? 1 : at("factor_width");
    const size_t row = frame ? at("out_width") : V * wide;
    for (size_t n = 0; n < s.B; ++n)
        for (size_t y = 0; y < H * high; ++y)
            for (size_t x = 0; x < V * wide; ++x)
                for (size_t o = 0; o < s.O; ++o)
                    f(((n * H + y / high) * V + x / wide) * s.O + o,
                      (n * s.P + (y + top) * row + x + left) * s.O + o);
}
void copies_forward(Sample& s) {
    for (size_t i = 0; i < s.N() * s.O; ++i) s.wanted["a"].set(i, 0, 0);
    each_copy(s, [&](size_t in, size_t out) { s.wanted["a"].set(out, s["x"][in], 0); });
}
void copies_backward(Sample& s) {
    std::vector<Sum> dx(s.B * s.F);
    each_copy(s, [&](size_t in, size_t out) { dx[in].add(s["da"][out]); });
    set_sums(s, "dx", dx, 6);
}

using Geometry = std::map<std::string, double>;
// Rows and columns of the image, of windows, of the kernel, its steps, the border before.
Geometry geometry(const double (&n)[10], double dilation_height = 0, double dilation_width = 0) {
    Geometry made;
    const char* const names[] = {"height",        "width",        "out_height",    "out_width",
                                 "kernel_height", "kernel_width", "stride_height", "stride_width",
                                 "top",           "left"};
    for (int i = 0; i < 10; ++i) made[names[i]] = n[i];
    if (dilation_height > 0)
        made["dilation_height"] = dilation_height, made["dilation_width"] = dilation_width,
        made["groups"] = 1;
    return made;
}

}  // namespace

const std::map<std::string, Definition>& windowed_definitions() {
    static const std::map<std::string, Definition> all = {
        {"conv",
         {.spans = {{"saved", {-1.5, 1.5}}},
          .geometries = {geometry({4, 5, 4, 5, 3, 3, 1, 1, 1, 1}, 1, 1),
                         geometry({5, 7, 2, 3, 2, 3, 3, 2, 1, 0}, 1, 2),
                         geometry({3, 4, 3, 4, 1, 1, 1, 1, 0, 0}, 1, 1),
                         geometry({1, 29, 1, 13, 1, 5, 1, 2, 0, 0}, 1, 1),
                         geometry({6, 2, 3, 3, 2, 2, 1, 1, 0, 2}, 3, 1),
                         geometry({3, 2, 2, 1, 1, 1, 2, 3, 0, 0}, 1, 1),
                         geometry({2, 2, 5, 1, 1, 2, 1, 5, 2, 0}, 1, 1)},
          .forward = conv_forward,
          .backward = conv_backward}},
        {"max_pool",
         {.spans = {{"x", {-4, 4}}},
          .geometries = {geometry({4, 4, 2, 2, 2, 2, 2, 2, 0, 0}), geometry({3, 5, 2, 5, 3, 3, 2, 1, 1, 1}),
                         geometry({1, 9, 1, 1, 1, 9, 1, 9, 0, 0})},
          .forward = max_pool_forward,
          .backward = max_pool_backward}},
        {"avg_pool",
         {.spans = {{"x", {-4, 4}}},
          .geometries = {geometry({4, 4, 2, 2, 2, 2, 2, 2, 0, 0}), geometry({3, 5, 2, 5, 3, 3, 2, 1, 1, 1}),
                         geometry({1, 99, 1, 1, 1, 99, 1, 99, 0, 0})},
          .forward = avg_pool_forward,
          .backward = avg_pool_backward}},
        {"pad",
         {.geometries = {geometry({2, 3, 4, 4, 1, 1, 1, 1, 1, 0}), geometry({1, 3, 1, 5, 1, 1, 1, 1, 0, 2})},
          .forward = copies_forward,
          .backward = copies_backward}},
        {"upsample",
         {.geometries = {{{"height", 2}, {"width", 3}, {"factor_height", 2}, {"factor_width", 3}},
                         {{"height", 1}, {"width", 4}, {"factor_height", 1}, {"factor_width", 1}}},
          .forward = copies_forward,
          .backward = copies_backward}},
    };
    return all;
}

}  // namespace parity
