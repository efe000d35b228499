// Plans from Python, checked against the Specs. What runs them is engine.cpp's and serving.cpp's.
#pragma once

#include "../engine/frozen.hpp"
#include "arguments.hpp"

namespace fastnn {
namespace bindings {

// Of (kind, inputs, outputs, activation, alpha, saves_z, settings, tensors, other, dother), one an operation. Everything that
// will be used as an address or a size is checked here: ValueError or TypeError, which name the operation.
template <class T>
Plan make_plan(const Table<T>& t, const py::list& ops, size_t inputs, const Extents& extents);

// ValueError where there is no such instruction set.
template <class T>
const Table<T>& table_of(int isa) {
    const auto& sets = instruction_sets();
    if (isa < 0 || isa >= sets.count)
        value_error("isa is " + std::to_string(isa) + ", expected 0 .. " + std::to_string(sets.count - 1));
    if constexpr (sizeof(T) == 4)
        return *sets.items[isa].float_table;
    else
        return *sets.items[isa].double_table;
}

inline Args args_of(const py::handle& tuple, const char* name) {
    if (!PyTuple_Check(tuple.ptr())) type_error(std::string(name) + " is not a tuple");
    return {PySequence_Fast_ITEMS(tuple.ptr()), PyTuple_GET_SIZE(tuple.ptr())};
}

// The rows of array i for a plan: data is null as in stored_rows.
inline Stores rows_for(const Plan& plan, const Args& args, int i) {
    const Stores x = stored_rows(args, i, "x");
    if (x.rows.data != nullptr && x.inputs != plan.inputs) value_error("x has another number of columns");
    return x;
}

}  // namespace bindings
}  // namespace fastnn
