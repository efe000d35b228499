// A Spec (kernels/call.hpp), read: what ops/spec.py is in Python. No kernels, no Python.
#pragma once

#include <string>
#include <vector>

#include "../kernels/call.hpp"

namespace fastnn {

enum class Number { kReal, kInt32, kFloat64 };  // kReal: of the plan's dtype

struct Field {
    std::string name, dims;
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
    std::string dims;
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

    bool is_matrix(size_t param) const { return params[param].dims.size() > 1; }

  private:
    CallSpec parse(const std::string& text) const;
    Argument named(std::string word, bool output) const;
};

// The letters' values, for a batch of B rows.
struct Sizes {
    size_t B, P, I, O, F;  // letters of ops/spec.py
    size_t of(char letter) const;
    // The elements of an array of these dimensions; false where they are more than an address can reach.
    bool elements(const std::string& dims, size_t* n) const;
};

// Those of this build, in the order of the tables' operations.
const std::vector<Declared>& declared_operations();

}  // namespace fastnn
