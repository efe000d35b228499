// max_pool, avg_pool: one value for each window of an image and channel. Vectors along the channels. What lies outside of the
// image counts for nothing: every window has at least one cell that does not.
#pragma once

#include "../kernels/window.hpp"
#include "operation.hpp"

namespace ops {
namespace {

struct Pool : Operation {
    static bool fits(const fastnn::Passage& p) {
        if (!Window::fits(p) || p.I != p.O) return false;
        const Window w(p.settings);
        const auto filled = [](const Axis& axis) {
            return axis.before < axis.kernel && (axis.out - 1) * axis.stride < axis.size + axis.before;
        };
        return filled(w.h) && filled(w.w);
    }

    static double ns(size_t N, size_t, size_t O, const double* settings) {
        const double places = static_cast<double>(Window(settings).places());
        return static_cast<double>(N) * (2 + static_cast<double>(O) * places * 1.5 / W);
    }

  protected:
    // The cells of a window: rows top .. bottom - 1 and columns left .. right - 1 of the image, the first of them at the place
    // (h, w) of the kernel.
    struct Cells {
        size_t top, bottom, left, right, h, w;
        size_t count() const { return (bottom - top) * (right - left); }
    };
    static void clip(const Axis& axis, size_t window, size_t* begin, size_t* end, size_t* place) {
        const size_t at = window * axis.stride, past = at + axis.kernel;
        *place = at < axis.before ? axis.before - at : 0;
        *begin = at < axis.before ? 0 : at - axis.before;
        *end = past - axis.before < axis.size ? past - axis.before : axis.size;
    }

    // f(the sample's values, its windows', cells, window's number) of each window of these rows
    template <class F>
    static void each_window(const Window& w, size_t rows, double ns, F&& f) {
        const size_t in = w.values(), out = w.pixels() * w.channels;
        share(rows, ns, 1, [&](size_t begin, size_t end) {
            for (size_t n = begin; n < end; ++n)
                for (size_t y = 0; y < w.h.out; ++y) {
                    Cells cells;
                    clip(w.h, y, &cells.top, &cells.bottom, &cells.h);
                    for (size_t x = 0; x < w.w.out; ++x) {
                        clip(w.w, x, &cells.left, &cells.right, &cells.w);
                        f(n * in, n * out + (y * w.w.out + x) * w.channels, cells);
                    }
                }
        });
    }
    static double row_ns(const Call& c) { return ns(c.P, 0, c.O, c.settings); }
};

struct max_pool : Pool {
    static constexpr Spec spec{.name = "max_pool",
                               .settings = FASTNN_WINDOW,
                               .scratch = "winner:BPO:int32",
                               .forward = "x " FASTNN_WINDOW " -> a winner",
                               .backward = FASTNN_WINDOW " winner da -> dx",
                               .x = "BF",
                               .a = "BPO"};

    static void forward(const Call& c, Range rows) {
        const Window w(c.settings);
        const size_t C = c.O, in = rows.begin * w.values(), out = rows.begin * w.pixels() * C;
        const Real* const x = c.x + in;
        Real* const a = c.a + out;
        int32_t* const winner = scratch<int32_t>(c, 0) + out;
        each_window(w, rows.size(), row_ns(c), [&](size_t image, size_t at, const Cells& cells) {
            for_vectors(C, [&](size_t j, auto lanes) {
                const auto value = [&](size_t h, size_t v) {
                    return load(x + image + (h * w.w.size + v) * C + j, lanes);
                };
                V best = value(cells.top, cells.left);
                VI first = broadcast_int(place_of(w, cells, cells.top, cells.left));
                for (size_t h = cells.top; h < cells.bottom; ++h)
                    for (size_t v = cells.left; v < cells.right; ++v) {
                        // the first of the largest; a NaN counts as the largest, as in NumPy
                        const V now = value(h, v);
                        const VI better = ~(now <= best) & (best == best);
                        best = select(better, now, best);
                        first = better ? broadcast_int(place_of(w, cells, h, v)) : first;
                    }
                store(a + at + j, best, lanes);
                store_numbers(winner + at + j, first, lanes);
            });
        });
    }

