// See formulas.hpp.
#include "formulas.hpp"

#include <cmath>
#include <cstring>
#include <map>

#ifdef FASTNN_QUADMATH
#include <quadmath.h>
#endif

namespace parity {

#ifdef FASTNN_QUADMATH  // Bochs emulates the x87 logarithm, which the C library uses, with an error of 2^-50
Ref ref_log(Ref x) { return static_cast<Ref>(logq(x)); }
static Ref ref_log1p(Ref x) { return static_cast<Ref>(log1pq(x)); }
#else
Ref ref_log(Ref x) { return std::log(x); }
static Ref ref_log1p(Ref x) { return std::log1p(x); }
#endif

namespace {

Ref sigmoid(Ref z) { return 1 / (1 + std::exp(-z)); }
Ref softplus(Ref z) { return std::fmax(z, Ref(0)) + ref_log1p(std::exp(-std::fabs(z))); }
Ref step(bool b) { return b ? 1 : 0; }
const Ref kSelu = 1.0507009873554804934193349852946L, kSeluAlpha = 1.6732632423543772848170429916717L;
const Ref kPi = 3.14159265358979323846264338327950288L;
Ref gelu_t(Ref z) { return std::tanh(std::sqrt(2 / kPi) * (z + 0.044715L * z * z * z)); }
Ref phi(Ref z) { return 0.5L * (1 + std::erf(z * std::sqrt(0.5L))); }

const std::map<std::string, Activation> kActivations = {
    {"identity", {[](Ref z, Ref) { return z; }, [](Ref, Ref) { return Ref(1); }}},
    {"binary_step",
     {[](Ref z, Ref) { return step(z >= 0); }, [](Ref z, Ref) { return step(std::fabs(z) <= 1); }}},
    {"sigmoid", {[](Ref z, Ref) { return sigmoid(z); }, [](Ref a, Ref) { return a * (1 - a); }}},
    {"tanh", {[](Ref z, Ref) { return std::tanh(z); }, [](Ref a, Ref) { return 1 - a * a; }}},
    {"relu", {[](Ref z, Ref) { return z > 0 ? z : 0; }, [](Ref a, Ref) { return step(a > 0); }}},
    {"leaky_relu",
     {[](Ref z, Ref c) { return z > 0 ? z : c * z; }, [](Ref a, Ref c) { return a > 0 ? 1 : c; }}},
    {"elu",
     {[](Ref z, Ref c) { return z > 0 ? z : c * std::expm1(z); },
      [](Ref a, Ref c) { return a > 0 ? 1 : a + c; }}},
    {"selu",
     {[](Ref z, Ref) { return kSelu * (z > 0 ? z : kSeluAlpha * std::expm1(z)); },
      [](Ref a, Ref) { return a > 0 ? kSelu : a + kSelu * kSeluAlpha; }}},
    {"softplus", {[](Ref z, Ref) { return softplus(z); }, [](Ref z, Ref) { return sigmoid(z); }}},
    {"gelu",
     {[](Ref z, Ref) { return z * phi(z); },
      [](Ref z, Ref) { return phi(z) + z * std::exp(-0.5L * z * z) / std::sqrt(2 * kPi); }}},
    {"gelu_tanh",
     {[](Ref z, Ref) { return 0.5L * z * (1 + gelu_t(z)); },
      [](Ref z, Ref) {
          const Ref t = gelu_t(z);
          return 0.5L * (1 + t) + 0.5L * z * (1 - t * t) * std::sqrt(2 / kPi) * (1 + 3 * 0.044715L * z * z);
      }}},
    {"silu",
     {[](Ref z, Ref) { return z * sigmoid(z); },
      [](Ref z, Ref) { return sigmoid(z) * (1 + z * (1 - sigmoid(z))); }}},
    {"mish",
     {[](Ref z, Ref) { return z * std::tanh(softplus(z)); },
      [](Ref z, Ref) {
          const Ref t = std::tanh(softplus(z));
          return t + z * (1 - t * t) * sigmoid(z);
      }}},
    {"hard_sigmoid",
     {[](Ref z, Ref) { return std::fmin(std::fmax(z / 6 + 0.5L, Ref(0)), Ref(1)); },
      [](Ref a, Ref) { return a > 0 && a < 1 ? Ref(1) / 6 : 0; }}},
    {"hard_tanh",
     {[](Ref z, Ref) { return std::fmin(std::fmax(z, Ref(-1)), Ref(1)); },
      [](Ref a, Ref) { return step(std::fabs(a) < 1); }}},
    {"softsign",
     {[](Ref z, Ref) { return z / (1 + std::fabs(z)); },
      [](Ref a, Ref) { return (1 - std::fabs(a)) * (1 - std::fabs(a)); }}},
    {"exponential", {[](Ref z, Ref) { return std::exp(z); }, [](Ref a, Ref) { return a; }}},
};

Ref smooth(Ref y, Ref s) { return y * (1 - s) + 0.5L * s; }
// the focal loss of p = sigmoid(z) where y is 1, and its slope
Ref missed(Ref z, Ref gamma) { return std::pow(sigmoid(-z), gamma) * softplus(-z); }
Ref missed_slope(Ref z, Ref gamma) {
    const Ref rest = sigmoid(-z);
    return -std::pow(rest, gamma) * (gamma * (1 - rest) * softplus(-z) + rest);
}
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
    {"log_cosh",
     {[](Ref z, Ref y, Ref) { return std::log(std::cosh(z - y)); },
      [](Ref z, Ref y, Ref) { return std::tanh(z - y); }}},
    {"quantile",
     {[](Ref z, Ref y, Ref q) { return y > z ? q * (y - z) : (1 - q) * (z - y); },
      [](Ref z, Ref y, Ref q) { return z > y   ? 1 - q
                                       : z < y ? -q
                                               : 0.5L - q; }}},
    {"expectile",
     {[](Ref z, Ref y, Ref tau) { return (z > y ? 1 - tau : tau) * (z - y) * (z - y); },
      [](Ref z, Ref y, Ref tau) { return (z > y ? 1 - tau : tau) * 2 * (z - y); }}},
    {"gamma",
     {[](Ref z, Ref y, Ref) { return z + y / std::exp(z); },
      [](Ref z, Ref y, Ref) { return 1 - y / std::exp(z); }}},
    {"tweedie",
     {[](Ref z, Ref y, Ref p) {
          return std::pow(std::exp(z), 2 - p) / (2 - p) - y * std::pow(std::exp(z), 1 - p) / (1 - p);
      },
      [](Ref z, Ref y, Ref p) { return std::pow(std::exp(z), 2 - p) - y * std::pow(std::exp(z), 1 - p); }}},
    {"binary_focal",
     {[](Ref z, Ref y, Ref g) { return y * missed(z, g) + (1 - y) * missed(-z, g); },
      [](Ref z, Ref y, Ref g) { return y * missed_slope(z, g) - (1 - y) * missed_slope(-z, g); }}},
    {"poisson",
     {[](Ref z, Ref y, Ref) { return std::exp(z) - y * z; },
      [](Ref z, Ref y, Ref) { return std::exp(z) - y; }}},
    {"binary_cross_entropy",
     {[](Ref z, Ref y, Ref s) { return softplus(z) - z * smooth(y, s); },
      [](Ref z, Ref y, Ref s) { return sigmoid(z) - smooth(y, s); }}},
};

Ref adaptive(Ref m, Ref v, Ref root, Ref epsilon) { return m / (std::sqrt(v) * root + epsilon); }
const std::map<std::string, Rule> kRules = {
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

template <class Map>
auto find(const Map& map, const std::string& name) -> decltype(&map.begin()->second) {
    const auto found = map.find(name);
    return found == map.end() ? nullptr : &found->second;
}

}  // namespace

const Activation* activation_named(const std::string& name) { return find(kActivations, name); }
const PointLoss* point_loss_named(const std::string& name) { return find(kPointLosses, name); }
const Rule* rule_named(const std::string& name) { return find(kRules, name); }
Ref (*function_named(const std::string& name))(Ref) {
    const auto* const found = find(kFunctions, name);
    return found == nullptr ? nullptr : *found;
}

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

}  // namespace parity
