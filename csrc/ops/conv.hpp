// conv: a = f(b + sum over the places of a kernel of x w), the image's channels last. Its products read a sample's image,
// with a border of zeros where it has one, from this thread's scratch: no patch is copied (kernels/runs.hpp).
//
// Every element is one sum in one order: of z the bias, then the kernel's places and the channels of each; of dx the places
// that reach it, the last first, and the channels of each; of dw the pixels of the first sample, of the second, ..., in runs
// of kRun or so as in dense. How rows are shared out changes no bit.
#pragma once

#include "../kernels/activations.hpp"
#include "../kernels/runs.hpp"
#include "../kernels/window.hpp"
#include "operation.hpp"

namespace ops {
namespace {

struct conv : Operation {
    static constexpr Spec spec{.name = "conv",
                               .params = "w:KJO b:O",
                               .settings = FASTNN_DILATED,
                               .forward = "x w b " FASTNN_DILATED " activation -> z a~z",
                               .backward = "x w " FASTNN_DILATED " below saved dz -> dx? dw db",
                               .x = "BF",
                               .a = "BPO"};

    static bool fits(const fastnn::Passage& p) {
        if (!Window::fits(p, true)) return false;
        const size_t groups = static_cast<size_t>(p.settings[13]);
        return p.I % groups == 0 && p.O % groups == 0;
    }

    static void forward(const Call& c, Range rows) {
        const Shape s(c);
        share(rows.size(), s.ns(), 1, [&](size_t begin, size_t end) {
            const Panels panels = s.depthwise() ? Panels{} : weights(s, c.params[0]);
            for (size_t n = rows.begin + begin; n < rows.begin + end; ++n) {
                Real *z = c.z + n * s.out(), *a = c.a + n * s.out();
                convolve(s, seen(s.w, c.x + n * s.w.values()), panels, c.params[0], c.params[1], z);
                if (c.activation.code == kActivation_identity && a == z) continue;
                forward_of(c.activation.code)(s.w.pixels(), s.O, z, s.O, nullptr, 0, a, s.O,
                                              parameter_of(c.activation.code, c.activation.alpha));
            }
        });
    }

    // dx = (sum over the places that reach a pixel of dz w^T) * f'(saved)
    static void backward(const Call& c, Range rows) {
        const Shape s(c);
        share(rows.size(), s.ns(), 1, [&](size_t begin, size_t end) {
            const Real* const panels = transposed(s, c.params[0]);
            for (size_t n = rows.begin + begin; n < rows.begin + end; ++n) {
                Real* const dx = c.dx + n * s.w.values();
                spread(s, c.da + n * s.out(), panels, dx);
                if (c.below.code == kActivation_identity) continue;
                const Real* const saved = c.saved + n * s.w.values();
                backward_of(c.below.code)(1, s.w.values(), saved, s.w.values(), dx, s.w.values(), dx,
                                          s.w.values(), parameter_of(c.below.code, c.below.alpha));
            }
        });
    }

    // dw = sum over the pixels of x dz, db = that of dz
    static void gradient(const Call& c, int tensor, const Range& rows, Real* g) {
        const Shape s(c);
        if (tensor < 0) return column_sums(c.B * s.w.pixels(), s.O, c.da, s.O, c.dparams[1]);
        const double ns = s.ns() * static_cast<double>(c.B) / static_cast<double>(s.w.places() * s.J);
        share(rows.size(), ns, kPanel, [&](size_t begin, size_t end) {
            gradient_of(c, s, {rows.begin + begin, rows.begin + end}, g + begin * s.O);
        });
    }

    static double ns(size_t N, size_t I, size_t O, const double* settings) {
        const Window w(settings, true);
        const double terms = static_cast<double>(w.places()) * static_cast<double>(I / w.groups);
        return Operation::ns(N, I, O, settings) +
               static_cast<double>(N) * static_cast<double>(O) * terms / (3.0 * W);
    }

  private:
    struct Shape {
        Window w;
        size_t O, J, OG;  // channels that go out; that come in to a group, and go out of it

