// pad: zeros around an image. upsample: each of its cells several times.
#pragma once

#include "../kernels/window.hpp"
#include "operation.hpp"

namespace ops {
namespace {

struct pad : Operation {
    static constexpr Spec spec{.name = "pad",
                               .settings = "height width channels out_height out_width top left",
                               .forward = "x height width channels out_height out_width top left -> a",
                               .backward = "height width channels out_height out_width top left da -> dx",
                               .x = "BF",
                               .a = "BPO"};

    struct Frame {
        size_t height, width, channels, out_height, out_width, top, left;
        explicit Frame(const double* s)
            : height(static_cast<size_t>(s[0])),
              width(static_cast<size_t>(s[1])),
              channels(static_cast<size_t>(s[2])),
              out_height(static_cast<size_t>(s[3])),
              out_width(static_cast<size_t>(s[4])),
              top(static_cast<size_t>(s[5])),
              left(static_cast<size_t>(s[6])) {}
        size_t row() const { return width * channels; }
        size_t out_row() const { return out_width * channels; }
        size_t before() const { return top * out_row() + left * channels; }
    };

    static bool fits(const fastnn::Passage& p) {
        for (int i = 0; i < 7; ++i)
            if (!is_size(p.settings[i], i < 5 ? 1 : 0)) return false;
        const Frame f(p.settings);
        return f.height * f.width == p.from && f.channels == p.I && p.I == p.O &&
               f.out_height * f.out_width == p.to && f.top + f.height <= f.out_height &&
               f.left + f.width <= f.out_width;
    }

    static void forward(const Call& c, Range rows) {
        const Frame f(c.settings);
        each_row(f, rows, [&](size_t n) {
            const Real* const x = c.x + n * f.height * f.row();
            Real* const a = c.a + n * f.out_height * f.out_row();
            zero(a, f.out_height * f.out_row());
            for (size_t h = 0; h < f.height; ++h)
                __builtin_memcpy(a + f.before() + h * f.out_row(), x + h * f.row(), f.row() * sizeof(Real));
        });
    }

    static void backward(const Call& c, Range rows) {
        const Frame f(c.settings);
        each_row(f, rows, [&](size_t n) {
            const Real* const da = c.da + n * f.out_height * f.out_row() + f.before();
            Real* const dx = c.dx + n * f.height * f.row();
            for (size_t h = 0; h < f.height; ++h)
                __builtin_memcpy(dx + h * f.row(), da + h * f.out_row(), f.row() * sizeof(Real));
        });
    }

  private:
    template <class F>
    static void each_row(const Frame& f, Range rows, F&& each) {
        share(rows.size(), 0.1 * static_cast<double>(f.out_height * f.out_row()), 1,
              [&](size_t begin, size_t end) {
                  for (size_t n = begin; n < end; ++n) each(rows.begin + n);
              });
    }
};

struct upsample : Operation {
    static constexpr Spec spec{.name = "upsample",
                               .settings = "height width channels factor_height factor_width",
                               .forward = "x height width channels factor_height factor_width -> a",
                               .backward = "height width channels factor_height factor_width da -> dx",
                               .x = "BF",
                               .a = "BPO"};

    struct Grid {
        size_t height, width, channels, high, wide;
        explicit Grid(const double* s)
            : height(static_cast<size_t>(s[0])),
              width(static_cast<size_t>(s[1])),
              channels(static_cast<size_t>(s[2])),
              high(static_cast<size_t>(s[3])),
              wide(static_cast<size_t>(s[4])) {}
        size_t cells() const { return height * width; }
    };

    static bool fits(const fastnn::Passage& p) {
        for (int i = 0; i < 5; ++i)
            if (!is_size(p.settings[i], 1)) return false;
        const Grid g(p.settings);
        // p.from is below 2^62, the rest by division: nothing overflows
        return g.cells() == p.from && g.channels == p.I && p.I == p.O && p.to % p.from == 0 &&
               g.high * g.wide == p.to / p.from;
    }

    static void forward(const Call& c, Range rows) {
        const Grid g(c.settings);
        each_cell(g, rows, [&](size_t cell, size_t n, size_t y, size_t x) {
            const Real* const from = c.x + cell * g.channels;
            for (size_t h = 0; h < g.high; ++h)
                for (size_t w = 0; w < g.wide; ++w)
                    __builtin_memcpy(c.a + at(g, n, y * g.high + h, x * g.wide + w), from,
                                     g.channels * sizeof(Real));
        });
    }

    static void backward(const Call& c, Range rows) {
        const Grid g(c.settings);
        each_cell(g, rows, [&](size_t cell, size_t n, size_t y, size_t x) {
            for_vectors(g.channels, [&](size_t j, auto lanes) {
                V sum{};
                for (size_t h = 0; h < g.high; ++h)
                    for (size_t w = 0; w < g.wide; ++w)
                        sum += load(c.da + at(g, n, y * g.high + h, x * g.wide + w) + j, lanes);
                store(c.dx + cell * g.channels + j, sum, lanes);
            });
        });
    }

  private:
    static size_t at(const Grid& g, size_t n, size_t y, size_t x) {
        return ((n * g.height * g.high + y) * g.width * g.wide + x) * g.channels;
    }
    template <class F>
    static void each_cell(const Grid& g, Range rows, F&& f) {
        const double ns =
            static_cast<double>(g.cells() * g.high * g.wide) * (1 + 0.1 * static_cast<double>(g.channels));
        share(rows.size(), ns, 1, [&](size_t begin, size_t end) {
            for (size_t n = rows.begin + begin; n < rows.begin + end; ++n)
                for (size_t y = 0; y < g.height; ++y)
                    for (size_t x = 0; x < g.width; ++x) f((n * g.height + y) * g.width + x, n, y, x);
        });
    }
};

}  // namespace
}  // namespace ops
