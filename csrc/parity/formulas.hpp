// The formulas that have names, of one number, in long double: activations, losses, update rules, functions; and the
// generator of random bits. Written out here, not taken from the kernels.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "../kernels/call.hpp"
#include "buffers.hpp"

namespace parity {

struct Activation {
    std::function<Ref(Ref z, Ref alpha)> value;
    std::function<Ref(Ref saved, Ref alpha)> derivative;
};

struct PointLoss {
    std::function<Ref(Ref z, Ref y, Ref parameter)> value, gradient;
};

using Slots = std::vector<Ref>;
using Coefficients = std::vector<Ref>;
using Rule = std::function<Ref(Ref g, Slots&, const Coefficients&)>;  // what is taken from w

// Null: no definition here.
const Activation* activation_named(const std::string& name);
const PointLoss* point_loss_named(const std::string& name);
const Rule* rule_named(const std::string& name);
Ref (*function_named(const std::string& name))(Ref);

Ref ref_log(Ref x);

// The random bits of an element: see _random.py.
uint32_t philox_bits(uint64_t element, const fastnn::RandomKey& key);

}  // namespace parity
