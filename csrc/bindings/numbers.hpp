// Numbers, words and tuples out of what Python hands over: of the type that is wanted, or an error that says whose they are.
#pragma once

#include <vector>

#include "arguments.hpp"

namespace fastnn {
namespace bindings {

// An object as a message shows it: in ASCII, and no more than a line of it.
inline std::string shown(const py::handle& object) {
    const auto text = py::reinterpret_steal<py::object>(PyObject_ASCII(object.ptr()));
    Py_ssize_t n = 0;
    const char* const letters = text ? PyUnicode_AsUTF8AndSize(text.ptr(), &n) : nullptr;
    if (letters == nullptr) {
        PyErr_Clear();
        return std::string("a ") + Py_TYPE(object.ptr())->tp_name;
    }
    constexpr size_t kMost = 80;
    return n <= static_cast<Py_ssize_t>(kMost) ? letters : std::string(letters, kMost) + " ...";
}

// `what` is whose it is: "dense: an offset".
template <class N>
N number_of(const py::handle& object, const std::string& what) {
    try {
        return object.cast<N>();
    } catch (const py::cast_error&) {
        const char* const wanted = std::is_same_v<N, bool>       ? "True or False"
                                   : std::is_floating_point_v<N> ? "a number"
                                   : std::is_unsigned_v<N>       ? "a whole number from 0 to 2^64 - 1"
                                                                 : "a whole number of 32 bits";
        const std::string message = what + " is " + shown(object) + ", expected " + wanted;
        if (PyLong_Check(object.ptr())) value_error(message);
        type_error(message);
    }
}

inline std::string word_of(const py::handle& object, const std::string& what) {
    Py_ssize_t n = 0;
    const char* const letters =
        PyUnicode_Check(object.ptr()) ? PyUnicode_AsUTF8AndSize(object.ptr(), &n) : nullptr;
    if (letters != nullptr) return {letters, static_cast<size_t>(n)};
    PyErr_Clear();
    type_error(what + " is " + shown(object) + ", expected a name");
}

// A tuple of so many (kAny: any number), or a list, which is copied: what it holds stays.
inline py::tuple tuple_of(const py::handle& object, const std::string& what, size_t count = kAny) {
    if (!PyTuple_Check(object.ptr()) && !PyList_Check(object.ptr()))
        type_error(what + " is " + shown(object) + ", expected a tuple");
    auto made = py::reinterpret_steal<py::tuple>(PySequence_Tuple(object.ptr()));
    if (!made) throw py::error_already_set();
    if (count != kAny && made.size() != count)
        value_error(what + " is a tuple of " + std::to_string(made.size()) + ", expected " +
                    std::to_string(count));
    return made;
}

// The numbers of a tuple that is not empty, or one number.
inline std::vector<double> numbers_of(const py::handle& object, const std::string& what) {
    if (!PyTuple_Check(object.ptr())) return {number_of<double>(object, what)};
    std::vector<double> numbers;
    for (const py::handle item : tuple_of(object, what)) numbers.push_back(number_of<double>(item, what));
    if (numbers.empty()) value_error(what + " is an empty tuple");
    return numbers;
}

}  // namespace bindings
}  // namespace fastnn