        explicit Shape(const Call& c) : w(c.settings, true), O(c.O) {
            J = w.channels / w.groups, OG = O / w.groups;
            // one pixel to one pixel: all of them are one row
            if (w.h.plain() && w.w.plain()) {
                w.w.size *= w.h.size, w.w.out = w.w.size;
                w.h.size = w.h.out = 1;
            }
        }
        bool depthwise() const { return w.groups > 1 && J == 1 && OG == 1; }
        size_t out() const { return w.pixels() * O; }
        // Channels of neighbours in the kernel that are neighbours in the image, too: a run of k.
        bool joined() const { return w.groups == 1 && w.w.dilation == 1; }
        double ns() const {
            return static_cast<double>(w.pixels()) * static_cast<double>(O) *
                   static_cast<double>(w.places() * J + 4) / (3.0 * W);
        }
    };

    static size_t panels_of(size_t columns) { return (columns + kPanel - 1) / kPanel; }

    // The weights of all groups, each in panels of its columns; as they are where all are one panel.
    static Panels weights(const Shape& s, const Real* w) {
        const size_t K = s.w.places() * s.J, stride = K * kPanel;
        if (s.w.groups == 1 && s.O <= kPanel) return {w, s.O, 0, true};
        const size_t a_group = panels_of(s.OG) * stride;
        Real* const to =
            static_cast<Real*>(fastnn::scratch(fastnn::kPackB, s.w.groups * a_group * sizeof(Real)));
        for (size_t g = 0; g < s.w.groups; ++g)
            pack_rows(w + g * s.OG, s.O, K, s.OG, kPanel, to + g * a_group, stride);
        return {to, kPanel, stride, false};
    }

    // z of one sample
    static void convolve(const Shape& s, const Image& image, const Panels& panels, const Real* w,
                         const Real* bias, Real* z) {
        const Axis &h = s.w.h, &v = s.w.w;
        const size_t C = s.w.channels, step = v.stride * C;
        const Runs runs = kernel_runs(s, image.row, panels.ld);
        for (size_t y = 0; y < h.out; ++y) {
            const Real* const x = image.data + y * h.stride * image.row;
            Real* const to = z + y * v.out * s.O;
            if (s.depthwise()) {
                channel_by_channel(runs, v.out, C, x, step, w, bias, to, C);
                continue;
            }
            for (size_t g = 0; g < s.w.groups; ++g) {
                Panels own = panels;
                own.data += g * panels_of(s.OG) * panels.stride;
                multiply_runs<false>(runs, v.out, s.OG, x + g * s.J, step, own, bias + g * s.OG, true,
                                     to + g * s.OG, s.O);
            }
        }
    }
    // The places of the kernel: a's, in an image with rows so far apart, and b's, whose rows follow each other.
    static Runs kernel_runs(const Shape& s, size_t row, size_t ldb) {
        const Axis &h = s.w.h, &v = s.w.w;
        const size_t C = s.w.channels, one = s.depthwise() ? C : ldb;
        Runs runs{h.kernel, v.kernel, s.J, signed_(h.dilation * row), signed_(v.dilation * C), 0, 0};
        if (s.joined()) runs.inner = 1, runs.K = v.kernel * C;
        runs.b_inner = signed_(runs.K * one), runs.b_outer = signed_(runs.inner * runs.K * one);
        return runs;
    }
    static ptrdiff_t signed_(size_t n) { return static_cast<ptrdiff_t>(n); }

    // A group of one channel each: c (M, C) = bias + sum over the runs of a row of a times a row of b, channel by channel.
    static void channel_by_channel(const Runs& runs, size_t M, size_t C, const Real* a, size_t lda,
                                   const Real* b, const Real* bias, Real* c, size_t ldc) {
        constexpr size_t R = 4;  // pixels at a time: 4 chains, one load of b for them
        const auto pixels = [&](auto count, size_t m) {
            constexpr size_t n = decltype(count)::n;
            for_vectors(C, [&](size_t j, auto lanes) {
                V acc[n];
                FASTNN_UNROLL
                for (size_t i = 0; i < n; ++i) acc[i] = bias ? load(bias + j, lanes) : V{};
                const Real *ao = a + m * lda + j, *bo = b + j;
                for (size_t o = 0; o < runs.outer; ++o, ao += runs.a_outer, bo += runs.b_outer) {
                    const Real *ai = ao, *bi = bo;
                    for (size_t k = 0; k < runs.inner; ++k, ai += runs.a_inner, bi += runs.b_inner) {
                        const V row = load(bi, lanes);
                        FASTNN_UNROLL
                        for (size_t i = 0; i < n; ++i) acc[i] += load(ai + i * lda, lanes) * row;
                    }
                }
                FASTNN_UNROLL
                for (size_t i = 0; i < n; ++i) store(c + (m + i) * ldc + j, acc[i], lanes);
            });
        };
        size_t m = 0;
        for (; m + R <= M; m += R) pixels(Count<R>{}, m);
        for (; m < M; ++m) pixels(Count<1>{}, m);
    }
    template <size_t count>
    struct Count {
        static constexpr size_t n = count;
    };

