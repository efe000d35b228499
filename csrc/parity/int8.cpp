// Products of rows with matrices of bytes, to the bit, in every way that an instruction set has: see kernels/serve_int8.hpp.
#include "checks.hpp"

namespace parity {
namespace {

// Nothing here may become a multiply-add.
struct Rounded {
    volatile float value;
    operator float() const { return value; }
};
float times(float a, float b) { return Rounded{a * b}; }

struct Matrix {
    Matrix(size_t K, size_t N)
        : weights(K * N), scale(uniform<float>(N, 0, 1e-2)), bias(uniform<float>(N, -1, 1)) {
        for (size_t i = 0; i < K * N; ++i) weights[i] = static_cast<int8_t>(g_random() % 255) - 127;
    }
    Buffer<int8_t> weights;
    Buffer<float> scale, bias;
};

// z (N,) of a row x (K,).
void define(const Matrix& w, size_t K, size_t N, const float* x, float* z) {
    float most = 0;
    bool negative = false, finite = true;
    for (size_t k = 0; k < K; ++k) {
        most = std::max(most, std::fabs(x[k])), negative |= x[k] < 0;
        finite &= std::isfinite(x[k]);
    }
    const float levels = negative ? 127 : 255;
    const bool counts = finite && most >= 0x1p-120f;
    const float inverse = counts ? levels / most : 0, factor = finite ? most / levels : NAN;
    for (size_t o = 0; o < N; ++o) {
        int64_t sum = 0;
        for (size_t k = 0; k < K; ++k)
            sum += counts ? static_cast<int64_t>(std::nearbyint(times(x[k], inverse))) * w.weights[k * N + o]
                          : 0;
        z[o] = times(times(static_cast<float>(sum), w.scale[o]), factor) + w.bias[o];
    }
}

// Rows of every kind in turn.
void fill(float* x, size_t M, size_t K) {
    for (size_t m = 0; m < M; ++m) {
        float* const row = x + m * K;
        const double low[] = {-1, 0, -1e-38, 0, -3e38, 2, -7}, high[] = {1, 1, 1e-39, 3e38, 3e38, 2, -7};
        fill_uniform(row, K, low[m % 7], std::max(high[m % 7], low[m % 7]));
        if (m % 11 == 9) std::fill_n(row, K, -0.0f);
        if (m == 10) row[K - 1] = INFINITY;
        if (m == 12) row[0] = NAN;
    }
}

void multiply(const fastnn::Int8Way<float>& way, size_t M, size_t K, size_t N, Report& report) {
    const Matrix w(K, N);
    Buffer<char> packed(way.bytes(K, N));
    const auto whole = way.pack({K, N, w.weights, w.scale, w.bias}, packed.get());
    Buffer<float> x(M * K), z(M * N), want(N);
    fill(x, M, K);
    whole.multiply(whole, M, x, z);
    Line& line = report.line(std::string("int8 ") + way.name);
    for (size_t m = 0; m < M; ++m) {
        define(w, K, N, x + m * K, want);
        for (size_t o = 0; o < N; ++o) line.add(z[m * N + o], want[o], 0);
    }
}

// All products of 255 and 127, or of -127 and -127.
void largest(const fastnn::Int8Way<float>& way, Report& report) {
    constexpr size_t K = 65536, M = 2;
    Matrix w(K, 1);
    Buffer<float> x(M * K, 3.0f), z(M), want(1);
    std::fill_n(w.weights.get(), K, int8_t(127));
    std::fill_n(x.get() + K, K, -3.0f);
    Buffer<char> packed(way.bytes(K, 1));
    const auto whole = way.pack({K, 1, w.weights, w.scale, w.bias}, packed.get());
    whole.multiply(whole, M, x, z);
    for (size_t m = 0; m < M; ++m) {
        define(w, K, 1, x + m * K, want);
        report.line(std::string("int8 ") + way.name).add(z[m], want[0], 0);
    }
}

}  // namespace

void check_int8(const fastnn::Table<float>& table, int ways, Report& report) {
    const size_t W = lanes_of(table);
    for (int way = 0; way < ways; ++way) {
        const auto& tried = table.int8_ways[way];
        for (const size_t K : sizes_of(table))
            for (const size_t N : {size_t(1), W - 1, W, W + 1, 2 * W + 1, 4 * W, 8 * W + 3})
                for (const size_t M : {1, 2, 3, 7, 13, 49}) multiply(tried, M, K, N, report);
        largest(tried, report);
    }
}

}  // namespace parity
