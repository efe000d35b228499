// Windows that move over images: their geometry, read from an operation's settings, and images with a border of zeros. No
// products, no formulas.
#pragma once

#include "../threads.hpp"
#include "call.hpp"
#include "simd.hpp"

// The settings of every operation with a window, in this order; those of ops/window.py.
#define FASTNN_WINDOW                                                                                   \
    "height width channels out_height out_width kernel_height kernel_width stride_height stride_width " \
    "top left"
#define FASTNN_DILATED FASTNN_WINDOW " dilation_height dilation_width groups"

namespace {

// A number that is whole and can be a size: settings of a plan may be any finite numbers.
FASTNN_INLINE bool is_size(double number, double least) {
    return number >= least && number < 2147483648.0 &&
           number == static_cast<double>(static_cast<int64_t>(number));
}

// Of rows, and likewise of columns: window o reads cells o stride + k dilation - before, k < kernel, of the image.
struct Axis {
    size_t size, out, kernel, stride, before, dilation = 1;

    size_t extent() const { return (kernel - 1) * dilation + 1; }                  // of a window
    size_t reach() const { return out == 0 ? 0 : (out - 1) * stride + extent(); }  // of all of them
    bool inside() const { return before == 0 && reach() <= size; }
    bool plain() const { return kernel == 1 && stride == 1 && before == 0 && out == size; }
};

struct Window {
    Axis h, w;
    size_t channels, groups = 1;

    explicit Window(const double* s, bool dilated = false)
        : h{number(s, 0), number(s, 3), number(s, 5), number(s, 7), number(s, 9)},
          w{number(s, 1), number(s, 4), number(s, 6), number(s, 8), number(s, 10)},
          channels(number(s, 2)) {
        if (dilated) h.dilation = number(s, 11), w.dilation = number(s, 12), groups = number(s, 13);
    }
    size_t values() const { return h.size * w.size * channels; }  // of an image
    size_t pixels() const { return h.out * w.out; }
    size_t places() const { return h.kernel * w.kernel; }

    // Whether the settings are such, and of those rows. An image with its border, and the gradient with the border that
    // its product needs, have at most kMost values: 4 GB of float.
    static bool fits(const fastnn::Passage& p, bool dilated = false) {
        for (int i = 0; i < (dilated ? 14 : 11); ++i)
            if (!is_size(p.settings[i], i == 9 || i == 10 ? 0 : 1)) return false;
        const Window made(p.settings, dilated);
        const auto bounded = [&](size_t rows, size_t columns, size_t each) {
            constexpr double kMost = 1073741824.0;
            return static_cast<double>(rows) * static_cast<double>(columns) * static_cast<double>(each) <=
                   kMost;
        };
        return made.h.size * made.w.size == p.from && made.channels == p.I && made.pixels() == p.to &&
               bounded(made.h.reach(), made.w.reach(), p.I) &&
               bounded(made.h.size + made.h.extent(), made.w.size + made.w.extent(), p.I > p.O ? p.I : p.O);
    }

  private:
    static size_t number(const double* s, int i) { return static_cast<size_t>(s[i]); }
};

// Values of a grid of pixels: how far apart rows are.
struct Image {
    const Real* data;
    size_t row;
};

FASTNN_INLINE void zero(Real* to, size_t n) { __builtin_memset(to, 0, n * sizeof(Real)); }

// `rows` x `columns` pixels of an image of `height` x `width`, the first of them (top, left): it may lie outside, where there
// are zeros. In this thread's scratch.
inline Image bordered(const Real* x, size_t height, size_t width, size_t channels, ptrdiff_t top,
                      ptrdiff_t left, size_t rows, size_t columns) {
    if (top == 0 && left == 0 && rows <= height && columns <= width) return {x, width * channels};
    Real* const made =
        static_cast<Real*>(fastnn::scratch(fastnn::kImage, (rows * columns * channels + 1) * sizeof(Real)));
    const auto within = [](ptrdiff_t place, size_t most) {
        return place < 0 ? size_t(0) : static_cast<size_t>(place) < most ? static_cast<size_t>(place) : most;
    };
    // columns begin .. end - 1 of what is made are the image's
    const size_t begin = within(-left, columns), end = within(static_cast<ptrdiff_t>(width) - left, columns);
    const size_t row = columns * channels;
    Real* to = made;
    for (size_t r = 0; r < rows; ++r, to += row) {
        const ptrdiff_t h = static_cast<ptrdiff_t>(r) + top;
        if (h < 0 || h >= static_cast<ptrdiff_t>(height) || begin >= end) {
            zero(to, row);
            continue;
        }
        const size_t first = static_cast<size_t>(static_cast<ptrdiff_t>(begin) + left);
        zero(to, begin * channels);
        __builtin_memcpy(to + begin * channels, x + (static_cast<size_t>(h) * width + first) * channels,
                         (end - begin) * channels * sizeof(Real));
        zero(to + end * channels, (columns - end) * channels);
    }
    return {made, row};
}

// What all windows read, the first window at its beginning.
inline Image seen(const Window& w, const Real* x) {
    return bordered(x, w.h.size, w.w.size, w.channels, -static_cast<ptrdiff_t>(w.h.before),
                    -static_cast<ptrdiff_t>(w.w.before), w.h.reach(), w.w.reach());
}

}  // namespace