    // dx ---------------------------------------------------------------------------------------------------------

    // Along an axis, cells first, first + stride, ... are reached by the same places of the kernel: `count` of them, `last`
    // and then each `step` less, from windows `first_window`, and then each `apart` more.
    struct Reach {
        size_t cells = 0, count = 0, last = 0, step = 1;
        ptrdiff_t first_window = 0, apart = 0;

        Reach(const Axis& axis, size_t first) {
            cells = (axis.size - first + axis.stride - 1) / axis.stride;
            for (size_t k = axis.kernel; k-- > 0;) {
                const ptrdiff_t at = place(axis, first, k);
                if (at % signed_(axis.stride) != 0) continue;
                const ptrdiff_t window = at / signed_(axis.stride);
                if (count == 0) last = k, first_window = window;
                if (count == 1) step = last - k, apart = window - first_window;
                ++count;
            }
        }
        size_t kernel_place(size_t i) const { return last - i * step; }
        static ptrdiff_t place(const Axis& axis, size_t cell, size_t k) {
            return signed_(cell + axis.before) - signed_(k * axis.dilation);
        }
        // The first and the last window that any cell asks for, be they there or not.
        static ptrdiff_t lowest(const Axis& axis) {
            const ptrdiff_t at = place(axis, 0, axis.kernel - 1), stride = signed_(axis.stride);
            return at >= 0 ? at / stride : -((stride - 1 - at) / stride);
        }
        static ptrdiff_t highest(const Axis& axis) {
            return signed_((axis.size - 1 + axis.before) / axis.stride);
        }
    };
    static size_t classes(const Axis& axis) { return axis.stride < axis.size ? axis.stride : axis.size; }

    // f(its first row, its first column, the reach of rows, of columns) of each class of pixels
    template <class F>
    static void each_class(const Shape& s, F&& f) {
        for (size_t y = 0; y < classes(s.w.h); ++y)
            for (size_t x = 0; x < classes(s.w.w); ++x) f(y, x, Reach(s.w.h, y), Reach(s.w.w, x));
    }

    // w^T of the places that reach each class, in panels of a group's channels; channel by channel as the places are.
    static Real* transposed(const Shape& s, const Real* w) {
        const size_t a_place = s.depthwise() ? s.O : s.w.groups * panels_of(s.J) * kPanel * s.OG;
        Real* const made =
            static_cast<Real*>(fastnn::scratch(fastnn::kPackB, (s.w.places() * a_place + 1) * sizeof(Real)));
        Real* to = made;
        each_class(s, [&](size_t, size_t, const Reach& h, const Reach& v) {
            const size_t count = h.count * v.count;
            for (size_t i = 0; i < h.count; ++i)
                for (size_t j = 0; j < v.count; ++j) {
                    const size_t at = h.kernel_place(i) * s.w.w.kernel + v.kernel_place(j);
                    transpose_place(s, w + at * s.J * s.O, i * v.count + j, count, to);
                }
            to += count * a_place;
        });
        return made;
    }
    static void transpose_place(const Shape& s, const Real* w, size_t place, size_t count, Real* to) {
        if (s.depthwise()) {
            __builtin_memcpy(to + place * s.O, w, s.O * sizeof(Real));
            return;
        }
        const size_t panel = s.OG * kPanel;
        for (size_t g = 0; g < s.w.groups; ++g)
            for (size_t n = 0; n < s.J; n += kPanel)
                pack_columns(w + n * s.O + g * s.OG, s.O, s.OG, s.J - n < kPanel ? s.J - n : kPanel, kPanel,
                             to + (g * panels_of(s.J) + n / kPanel) * count * panel + place * panel);
    }

