// Every kernel of every instruction set here against plain long double loops. No Python, no SIMD, nothing shared with the
// kernels but table.hpp.
//
// Sizes sit around the vector width. Outputs start as NaN. Buffers end at a page that must not be touched, or begin after
// one, so a read or write outside them is a crash; ends at a page also make them misaligned. Tolerances follow from the
// number of roundings. Prints a line a kernel, returns 1 if any failed.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#ifdef FASTNN_QUADMATH
#include <quadmath.h>
#endif

#include "../dispatch.hpp"
#include "../threads.hpp"

#ifdef FASTNN_LOWERED  // 64-byte vectors compiled for AVX2: the AVX-512 tiles and tails on a CPU without it
namespace fastnn {
namespace lowered {
extern const Table<float> float_table;
extern const Table<double> double_table;
}  // namespace lowered
}  // namespace fastnn
#endif

namespace {

using Ref = long double;
std::mt19937_64 g_random(1);
bool g_at_end = true;  // where buffers touch a guard page

// n elements between guard pages.
template <class T>
class Buffer {
  public:
    explicit Buffer(size_t n, T fill = std::numeric_limits<T>::quiet_NaN()) : n_(n) {
        const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
        inner_ = (n * sizeof(T) + page) / page * page;
        total_ = inner_ + 2 * page;
        base_ = static_cast<char*>(mmap(nullptr, total_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        if (base_ == MAP_FAILED || mprotect(base_ + page, inner_, PROT_READ | PROT_WRITE) != 0) std::abort();
        data_ = reinterpret_cast<T*>(g_at_end ? base_ + page + inner_ - n * sizeof(T) : base_ + page);
        for (size_t i = 0; i < n; ++i) data_[i] = fill;
    }
    Buffer(const Buffer& other) : Buffer(other.n_) { std::memcpy(data_, other.data_, n_ * sizeof(T)); }
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { munmap(base_, total_); }
    operator T*() const { return data_; }
    T* get() const { return data_; }
    size_t size() const { return n_; }

  private:
    size_t n_, inner_, total_;
    char* base_;
    T* data_;
};

template <class T>
Buffer<T> uniform(size_t n, double low, double high) {
    Buffer<T> b(n);
    std::uniform_real_distribution<double> d(low, high);
    for (size_t i = 0; i < n; ++i) b[i] = static_cast<T>(d(g_random));
    return b;
}

// The worst error of a kernel, as a fraction of its bound.
struct Report {
    std::map<std::string, Ref> worst;
    std::vector<std::string> order;
    std::set<std::string> skipped;
    bool failed = false;

    void add(const std::string& kernel, Ref got, Ref want, Ref bound) {
        if (worst.find(kernel) == worst.end()) order.push_back(kernel), worst[kernel] = 0;
        Ref e = std::fabs(got - want) / bound;
        if (got == want || (std::isnan(got) && std::isnan(want))) e = 0;
        if (std::isnan(e)) e = std::numeric_limits<Ref>::infinity();
        if (e > worst[kernel]) worst[kernel] = e;
    }
    void print(const char* label) {
        for (const auto& kernel : order) {
            const bool bad = !(worst[kernel] <= 1);
            failed |= bad;
            std::printf("%-20s %-34s %8.3Lf of the bound%s\n", label, kernel.c_str(), worst[kernel],
                        bad ? "  FAILED" : "");
        }
    }
};

// Scalar formulas ------------------------------------------------------------------------------------------

struct Formula {
    std::function<Ref(Ref, Ref)> value, derivative;  // (z, alpha), (saved, alpha)
    bool saves_z;
};
Ref sigmoid(Ref z) { return 1 / (1 + std::exp(-z)); }
#ifdef FASTNN_QUADMATH  // Bochs emulates the x87 logarithm, which the C library uses, with an error of 2^-50
Ref ref_log(Ref x) { return static_cast<Ref>(logq(x)); }
Ref ref_log1p(Ref x) { return static_cast<Ref>(log1pq(x)); }
#else
Ref ref_log(Ref x) { return std::log(x); }
Ref ref_log1p(Ref x) { return std::log1p(x); }
#endif

Ref softplus(Ref z) { return std::fmax(z, Ref(0)) + ref_log1p(std::exp(-std::fabs(z))); }
Ref step(bool b) { return b ? 1 : 0; }
const Ref kSelu = 1.0507009873554804934193349852946L, kSeluAlpha = 1.6732632423543772848170429916717L;
const Ref kPi = 3.14159265358979323846264338327950288L;
Ref gelu_t(Ref z) { return std::tanh(std::sqrt(2 / kPi) * (z + 0.044715L * z * z * z)); }
Ref phi(Ref z) { return 0.5L * (1 + std::erf(z * std::sqrt(0.5L))); }

const std::map<std::string, Formula> kActivations = {
    {"identity", {[](Ref z, Ref) { return z; }, [](Ref, Ref) { return Ref(1); }, false}},
    {"binary_step",
     {[](Ref z, Ref) { return step(z >= 0); }, [](Ref z, Ref) { return step(std::fabs(z) <= 1); }, true}},
    {"sigmoid", {[](Ref z, Ref) { return sigmoid(z); }, [](Ref a, Ref) { return a * (1 - a); }, false}},
    {"tanh", {[](Ref z, Ref) { return std::tanh(z); }, [](Ref a, Ref) { return 1 - a * a; }, false}},
    {"relu", {[](Ref z, Ref) { return z > 0 ? z : 0; }, [](Ref a, Ref) { return step(a > 0); }, false}},
    {"leaky_relu",
     {[](Ref z, Ref c) { return z > 0 ? z : c * z; }, [](Ref a, Ref c) { return a > 0 ? 1 : c; }, false}},
    {"elu",
     {[](Ref z, Ref c) { return z > 0 ? z : c * std::expm1(z); },
      [](Ref a, Ref c) { return a > 0 ? 1 : a + c; }, false}},
    {"selu",
     {[](Ref z, Ref) { return kSelu * (z > 0 ? z : kSeluAlpha * std::expm1(z)); },
      [](Ref a, Ref) { return a > 0 ? kSelu : a + kSelu * kSeluAlpha; }, false}},
    {"softplus", {[](Ref z, Ref) { return softplus(z); }, [](Ref z, Ref) { return sigmoid(z); }, true}},
    {"gelu",
     {[](Ref z, Ref) { return z * phi(z); },
      [](Ref z, Ref) { return phi(z) + z * std::exp(-0.5L * z * z) / std::sqrt(2 * kPi); }, true}},
    {"gelu_tanh",
     {[](Ref z, Ref) { return 0.5L * z * (1 + gelu_t(z)); },
      [](Ref z, Ref) {
          const Ref t = gelu_t(z);
          return 0.5L * (1 + t) + 0.5L * z * (1 - t * t) * std::sqrt(2 / kPi) * (1 + 3 * 0.044715L * z * z);
      },
      true}},
    {"silu",
     {[](Ref z, Ref) { return z * sigmoid(z); },
      [](Ref z, Ref) { return sigmoid(z) * (1 + z * (1 - sigmoid(z))); }, true}},
    {"mish",
     {[](Ref z, Ref) { return z * std::tanh(softplus(z)); },
      [](Ref z, Ref) {
          const Ref t = std::tanh(softplus(z));
          return t + z * (1 - t * t) * sigmoid(z);
      },
      true}},
    {"hard_sigmoid",
     {[](Ref z, Ref) { return std::fmin(std::fmax(z / 6 + 0.5L, Ref(0)), Ref(1)); },
      [](Ref a, Ref) { return a > 0 && a < 1 ? Ref(1) / 6 : 0; }, false}},
    {"hard_tanh",
     {[](Ref z, Ref) { return std::fmin(std::fmax(z, Ref(-1)), Ref(1)); },
      [](Ref a, Ref) { return step(std::fabs(a) < 1); }, false}},
    {"softsign",
     {[](Ref z, Ref) { return z / (1 + std::fabs(z)); },
      [](Ref a, Ref) { return (1 - std::fabs(a)) * (1 - std::fabs(a)); }, false}},
    {"exponential", {[](Ref z, Ref) { return std::exp(z); }, [](Ref a, Ref) { return a; }, false}},
};

struct PointLoss {
    std::function<Ref(Ref, Ref, Ref)> value, gradient;  // (z, y, parameter)
};
Ref smooth(Ref y, Ref s) { return y * (1 - s) + 0.5L * s; }
const std::map<std::string, PointLoss> kPointLosses = {
    {"mse",
     {[](Ref z, Ref y, Ref) { return (z - y) * (z - y); }, [](Ref z, Ref y, Ref) { return 2 * (z - y); }}},
    {"half_mse",
     {[](Ref z, Ref y, Ref) { return 0.5L * (z - y) * (z - y); }, [](Ref z, Ref y, Ref) { return z - y; }}},
    {"mae",
     {[](Ref z, Ref y, Ref) { return std::fabs(z - y); },
      [](Ref z, Ref y, Ref) { return z > y   ? Ref(1)
                                     : z < y ? Ref(-1)
                                             : Ref(0); }}},
    {"huber",
     {[](Ref z, Ref y, Ref d) {
          const Ref r = std::fabs(z - y);
          return r <= d ? 0.5L * r * r : d * (r - 0.5L * d);
      },
      [](Ref z, Ref y, Ref d) { return std::fmin(std::fmax(z - y, -d), d); }}},
    {"poisson",
     {[](Ref z, Ref y, Ref) { return std::exp(z) - y * z; },
      [](Ref z, Ref y, Ref) { return std::exp(z) - y; }}},
    {"binary_cross_entropy",
     {[](Ref z, Ref y, Ref s) { return softplus(z) - z * smooth(y, s); },
      [](Ref z, Ref y, Ref s) { return sigmoid(z) - smooth(y, s); }}},
};

using Slots = std::vector<Ref>;
using Coefficients = std::vector<Ref>;
Ref adaptive(Ref m, Ref v, Ref root, Ref epsilon) { return m / (std::sqrt(v) * root + epsilon); }
const std::map<std::string, std::function<Ref(Ref, Slots&, const Coefficients&)>> kRules = {
    {"sgd", [](Ref g, Slots&, const Coefficients& c) { return c[0] * g; }},
    {"momentum",
     [](Ref g, Slots& s, const Coefficients& c) { return c[0] * (s[0] = c[1] * s[0] + c[2] * g); }},
    {"nesterov",
     [](Ref g, Slots& s, const Coefficients& c) { return c[0] * (g + c[1] * (s[0] = c[1] * s[0] + g)); }},
    {"adagrad",
     [](Ref g, Slots& s, const Coefficients& c) { return c[0] * adaptive(g, s[0] += g * g, 1, c[1]); }},
    {"adadelta",
     [](Ref g, Slots& s, const Coefficients& c) {
         s[0] = c[1] * s[0] + c[2] * g * g;
         const Ref d = std::sqrt(s[1] + c[3]) / std::sqrt(s[0] + c[3]) * g;
         s[1] = c[1] * s[1] + c[2] * d * d;
         return c[0] * d;
     }},
    {"rmsprop",
     [](Ref g, Slots& s, const Coefficients& c) {
         return c[0] * adaptive(g, s[0] = c[1] * s[0] + c[2] * g * g, 1, c[3]);
     }},
    {"adam",
     [](Ref g, Slots& s, const Coefficients& c) {
         s[0] = c[1] * s[0] + c[2] * g, s[1] = c[3] * s[1] + c[4] * g * g;
         return c[0] * adaptive(s[0], s[1], c[5], c[6]);
     }},
    {"amsgrad",
     [](Ref g, Slots& s, const Coefficients& c) {
         s[0] = c[1] * s[0] + c[2] * g, s[1] = c[3] * s[1] + c[4] * g * g, s[2] = std::fmax(s[2], s[1]);
         return c[0] * adaptive(s[0], s[2], c[5], c[6]);
     }},
    {"nadam",
     [](Ref g, Slots& s, const Coefficients& c) {
         s[0] = c[2] * s[0] + c[3] * g, s[1] = c[4] * s[1] + c[5] * g * g;
         return adaptive(c[0] * s[0] + c[1] * g, s[1], c[6], c[7]);
     }},
};

const std::map<std::string, Ref (*)(Ref)> kFunctions = {
    {"exp", std::exp},   {"log", ref_log},     {"log1p", ref_log1p}, {"expm1", std::expm1},
    {"tanh", std::tanh}, {"sigmoid", sigmoid}, {"erf", std::erf},    {"softplus", softplus},
};

uint32_t philox_bits(uint64_t element, const fastnn::RandomKey& key) {
    uint64_t c[4] = {element / 4, key.op, key.step & 0xffffffffu, key.step >> 32};
    uint32_t k0 = static_cast<uint32_t>(key.seed), k1 = static_cast<uint32_t>(key.seed >> 32);
    for (int round = 0; round < 7; ++round) {
        const uint64_t p0 = c[0] * 0xD2511F53u, p1 = c[2] * 0xCD9E8D57u;
        const uint64_t next[4] = {(p1 >> 32) ^ c[1] ^ k0, p1 & 0xffffffffu, (p0 >> 32) ^ c[3] ^ k1,
                                  p0 & 0xffffffffu};
        std::memcpy(c, next, sizeof c);
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    return static_cast<uint32_t>(c[element % 4]);
}

// The checks -------------------------------------------------------------------------------------------------

template <class T>
class Check {
  public:
    explicit Check(const fastnn::Table<T>& t) : t_(t), W_(static_cast<size_t>(t.vector_bytes) / sizeof(T)) {}

    Report run() {
        functions();
        const size_t sizes[] = {1, W_ - 1, W_, W_ + 1, 4 * W_ + 3};
        for (const size_t O : sizes)
            for (const size_t B : {size_t(1), size_t(2), W_ + 1, size_t(19)}) {
                elementwise(B, O);
                rows(B, O);
                norms(B, O);
                losses(B, O);
                for (const size_t I : sizes) dense(B, I, O, code("relu"));
            }
        for (int f = 0; f < t_.activations; ++f) dense(7, W_ + 3, 2 * W_ + 1, f);
        dense(130, 70, 65, code("tanh"));      // packed
        dense(30, 500, 60, code("identity"));  // several blocks of k
        dense(3, 40, 1100, code("relu"));      // several blocks of columns
        dense(13, 1100, 3, code("relu"));
        dense(1, 600, 50, code("relu"));
        for (const size_t n : {size_t(1), W_ - 1, W_, 4 * W_ + 3, size_t(20000)}) {
            update(n);
            squared_norm(n);
            shuffle(n);
        }
        for (const size_t I : sizes) gather(9, I), moments(300, I);
        return report_;
    }

  private:
    const fastnn::Table<T>& t_;
    const size_t W_;
    const Ref eps_ = std::numeric_limits<T>::epsilon();
    Report report_;

    int code(const char* name) const {
        for (int i = 0; i < t_.activations; ++i)
            if (std::strcmp(t_.activation_names[i], name) == 0) return i;
        std::abort();
    }
    void add(const std::string& kernel, Ref got, Ref want, Ref bound) {
        report_.add(kernel, got, want, bound + 1e-300L);
    }

    // A formula that was added since and is not written out here: tests/ check it against reference.py.
    void skip(const std::string& name) { report_.skipped.insert(name); }

    void functions() {
        for (int f = 0; f < t_.functions; ++f) {
            const auto found = kFunctions.find(t_.function_names[f]);
            if (found == kFunctions.end()) {
                skip(t_.function_names[f]);
                continue;
            }
            const Ref inf = std::numeric_limits<Ref>::infinity();
            Buffer<T> x = uniform<T>(4096, -20, 20), out(x.size());
            const T special[] = {T(0),
                                 T(-1),
                                 T(1),
                                 T(inf),
                                 T(-inf),
                                 T(NAN),
                                 T(1000),
                                 T(-1000),
                                 T(1e-30),
                                 T(-1e-30),
                                 std::numeric_limits<T>::denorm_min(),
                                 std::numeric_limits<T>::max(),
                                 std::numeric_limits<T>::lowest(),
                                 T(-0.9999),
                                 T(-87.5),
                                 T(-103),
                                 T(-740)};
            std::memcpy(x, special, sizeof special);
            t_.function(f, x.size(), x, out);
            for (size_t i = 0; i < x.size(); ++i) {
                Ref want = found->second(x[i]);
                if (std::fabs(want) > std::numeric_limits<T>::max()) want = want > 0 ? inf : -inf;
                const Ref ulp = std::fmax(std::fabs(want) * eps_, Ref(std::numeric_limits<T>::denorm_min()));
                add(std::string("math ") + t_.function_names[f], out[i], want, 4 * ulp);
            }
        }
    }

    void dense(size_t B, size_t I, size_t O, int f) {
        const auto found = kActivations.find(t_.activation_names[f]);
        if (found == kActivations.end()) return;  // elementwise says so
        const Formula& formula = found->second;
        const T alpha = T(0.25);
        const size_t pad = B % 2;  // odd B: the matrices are parts of wider ones
        const bool packed = f % 2 == 0;
        const size_t ldx = I + pad, ldo = O + pad;
        Buffer<T> x = uniform<T>(B * ldx, -1, 1), w = uniform<T>(I * ldo, -1, 1), b = uniform<T>(O, -1, 1);
        Buffer<T> z(B * ldo), a(B * ldo);
        const size_t width = t_.panel_columns, wide_o = (O + width - 1) / width * width,
                     wide_i = (I + width - 1) / width * width;
        const auto given = [&](Buffer<T>& panels) -> const T* {
            return packed ? static_cast<T*>(panels) : nullptr;
        };
        Buffer<T> w_panels(wide_o * I), transposed(wide_i * O), dz_panels(wide_o * B);
        // in two calls each, as the tasks of an engine do
        const size_t half_i = I / 2 / width * width, half_b = B / 2;
        t_.pack_panels(half_i, O, w, ldo, 0, I, false, w_panels);
        t_.pack_panels(I - half_i, O, w + half_i * ldo, ldo, half_i, I, true, w_panels);
        t_.pack_transposed_panels(half_i, O, w, ldo, 0, false, transposed);
        t_.pack_transposed_panels(I - half_i, O, w + half_i * ldo, ldo, half_i, true, transposed);
        t_.dense_forward(B, I, O, x, ldx, w, ldo, given(w_panels), b, f, alpha, z, ldo, a, ldo);
        for (size_t i = 0; i < B; ++i)
            for (size_t o = 0; o < ldo; ++o) {
                const T zi = z[i * ldo + o], ai = a[i * ldo + o];
                if (o >= O) {
                    add("dense_forward beside the block", std::isnan(zi) && std::isnan(ai) ? 0 : 1, 0, 0.5L);
                    continue;
                }
                Ref want = b[o], size = std::fabs(b[o]);
                for (size_t k = 0; k < I; ++k) {
                    const Ref term = Ref(x[i * ldx + k]) * w[k * ldo + o];
                    want += term, size += std::fabs(term);
                }
                add("dense_forward z", zi, want, (I + 2) * eps_ * size);
                const Ref value = formula.value(zi, alpha);
                add(std::string("dense_forward ") + t_.activation_names[f], ai, value,
                    6 * eps_ * (std::fabs(value) + std::fmax(Ref(1), std::fabs(Ref(zi)))));
            }

        Buffer<T> dz = uniform<T>(B * ldo, -1, 1), saved = uniform<T>(B * ldx, -1.5, 1.5), dx(B * ldx),
                  dw(I * ldo), db(O);
        t_.pack_panels(half_b, O, dz, ldo, 0, B, false, dz_panels);
        t_.pack_panels(B - half_b, O, dz + half_b * ldo, ldo, half_b, B, true, dz_panels);
        t_.dense_backward_input(B, I, O, dz, ldo, w, ldo, given(transposed), f, alpha, saved, ldx, dx, ldx);
        for (size_t i = 0; i < B; ++i)
            for (size_t k = 0; k < I; ++k) {
                Ref want = 0, size = 0;
                for (size_t o = 0; o < O; ++o) {
                    const Ref term = Ref(dz[i * ldo + o]) * w[k * ldo + o];
                    want += term, size += std::fabs(term);
                }
                const Ref slope = formula.derivative(saved[i * ldx + k], alpha);
                add(std::string("dense_backward_input ") + t_.activation_names[f], dx[i * ldx + k],
                    want * slope, (O + 10) * eps_ * size * (std::fabs(slope) + 4));
            }
        t_.dense_backward_weights(B, I, O, x, ldx, dz, ldo, given(dz_panels), dw, ldo, db);
        for (size_t o = 0; o < O; ++o) {
            Ref sum = 0, sum_size = 0;
            for (size_t i = 0; i < B; ++i) sum += dz[i * ldo + o], sum_size += std::fabs(dz[i * ldo + o]);
            add("dense_backward_weights db", db[o], sum, (B + 2) * eps_ * sum_size);
            for (size_t k = 0; k < I; ++k) {
                Ref want = 0, size = 0;
                for (size_t i = 0; i < B; ++i) {
                    const Ref term = Ref(x[i * ldx + k]) * dz[i * ldo + o];
                    want += term, size += std::fabs(term);
                }
                add("dense_backward_weights dw", dw[k * ldo + o], want, (B + 2) * eps_ * size);
            }
        }
    }

    void elementwise(size_t B, size_t O) {
        const size_t n = B * O;
        Buffer<T> z = uniform<T>(n, -4, 4), saved = uniform<T>(n, -1.5, 1.5), da = uniform<T>(n, -1, 1);
        for (int f = 0; f < t_.activations; ++f) {
            const auto found = kActivations.find(t_.activation_names[f]);
            if (found == kActivations.end()) {
                skip(t_.activation_names[f]);
                continue;
            }
            Buffer<T> a(n), dz(n);
            t_.activation_forward(f, 0.25, n, z, a);
            t_.activation_backward(f, 0.25, n, saved, da, dz);
            for (size_t i = 0; i < n; ++i) {
                const Ref value = found->second.value(z[i], 0.25L),
                          slope = found->second.derivative(saved[i], 0.25L);
                add(std::string("activation ") + t_.activation_names[f], a[i], value,
                    6 * eps_ * (std::fabs(value) + 4));
                add(std::string("activation_backward ") + t_.activation_names[f], dz[i], da[i] * slope,
                    10 * eps_ * std::fabs(da[i]) * (std::fabs(slope) + 4));
            }
        }
        const fastnn::RandomKey key{0x123456789abcdef0u + n, (uint64_t(3) << 32) + 5, 7};
        for (const size_t first : {size_t(0), size_t(6)}) {
            Buffer<T> out(n), up(n), back(n);
            t_.dropout(first, n, z, uint64_t(0.3 * 4294967296.0), 1 / 0.7, key, out);
            t_.rrelu_forward(first, n, z, 0.125, 0.375, key, up);
            t_.rrelu_backward(first, n, z, 0.125, 0.375, key, da, back);
            for (size_t i = 0; i < n; ++i) {
                const uint32_t bits = philox_bits(first + i, key);
                const bool keep = bits >= uint64_t(0.3 * 4294967296.0);
                add("dropout", out[i], keep ? z[i] / 0.7L : 0, 2 * eps_ * std::fabs(z[i]));
                const Ref slope = z[i] > 0 ? 1 : 0.125L + 0.25L * (bits / 4294967296.0L);
                add("rrelu_forward", up[i], slope * z[i], 4 * eps_ * std::fabs(z[i]));
                add("rrelu_backward", back[i], slope * da[i], 4 * eps_ * std::fabs(da[i]));
            }
        }
    }

    void rows(size_t B, size_t O) {
        const size_t n = B * O;
        Buffer<T> z = uniform<T>(n, -4, 4), da = uniform<T>(n, -1, 1), a(n), dz(n);
        t_.softmax_forward(B, O, z, a);
        t_.softmax_backward(B, O, a, da, dz);
        for (size_t i = 0; i < B; ++i) {
            Ref total = 0, mean = 0, size = 0;
            for (size_t o = 0; o < O; ++o) total += std::exp(Ref(z[i * O + o]));
            for (size_t o = 0; o < O; ++o) {
                const Ref term = Ref(a[i * O + o]) * da[i * O + o];
                mean += term, size += std::fabs(term);
            }
            for (size_t o = 0; o < O; ++o) {
                const Ref want = std::exp(Ref(z[i * O + o])) / total;
                add("softmax_forward", a[i * O + o], want, (O + 16) * eps_ * want);
                add("softmax_backward", dz[i * O + o], a[i * O + o] * (da[i * O + o] - mean),
                    (O + 8) * eps_ * a[i * O + o] * (std::fabs(da[i * O + o]) + size));
            }
        }
        for (const size_t pieces : {size_t(1), size_t(3)}) {
            Buffer<T> wide = uniform<T>(n * pieces, -4, 4), best(n), back(n * pieces);
            Buffer<int32_t> winner(n, -1);
            t_.maxout_forward(B, O, pieces, wide, best, winner);
            t_.maxout_backward(B, O, pieces, winner, da, back);
            for (size_t i = 0; i < n; ++i) {
                size_t first = 0;
                for (size_t k = 1; k < pieces; ++k)
                    if (wide[i * pieces + k] > wide[i * pieces + first]) first = k;
                add("maxout_forward", best[i], wide[i * pieces + first], eps_);
                add("maxout_forward winner", winner[i], first, 0.5L);
                for (size_t k = 0; k < pieces; ++k)
                    add("maxout_backward", back[i * pieces + k], k == first ? da[i] : 0, eps_ * 1e-9L);
            }
        }
        Buffer<T> slope = uniform<T>(O, 0, 0.5), out(n), back(n), dslope(O);
        t_.prelu_forward(B, O, z, slope, out);
        t_.prelu_backward(B, O, z, slope, da, back);
        t_.prelu_backward_slope(B, O, z, da, dslope);
        for (size_t o = 0; o < O; ++o) {
            Ref want = 0, size = 0;
            for (size_t i = 0; i < B; ++i) {
                const Ref v = z[i * O + o], s = v > 0 ? 1 : slope[o];
                add("prelu_forward", out[i * O + o], s * v, eps_ * std::fabs(v));
                add("prelu_backward", back[i * O + o], s * da[i * O + o], eps_ * std::fabs(da[i * O + o]));
                const Ref term = da[i * O + o] * std::fmin(v, Ref(0));
                want += term, size += std::fabs(term);
            }
            add("prelu_backward dslope", dslope[o], want, (B + 2) * eps_ * size);
        }
    }

    // groups of `count` elements, element e of group g at g * a + e * b; scale and shift of an element indexed by g (batch
    // norm) or by e (layer norm)
    void norm(const char* name, bool batch, size_t B, size_t O) {
        const size_t n = B * O, groups = batch ? O : B, count = batch ? B : O;
        Buffer<T> x = uniform<T>(n, -1, 1), gamma = uniform<T>(O, 0.5, 2), beta = uniform<T>(O, -1, 1),
                  da = uniform<T>(n, -1, 1);
        Buffer<T> mean(groups), inv_std(groups), a(n), dx(n), dgamma(O), dbeta(O);
        Buffer<T> running_mean = uniform<T>(O, -1, 1), running_var = uniform<T>(O, 0.5, 2),
                  mean0 = running_mean, var0 = running_var;
        const double epsilon = 0.05, momentum = 0.9;
        if (batch) {
            t_.batch_norm_forward(B, O, O, x, gamma, beta, momentum, epsilon, running_mean, running_var, mean,
                                  inv_std, a);
            t_.batch_norm_backward(B, O, O, x, gamma, mean, inv_std, da, dx, dgamma, dbeta);
        } else {
            t_.layer_norm_forward(B, O, x, gamma, beta, epsilon, mean, inv_std, a);
            t_.layer_norm_backward(B, O, x, gamma, mean, inv_std, da, dx);
            t_.layer_norm_backward_weights(B, O, x, mean, inv_std, da, dgamma, dbeta);
        }
        const auto at = [&](size_t g, size_t e) { return batch ? e * O + g : g * O + e; };
        std::vector<Ref> want_dgamma(O, 0), want_dbeta(O, 0);
        const Ref tolerance = (2 * static_cast<Ref>(n) + 40) * eps_;
        for (size_t g = 0; g < groups; ++g) {
            Ref m = 0, v = 0, sum = 0, product = 0;
            for (size_t e = 0; e < count; ++e) m += x[at(g, e)];
            m /= count;
            for (size_t e = 0; e < count; ++e) v += (x[at(g, e)] - m) * (x[at(g, e)] - m);
            v /= count;
            const Ref s = 1 / std::sqrt(v + epsilon);
            add(std::string(name) + "_forward mean", mean[g], m, tolerance);
            add(std::string(name) + "_forward inv_std", inv_std[g], s, tolerance * s * (1 + s * s));
            for (size_t e = 0; e < count; ++e) {
                const size_t i = at(g, e), o = batch ? g : e;
                const Ref x_hat = (x[i] - m) * s, dx_hat = Ref(da[i]) * gamma[o];
                sum += dx_hat, product += dx_hat * x_hat;
                want_dgamma[o] += da[i] * x_hat, want_dbeta[o] += da[i];
                add(std::string(name) + "_forward a", a[i], gamma[o] * x_hat + beta[o],
                    tolerance * 8 * (1 + s * s));
            }
            for (size_t e = 0; e < count; ++e) {
                const size_t i = at(g, e), o = batch ? g : e;
                const Ref x_hat = (x[i] - m) * s;
                add(std::string(name) + "_backward dx", dx[i],
                    s * (Ref(da[i]) * gamma[o] - (sum + x_hat * product) / count),
                    tolerance * 8 * s * (1 + s * s) * (1 + s));
            }
            if (batch) {
                const bool kept = B == 1;  // one row has no variance
                add("batch_norm_forward running_mean", running_mean[g],
                    kept ? mean0[g] : 0.9L * mean0[g] + 0.1L * m, tolerance);
                add("batch_norm_forward running_var", running_var[g],
                    kept ? var0[g] : 0.9L * var0[g] + 0.1L * (v * B / (B - 1)), 2 * tolerance);
            }
        }
        for (size_t o = 0; o < O; ++o) {
            add(std::string(name) + "_backward dgamma", dgamma[o], want_dgamma[o], tolerance * 100 * B);
            add(std::string(name) + "_backward dbeta", dbeta[o], want_dbeta[o], tolerance * B);
        }
        if (!batch) return;
        t_.batch_norm_predict(B, O, x, gamma, beta, epsilon, mean0, var0, a);
        for (size_t i = 0; i < n; ++i) {
            const size_t o = i % O;
            add("batch_norm_predict", a[i],
                gamma[o] * (Ref(x[i]) - mean0[o]) / std::sqrt(var0[o] + Ref(epsilon)) + beta[o], 30 * eps_);
        }
    }
    void norms(size_t B, size_t O) {
        norm("batch_norm", true, B, O);
        norm("layer_norm", false, B, O);
    }

    void losses(size_t B, size_t O) {
        const size_t n = B * O;
        Buffer<T> z = uniform<T>(n, -4, 4), y = uniform<T>(n, 0, 1), weight = uniform<T>(B, 0.1, 1);
        Buffer<int64_t> labels(B, 0);
        for (size_t i = 0; i < B; ++i) labels[i] = static_cast<int64_t>(g_random() % O);
        for (int l = 0; l < t_.losses; ++l)
            for (int targets = 1; targets <= 2; ++targets) {
                if (!(t_.loss_targets[l] & targets)) continue;
                const std::string name = t_.loss_names[l];
                const Ref p = 0.25L;
                Buffer<T> value(B), dz(n);
                t_.loss(l, 0.25, B, O, z, targets == 1 ? labels.get() : nullptr,
                        targets == 2 ? y.get() : nullptr, weight, value, dz);
                for (size_t i = 0; i < B; ++i) {
                    Ref want = 0, size = 0, total = 0, mass = 0;
                    std::vector<Ref> gradient(O, 0), q(O, 0);
                    const T *zi = z.get() + i * O, *yi = y.get() + i * O;
                    const size_t label = static_cast<size_t>(labels[i]);
                    const auto point = kPointLosses.find(name);
                    if (point != kPointLosses.end()) {
                        for (size_t o = 0; o < O; ++o) {
                            const Ref v = point->second.value(zi[o], yi[o], p);
                            want += v / O, size += (std::fabs(v) + 8) / O;
                            gradient[o] = point->second.gradient(zi[o], yi[o], p) / O;
                        }
                    } else if (name == "cross_entropy") {
                        for (size_t o = 0; o < O; ++o) {
                            q[o] = (targets == 1 ? Ref(o == label) : Ref(yi[o])) * (1 - p) + p / O;
                            total += std::exp(Ref(zi[o])), mass += q[o];
                        }
                        for (size_t o = 0; o < O; ++o) {
                            want += q[o] * (ref_log(total) - zi[o]), size += 16 * (q[o] + Ref(1) / O);
                            gradient[o] = std::exp(Ref(zi[o])) / total * mass - q[o];
                        }
                    } else if (name == "hinge") {
                        Ref worst = 0;
                        size_t rival = label;
                        for (size_t o = 0; o < O; ++o)
                            if (o != label && zi[o] - zi[label] + 1 > worst)
                                worst = zi[o] - zi[label] + 1, rival = o;
                        want = worst, size = 16;
                        if (rival != label) gradient[rival] = 1, gradient[label] = -1;
                    } else {
                        skip(name);
                        continue;
                    }
                    add("loss " + name, value[i], want, (O + 16) * eps_ * size);
                    for (size_t o = 0; o < O; ++o)
                        add("loss " + name + " dz", dz[i * O + o], gradient[o] * weight[i],
                            (O + 16) * eps_ * weight[i] *
                                (std::fabs(gradient[o]) + (1 + mass) * (name == "poisson" ? 60 : 4)));
                }
            }
    }

    void update(size_t n) {
        for (int r = 0; r < t_.rules; ++r)
            for (const bool plain : {true, false}) {
                const auto found = kRules.find(t_.rule_names[r]);
                if (found == kRules.end()) {
                    skip(t_.rule_names[r]);
                    continue;
                }
                const fastnn::Adjustment adjust = plain ? fastnn::Adjustment{1, INFINITY, 0, 0, 0}
                                                        : fastnn::Adjustment{0.5, 0.3, 0.01, 0.02, 0.001};
                std::vector<double> c;
                for (int k = 0; k < t_.rule_coefficients[r]; ++k) c.push_back(0.1 + 0.1 * k);
                const Coefficients coefficients(c.begin(), c.end());
                Buffer<T> w = uniform<T>(n, -1, 1), g = uniform<T>(n, -1, 1), w0 = w;
                std::vector<Buffer<T>> slots, before;
                T* pointers[8];
                slots.reserve(8), before.reserve(8);
                for (int k = 0; k < t_.rule_slots[r]; ++k) {
                    slots.push_back(uniform<T>(n, 0.1, 1));
                    before.push_back(slots.back());
                    pointers[k] = slots.back();
                }
                t_.update(r, c.data(), adjust, n, w, g, pointers);
                for (size_t i = 0; i < n; ++i) {
                    Slots s;
                    for (const auto& b : before) s.push_back(b[i]);
                    const Ref wi = w0[i];
                    Ref gi = g[i];
                    if (!plain) {
                        gi = std::fmin(std::fmax(gi * 0.5L, -0.3L), 0.3L);
                        gi += (wi > 0 ? 0.01L : wi < 0 ? -0.01L : 0) + 0.02L * wi;
                    }
                    const Ref delta = found->second(gi, s, coefficients);
                    const Ref want = (plain ? wi : wi * 0.999L) - delta;
                    add(std::string("update ") + t_.rule_names[r], w[i], want,
                        16 * eps_ * (1 + std::fabs(delta) * 4));
                    for (size_t k = 0; k < s.size(); ++k)
                        add(std::string("update ") + t_.rule_names[r] + " slots", slots[k][i], s[k],
                            16 * eps_ * (1 + s[k]));
                }
            }
    }

    void shuffle(size_t n) {
        const fastnn::RandomKey key{0x123456789abcdef0u, (uint64_t(7) << 32) + 11, 0xffffffffu};
        Buffer<int64_t> want(n, 0), order(n, -1);
        for (size_t i = 0; i < n; ++i) want[i] = static_cast<int64_t>(i);
        for (size_t i = n; i-- > 1;) {
            const uint64_t low = philox_bits(2 * i, key), high = philox_bits(2 * i + 1, key);
            const auto product = static_cast<unsigned __int128>(high << 32 | low) * (i + 1);
            std::swap(want[i], want[static_cast<size_t>(product >> 64)]);
        }
        t_.shuffle(key, n, order);
        for (size_t i = 0; i < n; ++i) add("shuffle", Ref(order[i]), Ref(want[i]), 0);
    }

    void squared_norm(size_t n) {
        Buffer<T> g = uniform<T>(n, -1, 1);
        Ref want = 0;
        for (size_t i = 0; i < n; ++i) want += Ref(g[i]) * g[i];
        add("squared_norm", t_.squared_norm(n, g), want,
            n * Ref(std::numeric_limits<double>::epsilon()) * want);
    }

    template <class S>
    void gather_from(size_t B, size_t I, fastnn::Stored stored) {
        const size_t n = 6, ld = I + 1;
        Buffer<S> x(n * ld - 1, S(0));  // the last row has no padding after it
        for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<S>(g_random() % 200);
        Buffer<int64_t> rows(B, 0);
        for (size_t i = 0; i < B; ++i) rows[i] = static_cast<int64_t>((i * 5) % n);
        Buffer<T> out(B * I);
        t_.gather(x.get(), stored, static_cast<ptrdiff_t>(ld * sizeof(S)), rows, B, 0, I, out);
        for (size_t i = 0; i < B * I; ++i)
            add("gather", out[i], x[static_cast<size_t>(rows[i / I]) * ld + i % I], eps_ * 1e-9L);
        Buffer<double> shift = uniform<double>(I, -1, 300), scale = uniform<double>(I, -2, 2);
        Buffer<T> normal(B * I);
        t_.gather_normalized(x.get(), stored, static_cast<ptrdiff_t>(ld * sizeof(S)), rows, B, 0, I, shift,
                             scale, normal);
        for (size_t i = 0; i < B * I; ++i) {  // two roundings in double, half an ulp of T
            const Ref v = x[static_cast<size_t>(rows[i / I]) * ld + i % I];
            const Ref want = (v - shift[i % I]) * scale[i % I];
            add("gather_normalized", normal[i], want,
                (eps_ / 2 + 1.01L * std::numeric_limits<double>::epsilon()) * std::fabs(want));
        }
    }
    // Slices of 130 rows: chunks, and groups of rows that are not full.
    template <class S>
    void moments_from(size_t n, size_t I, fastnn::Stored stored) {
        const size_t ld = I + 1, B = n - 1, step = 130, slices = (B + step - 1) / step;
        Buffer<S> x(n * ld - 1, S(0));
        for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<S>(g_random() % 200);
        Buffer<int64_t> rows(B, 0);
        for (size_t i = 0; i < B; ++i) rows[i] = static_cast<int64_t>((i * 7) % n);
        Buffer<double> pivot = uniform<double>(I, 0, 200), unit(I, 0.25), out(4 * slices * I);
        t_.moments(x.get(), stored, static_cast<ptrdiff_t>(ld * sizeof(S)), rows, B, I, step, pivot, unit,
                   out);
        const Ref eps = std::numeric_limits<double>::epsilon();
        for (size_t k = 0; k < slices * I; ++k) {
            const size_t begin = k / I * step, end = std::min(B, begin + step), j = k % I;
            const auto value = [&](size_t i) { return Ref(x[static_cast<size_t>(rows[i]) * ld + j]); };
            Ref low = value(begin), high = low, mean = 0, squares = 0;
            for (size_t i = begin; i < end; ++i) {
                low = std::min(low, value(i)), high = std::max(high, value(i));
                mean += (value(i) - pivot[j]) * unit[j] / (end - begin);
            }
            for (size_t i = begin; i < end; ++i) {
                const Ref d = (value(i) - pivot[j]) * unit[j] - mean;
                squares += d * d;
            }
            add("moments", out[k], low, 0), add("moments", out[slices * I + k], high, 0);
            add("moments", out[2 * slices * I + k], mean, eps * 16 * 50);  // |x - pivot| unit <= 50
            add("moments", out[3 * slices * I + k], squares, eps * step * (squares + 50 * 50));
        }
    }
    void moments(size_t n, size_t I) {
        moments_from<float>(n, I, fastnn::kFloat32);
        moments_from<double>(n, I, fastnn::kFloat64);
        moments_from<uint8_t>(n, I, fastnn::kUint8);
    }
    void gather(size_t B, size_t I) {
        gather_from<float>(B, I, fastnn::kFloat32);
        gather_from<double>(B, I, fastnn::kFloat64);
        gather_from<uint8_t>(B, I, fastnn::kUint8);
    }
};

std::set<std::string> g_skipped;

template <class T>
bool run(const fastnn::Table<T>& table, const char* type) {
    bool ok = true;
    for (const bool at_end : {true, false}) {
        g_at_end = at_end;
        Report report = Check<T>(table).run();
        report.print((std::string(table.instruction_set) + " " + type).c_str());
        ok &= !report.failed;
        g_skipped.insert(report.skipped.begin(), report.skipped.end());
    }
    return ok;
}

}  // namespace

// parity [NAME...]: the instruction sets of those names, or all that run here.
int main(int count, char** names) {
    const auto wanted = [&](const char* name) {
        return count == 1 ||
               std::any_of(names + 1, names + count, [&](const char* n) { return !std::strcmp(n, name); });
    };
    int checked = 0;
    bool ok = true;
    const auto check = [&](const fastnn::Table<float>& f, const fastnn::Table<double>& d) {
        if (!wanted(f.instruction_set)) return;
        ++checked;
        ok &= run(f, "float32") & run(d, "float64");
    };
    const auto& sets = fastnn::instruction_sets();
    for (int i = 0; i < sets.count; ++i) check(*sets.items[i].float_table, *sets.items[i].double_table);
#ifdef FASTNN_LOWERED
    if (sets.find("avx2") >= 0) check(fastnn::lowered::float_table, fastnn::lowered::double_table);
#endif
    ok &= checked > 0;
    for (const auto& name : g_skipped) std::printf("not checked, has no definition here: %s\n", name.c_str());
    std::printf("%s\n", !checked ? "no such instruction set here" : ok ? "all kernels agree" : "FAILED");
    return ok ? 0 : 1;
}
