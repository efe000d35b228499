// What the operations of ops/all.hpp do to a batch, as plain loops in long double. Written out here, not taken from the
// kernels.
#pragma once

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "formulas.hpp"

namespace parity {

// What an output should be, and how far it may be from that.
struct Wanted {
    std::vector<Ref> value, bound;

    void set(size_t i, Ref wanted, Ref tolerance) {
        if (i >= value.size()) value.resize(i + 1, 0), bound.resize(i + 1, 0);
        value[i] = wanted, bound[i] = tolerance;
    }
};

// One operation at one size. Its arrays have the names of the Spec: what goes in, statistics as they were before the
// call, and what the kernel made of the rest, for definitions of one output in terms of another.
struct Sample {
    size_t B = 0, P = 0, I = 0, O = 0, F = 0;
    size_t N() const { return B * P; }
    Ref eps = 0;  // of the kernel's type
    const Activation* activation = nullptr;
    Ref alpha = 0;
    fastnn::RandomKey key{};
    std::map<std::string, Ref> settings;
    std::map<std::string, std::vector<Ref>> arrays;
    std::map<std::string, Wanted> wanted;  // filled by the definition

    const std::vector<Ref>& operator[](const char* name) const { return arrays.at(name); }
};

// A sum, and the sum of its terms' sizes, which bounds its error.
struct Sum {
    Ref value = 0, size = 0;
    void add(Ref term) { value += term, size += std::fabs(term); }
};

struct Span {
    double low, high;
    bool whole = false;  // numbers without a fraction
};

struct Definition {
    std::map<std::string, Span> spans = {};  // of inputs that are not from -1 to 1
    std::map<std::string, double> settings = {};
    // Of an operation with windows: other settings in their place, in turn. `channels`, and `groups` of 0, follow the sizes.
    std::vector<std::map<std::string, double>> geometries = {};
    void (*forward)(Sample&) = nullptr;
    void (*backward)(Sample&) = nullptr;
    void (*predict)(Sample&) = nullptr;  // null: as forward
};

using Values = std::vector<Ref>;

// Those of operations with steps in time: sequences.cpp.
const std::map<std::string, Definition>& of_sequences();
// Those of operations with windows or frames: windows.cpp.
const std::map<std::string, Definition>& windowed_definitions();

// Null: no definition here.
const Definition* definition_named(const std::string& operation);

}  // namespace parity