    static void spread(const Shape& s, const Real* dz, const Real* panels, Real* dx) {
        const Axis &h = s.w.h, &v = s.w.w;
        const size_t C = s.w.channels;
        const ptrdiff_t top = Reach::lowest(h), left = Reach::lowest(v);
        const size_t rows = static_cast<size_t>(Reach::highest(h) - top + 1),
                     columns = static_cast<size_t>(Reach::highest(v) - left + 1);
        const Image image = bordered(dz, h.out, v.out, s.O, top, left, rows, columns);
        const Real* of_class = panels;
        each_class(s, [&](size_t y, size_t x, const Reach& of_h, const Reach& of_v) {
            const size_t count = of_h.count * of_v.count;
            const size_t b = s.depthwise() ? s.O : kPanel;  // from one row of w^T to the next
            Runs runs{
                of_h.count, of_v.count, s.OG, of_h.apart * signed_(image.row), of_v.apart * signed_(s.O),
                0,          0};
            if (s.w.groups == 1 && (of_v.count == 1 || of_v.apart == 1))
                runs.inner = 1, runs.K = of_v.count * s.O;
            runs.b_inner = signed_(runs.K * b), runs.b_outer = signed_(runs.inner * runs.K * b);
            if (count == 0) runs.outer = 0;
            const Real* const first =
                image.data + (count == 0 ? 0
                                         : (of_h.first_window - top) * signed_(image.row) +
                                               (of_v.first_window - left) * signed_(s.O));
            for (size_t t = 0; t < of_h.cells; ++t) {
                const Real* const a = first + t * image.row;
                Real* const to = dx + ((y + t * h.stride) * v.size + x) * C;
                if (s.depthwise()) {
                    channel_by_channel(runs, of_v.cells, C, a, s.O, of_class, nullptr, to, v.stride * C);
                    continue;
                }
                const size_t panel = s.OG * kPanel * count;
                for (size_t g = 0; g < s.w.groups; ++g)
                    multiply_runs<false>(runs, of_v.cells, s.J, a + g * s.OG, s.O,
                                         {of_class + g * panels_of(s.J) * panel, kPanel, panel, false},
                                         nullptr, true, to + g * s.J, v.stride * C);
            }
            of_class += count * (s.depthwise() ? s.O : s.w.groups * panels_of(s.J) * kPanel * s.OG);
        });
    }

    // dw ---------------------------------------------------------------------------------------------------------

    // Pixels of one sample that are added up one after the other: rows y .. y + rows - 1, of each columns x .. x + columns - 1.
    struct Stretch {
        size_t sample, y, rows, x, columns;
    };

    // Rows of dw, from those of all places and channels, in runs of at most kRun terms.
    static void gradient_of(const Call& c, const Shape& s, Range rows, Real* g) {
        const Axis &h = s.w.h, &v = s.w.w;
        const size_t pixels = h.out * v.out, values = rows.size() * s.O;
        bool whole = true;  // g holds nothing yet
        const auto run = [&](size_t first, size_t last, size_t y, size_t x, size_t lines, size_t columns) {
            Real* to = g;
            if (!whole) to = static_cast<Real*>(fastnn::scratch(fastnn::kRunSum, values * sizeof(Real)));
            for (size_t n = first; n < last; ++n)
                add_stretch(c, s, {n, y, lines, x, columns}, rows, n == first, to);
            if (!whole)
                for_vectors(values, [&](size_t j, auto lanes) {
                    store(g + j, load(g + j, lanes) + load(to + j, lanes), lanes);
                });
            whole = false;
        };
        if (c.B == 0) return zero(g, values);
        if (pixels <= kRun) {
            const size_t samples = kRun / pixels;
            for (size_t n = 0; n < c.B; n += samples)
                run(n, c.B - n < samples ? c.B : n + samples, 0, 0, h.out, v.out);
            return;
        }
        const size_t lines = v.out < kRun ? kRun / v.out : 1, columns = v.out < kRun ? v.out : kRun;
        for (size_t n = 0; n < c.B; ++n)
            for (size_t y = 0; y < h.out; y += lines)
                for (size_t x = 0; x < v.out; x += columns)
                    run(n, n + 1, y, x, h.out - y < lines ? h.out - y : lines,
                        v.out - x < columns ? v.out - x : columns);
    }

