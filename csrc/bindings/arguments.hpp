// The arguments of a call from Python: arrays to pointers, checked; exceptions back.
//
// Calls are METH_FASTCALL functions that read the array structs directly: 60 to 150 ns a call, where
// pybind11's dispatcher with array_t arguments takes 700 to 900 ns, as much as a small kernel. What would
// read or write outside a buffer raises; that the numbers make sense was checked at the border, in Python.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <new>
#include <string>
#include <type_traits>

#include "../dispatch.hpp"

namespace fastnn {
namespace bindings {

namespace py = pybind11;

constexpr size_t kAny = static_cast<size_t>(-1);

template <class T>
constexpr int kTypeNumber =
    sizeof(T) == 4 ? py::detail::npy_api::NPY_FLOAT_ : py::detail::npy_api::NPY_DOUBLE_;
template <class T>
constexpr const char* kTypeName = sizeof(T) == 4 ? "float32" : "float64";

extern PyTypeObject* g_array_type;  // numpy.ndarray, for the life of the process

template <class T>
struct Matrix {
    T* data;
    size_t rows, cols;
};
template <class T>
struct Vector {
    T* data;
    size_t n;
};

[[noreturn]] inline void type_error(const std::string& message) { throw py::type_error(message); }
[[noreturn]] inline void value_error(const std::string& message) { throw py::value_error(message); }

inline std::string shape_text(const size_t* sizes, int nd) {
    std::string text = "(";
    for (int i = 0; i < nd; ++i)
        text += (i ? ", " : "") + (sizes[i] == kAny ? std::string("*") : std::to_string(sizes[i]));
    return text + (nd == 1 ? ",)" : ")");
}

// The positional arguments of one call. Argument 0 is the instruction set's index.
class Args {
  public:
    Args(PyObject* const* items, Py_ssize_t count) : items_(items), count_(count) {}

    void expect(Py_ssize_t n) const {
        if (count_ != n)
            type_error("expected " + std::to_string(n) + " arguments, got " + std::to_string(count_));
    }

    bool is_array(int i) const { return PyObject_TypeCheck(items_[i], g_array_type); }
    const py::detail::PyArray_Proxy& array(int i, const char* name) const {
        if (!is_array(i))
            type_error(std::string(name) + " is a " + Py_TYPE(items_[i])->tp_name +
                       ", expected a numpy.ndarray");
        return *py::detail::array_proxy(items_[i]);
    }
    // One that `array` has seen.
    const py::detail::PyArray_Proxy& known_array(int i) const { return *py::detail::array_proxy(items_[i]); }
    static int type_number(const py::detail::PyArray_Proxy& a) {
        return py::detail::array_descriptor1_proxy(a.descr)->type_num;  // the same offset in NumPy 1 and 2
    }
    static bool native_order(const py::detail::PyArray_Proxy& a) {
        const char order = py::detail::array_descriptor1_proxy(a.descr)->byteorder;
        return order == '=' || order == '|';
    }

    // C-contiguous, aligned, of type T and that shape (kAny: any); writable if it is an output.
    template <class T>
    T* data(int i, const char* name, int type, const char* type_name, int nd, const size_t* sizes,
            bool output) const {
        const auto& a = array(i, name);
        if (type_number(a) != type || !native_order(a))
            type_error(std::string(name) + " has dtype " + dtype_text(i) + ", expected " + type_name);
        constexpr int needed =
            py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
        if ((a.flags & needed) != needed) value_error(std::string(name) + " is not C-contiguous and aligned");
        if (output && !(a.flags & py::detail::npy_api::NPY_ARRAY_WRITEABLE_))
            value_error(std::string(name) + " is read-only, but is written to");
        bool same = a.nd == nd;
        for (int d = 0; same && d < nd; ++d)
            same = sizes[d] == kAny || sizes[d] == static_cast<size_t>(a.dimensions[d]);
        if (!same)
            value_error(std::string(name) + " has shape " +
                        shape_text(reinterpret_cast<const size_t*>(a.dimensions), a.nd) + ", expected " +
                        shape_text(sizes, nd));
        return reinterpret_cast<T*>(a.data);
    }

    template <class T>
    Matrix<T> matrix(int i, const char* name, size_t rows = kAny, size_t cols = kAny,
                     bool output = false) const {
        const size_t sizes[] = {rows, cols};
        T* p = data<T>(i, name, kTypeNumber<T>, kTypeName<T>, 2, sizes, output);
        const auto& a = known_array(i);
        return {p, static_cast<size_t>(a.dimensions[0]), static_cast<size_t>(a.dimensions[1])};
    }
    template <class T>
    Vector<T> vector(int i, const char* name, size_t n = kAny, bool output = false) const {
        T* p = data<T>(i, name, kTypeNumber<T>, kTypeName<T>, 1, &n, output);
        return {p, static_cast<size_t>(known_array(i).dimensions[0])};
    }
    Matrix<int8_t> bytes(int i, const char* name, size_t rows, size_t cols) const {
        const size_t sizes[] = {rows, cols};
        return {data<int8_t>(i, name, py::detail::npy_api::NPY_BYTE_, "int8", 2, sizes, false), rows, cols};
    }
    Vector<int64_t> indices(int i, const char* name, size_t n = kAny, bool output = false) const {
        // int64 is NPY_LONG where long has 64 bits, else NPY_LONGLONG; both may occur under either name
        const auto& a = array(i, name);
        const int type = type_number(a);
        const bool is_int64 = type == py::detail::npy_api::NPY_LONGLONG_ ||
                              (sizeof(long) == 8 && type == py::detail::npy_api::NPY_LONG_);
        int64_t* p = data<int64_t>(i, name, is_int64 ? type : -1, "int64", 1, &n, output);
        return {p, static_cast<size_t>(a.dimensions[0])};
    }
    // int32 is NPY_INT, or NPY_LONG where long has 32 bits
    int int32_type(int i, const char* name) const {
        const int type = type_number(array(i, name));
        const bool is_int32 = type == py::detail::npy_api::NPY_INT_ ||
                              (sizeof(long) == 4 && type == py::detail::npy_api::NPY_LONG_);
        return is_int32 ? type : -1;
    }

