// A Spec (kernels/call.hpp), read: what ops/spec.py is in Python. No kernels, no Python.
#pragma once

#include <string>
#include <vector>

#include "../kernels/call.hpp"

namespace fastnn {

enum class Number { kReal, kInt32, kFloat64 };  // kReal: of the plan's dtype

// A dimension: so many times what the letter stands for.
struct Dim {
    size_t times;
    char letter;
};
using Dims = std::vector<Dim>;

struct Field {
    std::string name;
    Dims dims;
    Number number = Number::kReal;
};

// What an argument of a call is, by its name.
enum class Role {
    x,
    a,
    z,
    da,
    dx,
    param,
    dparam,
    statistic,
    scratch,
    setting,
    activation,
    below,
    saved,
    key,
    data,
    rows,
    other,
    dother
};

struct Argument {
    std::string name;
    Role role;
    int index;  // among the fields or settings of its kind
    Dims dims;
    Number number;
    bool output, optional;
};

struct CallSpec {
    std::vector<Argument> arguments;
    bool passes = false;  // the output is the input
    bool has(Role role, bool output) const;
};

// A declared operation.
struct Declared {
    explicit Declared(const Spec& spec);
    std::string name, x, a;
    std::vector<Field> params, statistics, scratch;
    std::vector<std::string> settings;
    bool columns, source;
    CallSpec forward, backward, predict;
    bool keeps_z, goes_below;  // see ops/operation.py and ops/spec.py

    // The value of the setting of that name among an operation's, or what it is where there is none.
    double setting(const char* name_, const double* settings_, double otherwise) const;
    bool is_matrix(size_t param) const { return params[param].dims.size() > 1; }

  private:
    CallSpec parse(const std::string& text) const;
    Argument named(std::string word, bool output) const;
};

// The letters' values, for a batch of B rows.
struct Sizes {
    Sizes(const Declared& declared, const double* settings, size_t B, size_t P, size_t I, size_t O, size_t F);
    size_t B, P, I, O, F, K, J, V;  // letters of ops/spec.py
    size_t of(char letter) const;
    size_t of(const Dim& dim) const { return dim.times * of(dim.letter); }
    // The elements of an array of these dimensions, or of its first `count`; false where they are more than an address can
    // reach.
    bool elements(const Dims& dims, size_t* n, size_t count = kAll) const;
    static constexpr size_t kAll = static_cast<size_t>(-1);
};

// Those of this build, in the order of the tables' operations.
const std::vector<Declared>& declared_operations();

}  // namespace fastnn