    static void backward(const Call& c, Range rows) {
        const Window w(c.settings);
        const size_t C = c.O, in = w.values(), out = w.pixels() * C;
        share(rows.size(), row_ns(c), 1, [&](size_t begin, size_t end) {
            const size_t first = rows.begin + begin, count = end - begin;
            const int32_t* const winner = scratch<int32_t>(c, 0) + first * out;
            const Real* const da = c.da + first * out;
            Real* const dx = c.dx + first * in;
            zero(dx, count * in);
            each_window(w, count, 0, [&](size_t image, size_t at, const Cells& cells) {
                for (size_t h = cells.top; h < cells.bottom; ++h)
                    for (size_t v = cells.left; v < cells.right; ++v) {
                        const VI place = broadcast_int(place_of(w, cells, h, v));
                        for_vectors(C, [&](size_t j, auto lanes) {
                            Real* const p = dx + image + (h * w.w.size + v) * C + j;
                            const VI won = whole_numbers(winner + at + j, lanes) == place;
                            store(p, load(p, lanes) + select(won, load(da + at + j, lanes), V{}), lanes);
                        });
                    }
            });
        });
    }

  private:
    static Int place_of(const Window& w, const Cells& cells, size_t h, size_t v) {
        return static_cast<Int>((cells.h + h - cells.top) * w.w.kernel + cells.w + v - cells.left);
    }
    template <class L>
    static VI whole_numbers(const int32_t* from, L lanes) {
        if constexpr (kFloat) return (VI)load(reinterpret_cast<const Real*>(from), lanes);
        VI made{};
        for (size_t i = 0; i < lanes.n; ++i) made[i] = from[i];
        return made;
    }
    template <class L>
    static void store_numbers(int32_t* to, VI numbers, L lanes) {
        if constexpr (kFloat) return store(reinterpret_cast<Real*>(to), (V)numbers, lanes);
        for (size_t i = 0; i < lanes.n; ++i) to[i] = static_cast<int32_t>(numbers[i]);
    }
};

struct avg_pool : Pool {
    static constexpr Spec spec{.name = "avg_pool",
                               .settings = FASTNN_WINDOW,
                               .forward = "x " FASTNN_WINDOW " -> a",
                               .backward = FASTNN_WINDOW " da -> dx",
                               .x = "BF",
                               .a = "BPO"};

    // Sums of 64 cells, then of these: one after the other, float32 adds up 5000 x 5000 ones to 2^24.
    static void forward(const Call& c, Range rows) {
        const Window w(c.settings);
        const size_t C = c.O;
        const Real* const x = c.x + rows.begin * w.values();
        Real* const a = c.a + rows.begin * w.pixels() * C;
        each_window(w, rows.size(), row_ns(c), [&](size_t image, size_t at, const Cells& cells) {
            const Real each = static_cast<Real>(1.0 / static_cast<double>(cells.count()));
            for_vectors(C, [&](size_t j, auto lanes) {
                V total{}, part{};
                size_t taken = 0;
                for (size_t h = cells.top; h < cells.bottom; ++h)
                    for (size_t v = cells.left; v < cells.right; ++v) {
                        part += load(x + image + (h * w.w.size + v) * C + j, lanes);
                        if (++taken % 64 == 0) total += part, part = V{};
                    }
                store(a + at + j, (total + part) * each, lanes);
            });
        });
    }

    static void backward(const Call& c, Range rows) {
        const Window w(c.settings);
        const size_t C = c.O, in = w.values(), out = w.pixels() * C;
        share(rows.size(), row_ns(c), 1, [&](size_t begin, size_t end) {
            const size_t count = end - begin;
            const Real* const da = c.da + (rows.begin + begin) * out;
            Real* const dx = c.dx + (rows.begin + begin) * in;
            zero(dx, count * in);
            each_window(w, count, 0, [&](size_t image, size_t at, const Cells& cells) {
                const Real each = static_cast<Real>(1.0 / static_cast<double>(cells.count()));
                for (size_t h = cells.top; h < cells.bottom; ++h)
                    for (size_t v = cells.left; v < cells.right; ++v)
                        for_vectors(C, [&](size_t j, auto lanes) {
                            Real* const p = dx + image + (h * w.w.size + v) * C + j;
                            store(p, load(p, lanes) + load(da + at + j, lanes) * each, lanes);
                        });
            });
        });
    }
};

}  // namespace
}  // namespace ops