    static void add_stretch(const Call& c, const Shape& s, const Stretch& of, Range rows, bool first,
                            Real* g) {
        const Axis &h = s.w.h, &v = s.w.w;
        const size_t C = s.w.channels, span = s.joined() ? v.kernel * C : s.J;
        const Image image = seen(s.w, c.x + of.sample * s.w.values());
        const Real* const x = image.data + of.y * h.stride * image.row + of.x * v.stride * C;
        const Real* const dz = c.da + of.sample * s.out() + (of.y * v.out + of.x) * s.O;
        const Runs runs{of.rows, 1, of.columns, signed_(h.stride * image.row), 0, signed_(v.out * s.O), 0};
        // a span of rows lies in a row of the image, the next one `dilation` further
        for (size_t row = rows.begin, end; row < rows.end; row = end) {
            const size_t which = row / span, from = row - which * span;
            end = (which + 1) * span < rows.end ? (which + 1) * span : rows.end;
            const size_t kh = s.joined() ? which : which / v.kernel, kw = s.joined() ? 0 : which % v.kernel;
            const Real* const a = x + kh * h.dilation * image.row + kw * v.dilation * C + from;
            Real* const to = g + (row - rows.begin) * s.O;
            if (s.depthwise())
                products(runs, C, a, v.stride * C, dz, first, to);
            else
                span_of(s, runs, end - row, a, dz, first, to);
        }
    }

    // M rows of dw, whose x lie side by side
    static void span_of(const Shape& s, const Runs& runs, size_t M, const Real* a, const Real* dz, bool first,
                        Real* g) {
        const size_t step = s.w.w.stride * s.w.channels;
        for (size_t group = 0; group < s.w.groups; ++group) {
            const Real *x = a + group * s.J, *d = dz + group * s.OG;
            Real* const to = g + group * s.OG;
            if (2 * s.OG <= W && M >= s.OG)
                transposed_span(s, runs, M, x, step, d, first, to);
            else
                multiply_runs<true>(runs, M, s.OG, x, step, {d, s.O, kPanel, true}, nullptr, first, to, s.O);
        }
    }
    // Of few channels that go out, as vectors along those that come in: the same sums.
    static void transposed_span(const Shape& s, const Runs& runs, size_t M, const Real* x, size_t step,
                                const Real* dz, bool first, Real* g) {
        Real* const made = static_cast<Real*>(fastnn::scratch(fastnn::kThin, M * s.OG * sizeof(Real)));
        if (!first)
            for (size_t o = 0; o < s.OG; ++o)
                for (size_t m = 0; m < M; ++m) made[o * M + m] = g[m * s.O + o];
        const Runs turned{runs.outer,   runs.inner,   runs.K,      runs.b_outer,
                          runs.b_inner, runs.a_outer, runs.a_inner};
        multiply_runs<true>(turned, s.OG, M, dz, s.O, {x, step, kPanel, true}, nullptr, first, made, M);
        for (size_t m = 0; m < M; ++m)
            for (size_t o = 0; o < s.OG; ++o) g[m * s.O + o] = made[o * M + m];
    }
    // A group of one channel each: one row of dw.
    static void products(const Runs& runs, size_t C, const Real* x, size_t step, const Real* dz, bool first,
                         Real* g) {
        for_vectors(C, [&](size_t j, auto lanes) {
            V acc = first ? V{} : load(g + j, lanes);
            for (size_t y = 0; y < runs.outer; ++y) {
                const Real *a = x + signed_(y) * runs.a_outer + j, *d = dz + signed_(y) * runs.b_outer + j;
                for (size_t i = 0; i < runs.K; ++i, a += step, d += C) acc += load(a, lanes) * load(d, lanes);
            }
            store(g + j, acc, lanes);
        });
    }
};

}  // namespace
}  // namespace ops