    double number(int i) const {
        const double x = PyFloat_AsDouble(items_[i]);
        if (x == -1.0 && PyErr_Occurred()) throw py::error_already_set();
        return x;
    }
    int code(int i, const char* name, int n) const {
        const long c = PyLong_AsLong(items_[i]);
        if (c == -1 && PyErr_Occurred()) throw py::error_already_set();
        if (c < 0 || c >= n)
            value_error(std::string(name) + " is " + std::to_string(c) + ", expected 0 .. " +
                        std::to_string(n - 1));
        return static_cast<int>(c);
    }
    RandomKey key(int i) const {
        PyObject* const tuple = items_[i];
        if (!PyTuple_Check(tuple) || PyTuple_GET_SIZE(tuple) != 3)
            type_error("key is not a (seed, step, op) tuple");
        uint64_t words[3];
        for (int k = 0; k < 3; ++k) {
            words[k] = PyLong_AsUnsignedLongLongMask(PyTuple_GET_ITEM(tuple, k));
            if (words[k] == static_cast<uint64_t>(-1) && PyErr_Occurred()) throw py::error_already_set();
        }
        return {words[0], words[1], static_cast<uint32_t>(words[2])};
    }
    // The n numbers of a tuple.
    void numbers(int i, const char* name, int n, double* out) const {
        PyObject* const tuple = items_[i];
        if (!PyTuple_Check(tuple) || PyTuple_GET_SIZE(tuple) != n)
            value_error(std::string(name) + " is not a tuple of " + std::to_string(n) + " numbers");
        for (int k = 0; k < n; ++k) {
            out[k] = PyFloat_AsDouble(PyTuple_GET_ITEM(tuple, k));
            if (out[k] == -1.0 && PyErr_Occurred()) throw py::error_already_set();
        }
    }
    PyObject* operator[](int i) const { return items_[i]; }
    Py_ssize_t count() const { return count_; }

    const InstructionSet& instruction_set() const {
        const auto& sets = instruction_sets();
        return sets.items[code(0, "instruction set", sets.count)];
    }

    // f(table) with the table of argument i's dtype.
    template <class F>
    void dispatch(int i, const char* name, F&& f) const {
        const int type = type_number(array(i, name));
        const auto& set = instruction_set();
        if (type == kTypeNumber<float>)
            f(*set.float_table);
        else if (type == kTypeNumber<double>)
            f(*set.double_table);
        else
            type_error(std::string(name) + " has dtype " + dtype_text(i) + ", expected float32 or float64");
    }

  private:
    std::string dtype_text(int i) const {
        return py::cast<std::string>(py::str(py::handle(items_[i]).attr("dtype")));
    }
    PyObject* const* items_;
    Py_ssize_t count_;
};

template <class T>
T type_of(const Table<T>&);
#define FASTNN_T using T = decltype(type_of(t))

// What f returns, or nullptr: C++ exceptions become Python's.
template <class F>
PyObject* guarded(F f) {
    try {
        return f();
    } catch (py::error_already_set& e) {
        e.restore();
    } catch (const py::builtin_exception& e) {
        e.set_error();
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    } catch (const std::exception& e) {
        PyErr_SetString(PyExc_RuntimeError, e.what());
    }
    return nullptr;
}

// f(Args) as a METH_FASTCALL function.
template <auto f>
PyObject* call(PyObject*, PyObject* const* items, Py_ssize_t count) {
    return guarded([&]() -> PyObject* {
        if constexpr (std::is_void_v<decltype(f(Args(items, count)))>) {
            f(Args(items, count));
            Py_RETURN_NONE;
        } else {
            return f(Args(items, count));
        }
    });
}

#define FASTNN_METHOD(name, f, arguments)                                                           \
    {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&fastnn::bindings::call<f>)), \
     METH_FASTCALL,                                                                                 \
     name "(isa, " arguments ", /)\n--\n\nSee contract.py. isa: index into instruction_sets()."}

// Of NumPy's type number, for its native byte order; 0 bytes: not read.
struct Kind {
    Stored stored = kFloat32;
    ptrdiff_t bytes = 0;
};
Kind kind_of(int type);

bool all_below(const Vector<int64_t>& indices, size_t n);
// A data set: `count` rows of `inputs` values.
struct Stores {
    Rows rows;
    size_t count = 0, inputs = 0;
};
// Argument i, an array or (data, indices, indptr, inputs) of a CSR matrix, if gather reads its dtype and layout: rows.data is
// null otherwise.
Stores stored_rows(const Args& args, int i, const char* name);
// A table's activation, or one of one's own, and its parameter, of a Python Activation. Throws KeyError where its name is no
// built-in one's.
template <class T>
Activated activated(const Table<T>& t, PyObject* activation);

extern PyMethodDef g_kernels[];     // kernels.cpp
extern PyMethodDef g_operations[];  // operations.cpp
void bind_operations(py::module_& m);
void bind_engine(py::module_& m);   // engine.cpp
void bind_serving(py::module_& m);  // serving.cpp

}  // namespace bindings
}  // namespace fastnn
