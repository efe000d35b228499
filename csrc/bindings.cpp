// The module _native: Python's arrays to the kernels' pointers. The only C++ file that knows Python; no
// arithmetic.
//
// Calls are METH_FASTCALL functions that read the array structs directly: 60 to 150 ns a call, where
// pybind11's dispatcher with array_t arguments takes 700 to 900 ns, as much as a small kernel. What would
// read or write outside a buffer raises; that the numbers make sense was checked at the border, in Python.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <unistd.h>

#include <limits.h>

#include <new>
#include <stdexcept>
#include <string>

#include "dispatch.hpp"
#include "engine/engine.hpp"
#include "threads.hpp"

namespace py = pybind11;

namespace {

using fastnn::Table;

constexpr size_t kAny = static_cast<size_t>(-1);
constexpr double kReleaseGil =
    20000.0;  // ns of work: below, giving the GIL up and getting it back costs too much

template <class T>
constexpr int kTypeNumber =
    sizeof(T) == 4 ? py::detail::npy_api::NPY_FLOAT_ : py::detail::npy_api::NPY_DOUBLE_;
template <class T>
constexpr const char* kTypeName = sizeof(T) == 4 ? "float32" : "float64";

PyTypeObject* g_array_type = nullptr;  // numpy.ndarray, for the life of the process

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

[[noreturn]] void type_error(const std::string& message) { throw py::type_error(message); }
[[noreturn]] void value_error(const std::string& message) { throw py::value_error(message); }

std::string shape_text(const size_t* sizes, int nd) {
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

    const py::detail::PyArray_Proxy& array(int i, const char* name) const {
        if (!PyObject_TypeCheck(items_[i], g_array_type))
            type_error(std::string(name) + " is a " + Py_TYPE(items_[i])->tp_name +
                       ", expected a numpy.ndarray");
        return *py::detail::array_proxy(items_[i]);
    }
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
        const auto& a = *py::detail::array_proxy(items_[i]);
        return {p, static_cast<size_t>(a.dimensions[0]), static_cast<size_t>(a.dimensions[1])};
    }
    template <class T>
    Vector<T> vector(int i, const char* name, size_t n = kAny, bool output = false) const {
        T* p = data<T>(i, name, kTypeNumber<T>, kTypeName<T>, 1, &n, output);
        return {p, static_cast<size_t>(py::detail::array_proxy(items_[i])->dimensions[0])};
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
    Matrix<int32_t> winners(int i, const char* name, size_t rows, size_t cols, bool output) const {
        const size_t sizes[] = {rows, cols};
        const auto& a = array(i, name);
        const int type = type_number(a);
        const bool is_int32 = type == py::detail::npy_api::NPY_INT_ ||
                              (sizeof(long) == 4 && type == py::detail::npy_api::NPY_LONG_);
        int32_t* p = data<int32_t>(i, name, is_int32 ? type : -1, "int32", 2, sizes, output);
        return {p, static_cast<size_t>(a.dimensions[0]), static_cast<size_t>(a.dimensions[1])};
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
    fastnn::RandomKey key(int i) const {
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

    const fastnn::InstructionSet& instruction_set() const {
        const auto& sets = fastnn::instruction_sets();
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

// Takes the GIL back. In a daemon thread at the interpreter's end it does not come back: Python before 3.14 ends the
// thread by pthread_exit, which glibc does by an exception, and that may not leave a destructor (std::terminate). The
// thread then hangs until the process is gone, as Python 3.14 has it (CPython issue 87135).
void take_gil(PyThreadState* state) noexcept {
    try {
        PyEval_RestoreThread(state);
    } catch (...) {
        for (;;) pause();
    }
}

// Lets other Python threads run while a long kernel does.
class Unlocked {
  public:
    explicit Unlocked(double nanoseconds = __builtin_inf())
        : state_(nanoseconds > kReleaseGil ? PyEval_SaveThread() : nullptr) {}
    ~Unlocked() {
        if (state_) take_gil(state_);
    }
    Unlocked(const Unlocked&) = delete;
    Unlocked& operator=(const Unlocked&) = delete;

    // Is there a Ctrl-C, or another signal whose handler raises? By the thread that made this, with the GIL for so long.
    bool signalled() {
        take_gil(state_);
        const bool raised = PyErr_CheckSignals() != 0;
        state_ = PyEval_SaveThread();
        return raised;
    }

  private:
    PyThreadState* state_;
};
double product_ns(size_t m, size_t n, size_t k) { return static_cast<double>(m) * n * (k + 4) * 0.03; }

// The kernels ----------------------------------------------------------------------------------------------
// Each returns void; the argument numbers are those of the PyMethodDef's text below it.

template <class T>
T type_of(const Table<T>&);
#define FASTNN_T using T = decltype(type_of(t))

// The rows of array i, if gather reads their dtype and layout: data is null otherwise.
fastnn::Rows stored_rows(const Args& args, int i, const char* name) {
    const auto& x = args.array(i, name);
    const int type = Args::type_number(x);
    fastnn::Rows rows{nullptr, fastnn::kFloat32, 0};
    ptrdiff_t size = 4;
    if (type == py::detail::npy_api::NPY_DOUBLE_)
        rows.stored = fastnn::kFloat64, size = 8;
    else if (type == py::detail::npy_api::NPY_UBYTE_)
        rows.stored = fastnn::kUint8, size = 1;
    else if (type != py::detail::npy_api::NPY_FLOAT_)
        return rows;
    if (x.nd != 2 || !Args::native_order(x) || !(x.flags & py::detail::npy_api::NPY_ARRAY_ALIGNED_))
        return rows;
    if (x.dimensions[1] > 1 && x.strides[1] != size) return rows;
    rows.data = x.data, rows.stride = x.strides[0];
    return rows;
}

bool all_below(const Vector<int64_t>& indices, size_t n) {
    bool inside = true;
    for (size_t i = 0; i < indices.n; ++i) inside &= static_cast<uint64_t>(indices.data[i]) < n;
    return inside;
}

void shuffle(const Args& args) {  // key, order
    args.expect(3);
    const auto key = args.key(1);
    const auto order = args.indices(2, "order", kAny, true);
    Unlocked unlocked(3.0 * static_cast<double>(order.n));
    args.instruction_set().float_table->shuffle(key, order.n, order.data);
}

// f(table, x, rows, out) with `out` as the last argument -> False: not for these kernels
template <class F>
PyObject* gathered(const Args& args, int last, F&& f) {
    bool done = false;
    args.expect(last + 1);
    args.dispatch(last, "out", [&](const auto& t) {
        FASTNN_T;
        const fastnn::Rows x = stored_rows(args, 1, "x");
        if (x.data == nullptr) return;
        const auto& shape = args.array(1, "x").dimensions;
        const auto rows = args.indices(2, "rows");
        const auto out = args.matrix<T>(last, "out", rows.n, static_cast<size_t>(shape[1]), true);
        // NumPy's indexing knows negative rows, and says what is wrong with the others
        if (!all_below(rows, static_cast<size_t>(shape[0]))) return;
        f(t, x, rows, out);
        done = true;
    });
    return PyBool_FromLong(done);
}

PyObject* gather(const Args& args) {  // x, rows, out
    return gathered(args, 3, [](const auto& t, const auto& x, const auto& rows, const auto& out) {
        Unlocked unlocked(0.2 * static_cast<double>(out.rows * out.cols));
        t.gather(x.data, x.stored, x.stride, rows.data, out.rows, 0, out.cols, out.data);
    });
}

PyObject* gather_normalized(const Args& args) {  // x, rows, shift, scale, out
    return gathered(args, 5, [&](const auto& t, const auto& x, const auto& rows, const auto& out) {
        const auto shift = args.vector<double>(3, "shift", out.cols);
        const auto scale = args.vector<double>(4, "scale", out.cols);
        Unlocked unlocked(0.3 * static_cast<double>(out.rows * out.cols));
        t.gather_normalized(x.data, x.stored, x.stride, rows.data, out.rows, 0, out.cols, shift.data,
                            scale.data, out.data);
    });
}

void dense_forward(const Args& args) {  // x, w, b, activation, alpha, z, a
    args.expect(8);
    args.dispatch(1, "x", [&](const auto& t) {
        FASTNN_T;
        const auto x = args.matrix<T>(1, "x");
        const auto w = args.matrix<T>(2, "w", x.cols);
        const auto b = args.vector<T>(3, "b", w.cols);
        const int activation = args.code(4, "activation", t.activations);
        const double alpha = args.number(5);
        const auto z = args.matrix<T>(6, "z", x.rows, w.cols, true);
        const auto a = args.matrix<T>(7, "a", x.rows, w.cols, true);
        Unlocked unlocked(product_ns(x.rows, w.cols, x.cols));
        t.dense_forward(x.rows, x.cols, w.cols, x.data, x.cols, w.data, w.cols, nullptr, b.data, activation,
                        alpha, z.data, w.cols, a.data, w.cols);
    });
}

void dense_backward_input(const Args& args) {  // dz, w, activation, alpha, saved, dx
    args.expect(7);
    args.dispatch(1, "dz", [&](const auto& t) {
        FASTNN_T;
        const auto dz = args.matrix<T>(1, "dz");
        const auto w = args.matrix<T>(2, "w", kAny, dz.cols);
        const int activation = args.code(3, "activation", t.activations);
        const double alpha = args.number(4);
        const auto saved = args.matrix<T>(5, "saved", dz.rows, w.rows);
        const auto dx = args.matrix<T>(6, "dx", dz.rows, w.rows, true);
        Unlocked unlocked(product_ns(dz.rows, w.rows, dz.cols));
        t.dense_backward_input(dz.rows, w.rows, dz.cols, dz.data, dz.cols, w.data, w.cols, nullptr,
                               activation, alpha, saved.data, w.rows, dx.data, w.rows);
    });
}

void dense_backward_weights(const Args& args) {  // x, dz, dw, db
    args.expect(5);
    args.dispatch(1, "x", [&](const auto& t) {
        FASTNN_T;
        const auto x = args.matrix<T>(1, "x");
        const auto dz = args.matrix<T>(2, "dz", x.rows);
        const auto dw = args.matrix<T>(3, "dw", x.cols, dz.cols, true);
        const auto db = args.vector<T>(4, "db", dz.cols, true);
        Unlocked unlocked(product_ns(x.cols, dz.cols, x.rows));
        t.dense_backward_weights(x.rows, x.cols, dz.cols, x.data, x.cols, dz.data, dz.cols, nullptr, dw.data,
                                 dz.cols, db.data);
    });
}

void activation_forward(const Args& args) {  // activation, alpha, z, a
    args.expect(5);
    args.dispatch(3, "z", [&](const auto& t) {
        FASTNN_T;
        const int activation = args.code(1, "activation", t.activations);
        const double alpha = args.number(2);
        const auto z = args.matrix<T>(3, "z");
        const auto a = args.matrix<T>(4, "a", z.rows, z.cols, true);
        Unlocked unlocked(static_cast<double>(z.rows * z.cols));
        t.activation_forward(activation, alpha, z.rows * z.cols, z.data, a.data);
    });
}

void activation_backward(const Args& args) {  // activation, alpha, saved, da, dz
    args.expect(6);
    args.dispatch(3, "saved", [&](const auto& t) {
        FASTNN_T;
        const int activation = args.code(1, "activation", t.activations);
        const double alpha = args.number(2);
        const auto saved = args.matrix<T>(3, "saved");
        const auto da = args.matrix<T>(4, "da", saved.rows, saved.cols);
        const auto dz = args.matrix<T>(5, "dz", saved.rows, saved.cols, true);
        Unlocked unlocked(static_cast<double>(saved.rows * saved.cols));
        t.activation_backward(activation, alpha, saved.rows * saved.cols, saved.data, da.data, dz.data);
    });
}

void softmax_forward(const Args& args) {  // z, a
    args.expect(3);
    args.dispatch(1, "z", [&](const auto& t) {
        FASTNN_T;
        const auto z = args.matrix<T>(1, "z");
        const auto a = args.matrix<T>(2, "a", z.rows, z.cols, true);
        Unlocked unlocked(static_cast<double>(z.rows * z.cols));
        t.softmax_forward(z.rows, z.cols, z.data, a.data);
    });
}

void softmax_backward(const Args& args) {  // a, da, dz
    args.expect(4);
    args.dispatch(1, "a", [&](const auto& t) {
        FASTNN_T;
        const auto a = args.matrix<T>(1, "a");
        const auto da = args.matrix<T>(2, "da", a.rows, a.cols);
        const auto dz = args.matrix<T>(3, "dz", a.rows, a.cols, true);
        Unlocked unlocked(0.5 * static_cast<double>(a.rows * a.cols));
        t.softmax_backward(a.rows, a.cols, a.data, da.data, dz.data);
    });
}

size_t pieces_of(size_t wide, size_t narrow) {
    if (narrow == 0 || wide == 0 || wide % narrow != 0)
        value_error("z has " + std::to_string(wide) + " columns, expected a multiple of the " +
                    std::to_string(narrow) + " of a");
    return wide / narrow;
}

void maxout_forward(const Args& args) {  // z, a, winner
    args.expect(4);
    args.dispatch(1, "z", [&](const auto& t) {
        FASTNN_T;
        const auto z = args.matrix<T>(1, "z");
        const auto a = args.matrix<T>(2, "a", z.rows, kAny, true);
        const auto winner = args.winners(3, "winner", z.rows, a.cols, true);
        const size_t pieces = pieces_of(z.cols, a.cols);
        Unlocked unlocked(static_cast<double>(z.rows * z.cols));
        t.maxout_forward(z.rows, a.cols, pieces, z.data, a.data, winner.data);
    });
}

void maxout_backward(const Args& args) {  // winner, da, dz
    args.expect(4);
    args.dispatch(2, "da", [&](const auto& t) {
        FASTNN_T;
        const auto da = args.matrix<T>(2, "da");
        const auto winner = args.winners(1, "winner", da.rows, da.cols, false);
        const auto dz = args.matrix<T>(3, "dz", da.rows, kAny, true);
        const size_t pieces = pieces_of(dz.cols, da.cols);
        Unlocked unlocked(static_cast<double>(dz.rows * dz.cols));
        t.maxout_backward(da.rows, da.cols, pieces, winner.data, da.data, dz.data);
    });
}

void prelu_forward(const Args& args) {  // z, slope, a
    args.expect(4);
    args.dispatch(1, "z", [&](const auto& t) {
        FASTNN_T;
        const auto z = args.matrix<T>(1, "z");
        const auto slope = args.vector<T>(2, "slope", z.cols);
        const auto a = args.matrix<T>(3, "a", z.rows, z.cols, true);
        Unlocked unlocked(0.3 * static_cast<double>(z.rows * z.cols));
        t.prelu_forward(z.rows, z.cols, z.data, slope.data, a.data);
    });
}

void prelu_backward(const Args& args) {  // z, slope, da, dz, dslope
    args.expect(6);
    args.dispatch(1, "z", [&](const auto& t) {
        FASTNN_T;
        const auto z = args.matrix<T>(1, "z");
        const auto slope = args.vector<T>(2, "slope", z.cols);
        const auto da = args.matrix<T>(3, "da", z.rows, z.cols);
        const auto dz = args.matrix<T>(4, "dz", z.rows, z.cols, true);
        const auto dslope = args.vector<T>(5, "dslope", z.cols, true);
        Unlocked unlocked(0.5 * static_cast<double>(z.rows * z.cols));
        t.prelu_backward_slope(z.rows, z.cols, z.data, da.data, dslope.data);  // first: dz may be da
        t.prelu_backward(z.rows, z.cols, z.data, slope.data, da.data, dz.data);
    });
}

void rrelu_forward(const Args& args) {  // z, lower, upper, key, a
    args.expect(6);
    args.dispatch(1, "z", [&](const auto& t) {
        FASTNN_T;
        const auto z = args.matrix<T>(1, "z");
        const double lower = args.number(2), upper = args.number(3);
        const auto key = args.key(4);
        const auto a = args.matrix<T>(5, "a", z.rows, z.cols, true);
        Unlocked unlocked(static_cast<double>(z.rows * z.cols));
        t.rrelu_forward(0, z.rows * z.cols, z.data, lower, upper, key, a.data);
    });
}

void rrelu_backward(const Args& args) {  // z, lower, upper, key, da, dz
    args.expect(7);
    args.dispatch(1, "z", [&](const auto& t) {
        FASTNN_T;
        const auto z = args.matrix<T>(1, "z");
        const double lower = args.number(2), upper = args.number(3);
        const auto key = args.key(4);
        const auto da = args.matrix<T>(5, "da", z.rows, z.cols);
        const auto dz = args.matrix<T>(6, "dz", z.rows, z.cols, true);
        Unlocked unlocked(static_cast<double>(z.rows * z.cols));
        t.rrelu_backward(0, z.rows * z.cols, z.data, lower, upper, key, da.data, dz.data);
    });
}

void dropout(const Args& args) {  // x, threshold, scale, key, out
    args.expect(6);
    args.dispatch(1, "x", [&](const auto& t) {
        FASTNN_T;
        const auto x = args.matrix<T>(1, "x");
        const uint64_t threshold = PyLong_AsUnsignedLongLong(args[2]);
        if (threshold == static_cast<uint64_t>(-1) && PyErr_Occurred()) throw py::error_already_set();
        const double scale = args.number(3);
        const auto key = args.key(4);
        const auto out = args.matrix<T>(5, "out", x.rows, x.cols, true);
        Unlocked unlocked(static_cast<double>(x.rows * x.cols));
        t.dropout(0, x.rows * x.cols, x.data, threshold, scale, key, out.data);
    });
}

void batch_norm_forward(
    const Args& args) {  // x, gamma, beta, momentum, epsilon, running_mean, running_var, mean, inv_std, a
    args.expect(11);
    args.dispatch(1, "x", [&](const auto& t) {
        FASTNN_T;
        const auto x = args.matrix<T>(1, "x");
        const auto gamma = args.vector<T>(2, "gamma", x.cols), beta = args.vector<T>(3, "beta", x.cols);
        const double momentum = args.number(4), epsilon = args.number(5);
        const auto running_mean = args.vector<T>(6, "running_mean", x.cols, true);
        const auto running_var = args.vector<T>(7, "running_var", x.cols, true);
        const auto mean = args.vector<T>(8, "mean", x.cols, true);
        const auto inv_std = args.vector<T>(9, "inv_std", x.cols, true);
        const auto a = args.matrix<T>(10, "a", x.rows, x.cols, true);
        Unlocked unlocked(static_cast<double>(x.rows * x.cols));
        t.batch_norm_forward(x.rows, x.cols, x.cols, x.data, gamma.data, beta.data, momentum, epsilon,
                             running_mean.data, running_var.data, mean.data, inv_std.data, a.data);
    });
}

void batch_norm_predict(const Args& args) {  // x, gamma, beta, epsilon, running_mean, running_var, a
    args.expect(8);
    args.dispatch(1, "x", [&](const auto& t) {
        FASTNN_T;
        const auto x = args.matrix<T>(1, "x");
        const auto gamma = args.vector<T>(2, "gamma", x.cols), beta = args.vector<T>(3, "beta", x.cols);
        const double epsilon = args.number(4);
        const auto running_mean = args.vector<T>(5, "running_mean", x.cols);
        const auto running_var = args.vector<T>(6, "running_var", x.cols);
        const auto a = args.matrix<T>(7, "a", x.rows, x.cols, true);
        Unlocked unlocked(0.3 * static_cast<double>(x.rows * x.cols));
        t.batch_norm_predict(x.rows, x.cols, x.data, gamma.data, beta.data, epsilon, running_mean.data,
                             running_var.data, a.data);
    });
}

// x, gamma, mean, inv_std, da, dx, dgamma, dbeta: batch norm has a mean for each column, layer norm for each
// row
template <bool batch>
void norm_backward(const Args& args) {
    args.expect(9);
    args.dispatch(1, "x", [&](const auto& t) {
        FASTNN_T;
        const auto x = args.matrix<T>(1, "x");
        const size_t groups = batch ? x.cols : x.rows;
        const auto gamma = args.vector<T>(2, "gamma", x.cols);
        const auto mean = args.vector<T>(3, "mean", groups), inv_std = args.vector<T>(4, "inv_std", groups);
        const auto da = args.matrix<T>(5, "da", x.rows, x.cols);
        const auto dx = args.matrix<T>(6, "dx", x.rows, x.cols, true);
        const auto dgamma = args.vector<T>(7, "dgamma", x.cols, true);
        const auto dbeta = args.vector<T>(8, "dbeta", x.cols, true);
        Unlocked unlocked(static_cast<double>(x.rows * x.cols));
        if (batch)
            return t.batch_norm_backward(x.rows, x.cols, x.cols, x.data, gamma.data, mean.data, inv_std.data,
                                         da.data, dx.data, dgamma.data, dbeta.data);
        t.layer_norm_backward_weights(x.rows, x.cols, x.data, mean.data, inv_std.data, da.data, dgamma.data,
                                      dbeta.data);  // first: dx may be da
        t.layer_norm_backward(x.rows, x.cols, x.data, gamma.data, mean.data, inv_std.data, da.data, dx.data);
    });
}

void layer_norm_forward(const Args& args) {  // x, gamma, beta, epsilon, mean, inv_std, a
    args.expect(8);
    args.dispatch(1, "x", [&](const auto& t) {
        FASTNN_T;
        const auto x = args.matrix<T>(1, "x");
        const auto gamma = args.vector<T>(2, "gamma", x.cols), beta = args.vector<T>(3, "beta", x.cols);
        const double epsilon = args.number(4);
        const auto mean = args.vector<T>(5, "mean", x.rows, true),
                   inv_std = args.vector<T>(6, "inv_std", x.rows, true);
        const auto a = args.matrix<T>(7, "a", x.rows, x.cols, true);
        Unlocked unlocked(static_cast<double>(x.rows * x.cols));
        t.layer_norm_forward(x.rows, x.cols, x.data, gamma.data, beta.data, epsilon, mean.data, inv_std.data,
                             a.data);
    });
}

void check_labels(const Vector<int64_t>& labels, size_t classes) {
    if (!all_below(labels, classes))
        throw py::index_error("y has a label outside 0 .. " + std::to_string(classes) + " - 1");
}

void loss(const Args& args) {  // loss, parameter, z, y, weight, value, dz
    args.expect(8);
    args.dispatch(3, "z", [&](const auto& t) {
        FASTNN_T;
        const int loss = args.code(1, "loss", t.losses);
        const double parameter = args.number(2);
        const auto z = args.matrix<T>(3, "z");
        const int64_t* labels = nullptr;
        const T* values = nullptr;
        if (args.array(4, "y").nd == 1) {
            if (!(t.loss_targets[loss] & 1))
                value_error(std::string("y is 1-D, but ") + t.loss_names[loss] + " takes values (B, O)");
            labels = args.indices(4, "y", z.rows).data;
            check_labels({const_cast<int64_t*>(labels), z.rows}, z.cols);
        } else {
            if (!(t.loss_targets[loss] & 2))
                value_error(std::string("y is not 1-D, but ") + t.loss_names[loss] + " takes labels (B,)");
            values = args.matrix<T>(4, "y", z.rows, z.cols).data;
        }
        const auto weight = args.vector<T>(5, "weight", z.rows),
                   value = args.vector<T>(6, "value", z.rows, true);
        const auto dz = args.matrix<T>(7, "dz", z.rows, z.cols, true);
        Unlocked unlocked(2.0 * static_cast<double>(z.rows * z.cols));
        t.loss(loss, parameter, z.rows, z.cols, z.data, labels, values, weight.data, value.data, dz.data);
    });
}

PyObject* squared_norm(const Args& args) {  // g
    args.expect(2);
    double result = 0;
    args.dispatch(1, "g", [&](const auto& t) {
        FASTNN_T;
        const auto g = args.vector<T>(1, "g");
        Unlocked unlocked(0.15 * static_cast<double>(g.n));
        result = t.squared_norm(g.n, g.data);
    });
    return PyFloat_FromDouble(result);
}

void update(const Args& args) {  // rule, coefficients, adjustment, w, g, slots
    args.expect(7);
    args.dispatch(4, "w", [&](const auto& t) {
        FASTNN_T;
        const int rule = args.code(1, "rule", t.rules);
        double coefficients[16], a[5];
        args.numbers(2, "coefficients", t.rule_coefficients[rule], coefficients);
        args.numbers(3, "adjustment", 5, a);
        const auto w = args.vector<T>(4, "w", kAny, true);
        const auto g = args.vector<T>(5, "g", w.n);
        PyObject* const tuple = args[6];
        const int n = t.rule_slots[rule];
        if (!PyTuple_Check(tuple) || PyTuple_GET_SIZE(tuple) != n)
            value_error("slots is not a tuple of " + std::to_string(n) + " arrays");
        T* slots[8];
        for (int j = 0; j < n; ++j) {
            PyObject* const slot = PyTuple_GET_ITEM(tuple, j);
            slots[j] = Args(&slot, 1).vector<T>(0, "slot", w.n, true).data;
        }
        Unlocked unlocked(0.5 * static_cast<double>(w.n));
        t.update(rule, coefficients, {a[0], a[1], a[2], a[3], a[4]}, w.n, w.data, g.data, slots);
    });
}

// The engine -----------------------------------------------------------------------------------------------

// ops: a (kind, inputs, outputs, activation, alpha, saves_z, settings, tensors) for each operation, tensors being
// (offset, size, trainable, l1, l2, decay). Everything that will be used as an address is checked here.
template <class T>
fastnn::Plan make_plan(const Table<T>& t, const py::list& ops, size_t inputs, size_t parameters,
                       size_t statistics, size_t scaling) {
    fastnn::Plan plan;
    plan.inputs = plan.outputs = inputs;
    plan.parameters = parameters;
    for (int a = 0; a < t.activations; ++a)
        if (t.activation_names[a] == std::string("identity")) plan.identity = a;
    for (const py::handle item : ops) {
        const auto fields = py::cast<py::tuple>(item);
        fastnn::Op op;
        const auto kind = fields[0].cast<std::string>();
        int code = 0;
        while (code < fastnn::kKinds && kind != fastnn::kKindNames[code]) ++code;
        if (code == fastnn::kKinds) value_error("no operation '" + kind + "'");
        op.kind = static_cast<fastnn::Kind>(code);
        const bool normalize = op.kind == fastnn::Kind::normalize;
        if (normalize && !plan.ops.empty()) value_error("normalize is not the first operation");
        op.inputs = fields[1].cast<size_t>(), op.outputs = fields[2].cast<size_t>();
        if (op.inputs != plan.outputs) value_error("an operation does not take what the one before it gives");
        plan.outputs = op.outputs;
        op.activation = fields[3].cast<int>();
        if (op.activation < 0 || op.activation >= t.activations) value_error("no such activation");
        op.alpha = fields[4].cast<double>();
        op.saves_z = fields[5].cast<bool>();
        int n = 0;
        for (const py::handle number : py::cast<py::tuple>(fields[6])) {
            if (n == fastnn::kSettings) value_error("too many settings");
            op.settings[n++] = number.cast<double>();
        }
        for (const py::handle described : py::cast<py::tuple>(fields[7])) {
            if (op.tensor_count == fastnn::kTensors) value_error("too many tensors");
            const auto tensor = py::cast<py::tuple>(described);
            fastnn::Tensor& to = op.tensors[op.tensor_count++];
            to = {tensor[0].cast<size_t>(), tensor[1].cast<size_t>(), tensor[2].cast<bool>(),
                  tensor[3].cast<double>(), tensor[4].cast<double>(), tensor[5].cast<double>()};
            if (to.offset + to.size > (normalize ? scaling : to.trainable ? parameters : statistics))
                value_error("a tensor lies outside its buffer");
        }
        const size_t expected = op.kind == fastnn::Kind::dense ? op.inputs * op.outputs : op.outputs;
        if (op.tensor_count > 0 && op.tensors[0].size != expected) value_error("a tensor has another size");
        if (normalize && (op.tensor_count != 2 || op.tensors[1].size != op.inputs || op.inputs != op.outputs))
            value_error("normalize has other tensors than shift and scale");
        plan.normalizes |= normalize;
        plan.ops.push_back(op);
    }
    if (plan.ops.empty()) value_error("no operations");
    return plan;
}

template <class T>
const Table<T>& table_of(int isa) {
    const auto& sets = fastnn::instruction_sets();
    if (isa < 0 || isa >= sets.count) value_error("no such instruction set");
    if constexpr (sizeof(T) == 4)
        return *sets.items[isa].float_table;
    else
        return *sets.items[isa].double_table;
}

// The rows of array i for a plan, which may normalise them by pieces of array j: data is null as in stored_rows.
fastnn::Rows rows_for(const fastnn::Plan& plan, const Args& args, int i, int j, size_t scaling) {
    fastnn::Rows x = stored_rows(args, i, "x");
    if (x.data == nullptr) return x;
    if (static_cast<size_t>(args.array(i, "x").dimensions[1]) != plan.inputs)
        value_error("x has another number of columns");
    const double* numbers = args.vector<double>(j, "scaling", scaling).data;
    if (plan.normalizes)
        x.shift = numbers + plan.ops[0].tensors[0].offset, x.scale = numbers + plan.ops[0].tensors[1].offset;
    return x;
}

template <class T>
class TrainerBinding {
  public:
    TrainerBinding(int isa, const py::list& ops, size_t inputs, size_t parameters, size_t statistics,
                   size_t scaling, const py::tuple& recipe)
        : table_(table_of<T>(isa)),
          statistics_(statistics),
          scaling_(scaling),
          plan_(make_plan(table_, ops, inputs, parameters, statistics, scaling)),
          recipe_{recipe[0].cast<int>(),      recipe[1].cast<double>(), recipe[2].cast<int>(),
                  recipe[3].cast<uint64_t>(), recipe[4].cast<double>(), recipe[5].cast<double>()},
          trainer_(table_, plan_, recipe_) {
        if (recipe_.loss < 0 || recipe_.loss >= table_.losses) value_error("no such loss");
        if (recipe_.rule < 0 || recipe_.rule >= table_.rules) value_error("no such rule");
    }

    // parameters, statistics, scaling, slots, step, x, y, weight, order, batch, coefficients, lr, losses, taken (1,) ->
    // False: x has a dtype or a layout that gather does not read
    bool run(const py::args& tuple) {
        const Args args(PySequence_Fast_ITEMS(tuple.ptr()), static_cast<Py_ssize_t>(tuple.size()));
        args.expect(14);
        fastnn::State<T> state{};
        fastnn::Slice<T> slice{};
        state.parameters = args.vector<T>(0, "parameters", plan_.parameters, true).data;
        state.statistics = args.vector<T>(1, "statistics", statistics_, true).data;
        T* slots[8];
        const int count = table_.rule_slots[recipe_.rule];
        if (!PyTuple_Check(args[3]) || PyTuple_GET_SIZE(args[3]) != count)
            value_error("slots is not a tuple of " + std::to_string(count) + " arrays");
        for (int j = 0; j < count; ++j) {
            PyObject* const slot = PyTuple_GET_ITEM(args[3], j);
            slots[j] = Args(&slot, 1).vector<T>(0, "slot", plan_.parameters, true).data;
        }
        state.slots = slots;
        state.step = tuple[4].cast<uint64_t>();

        slice.x = rows_for(plan_, args, 5, 2, scaling_);
        if (slice.x.data == nullptr) return false;
        const size_t n = static_cast<size_t>(args.array(5, "x").dimensions[0]);
        const int targets = table_.loss_targets[recipe_.loss];
        if (args.array(6, "y").nd == 1) {
            if (!(targets & 1)) value_error("y is 1-D, but the loss takes values (n, outputs)");
            const auto labels = args.indices(6, "y", n);
            check_labels(labels, plan_.outputs);
            slice.labels = labels.data;
        } else {
            if (!(targets & 2)) value_error("y is not 1-D, but the loss takes labels (n,)");
            slice.values = args.matrix<T>(6, "y", n, plan_.outputs).data;
        }
        if (args[7] != Py_None) slice.weight = args.vector<T>(7, "weight", n).data;
        const auto order = args.indices(8, "order");
        if (!all_below(order, n)) throw py::index_error("order has a row outside x");
        slice.order = order.data, slice.rows = order.n;
        slice.batch = tuple[9].cast<size_t>();
        if (slice.batch == 0) value_error("batch is 0");
        const size_t steps = (slice.rows + slice.batch - 1) / slice.batch;
        const size_t numbers = static_cast<size_t>(table_.rule_coefficients[recipe_.rule]);
        slice.coefficients = args.matrix<double>(10, "coefficients", steps, numbers).data;
        slice.lr = args.vector<double>(11, "lr", steps).data;
        double* losses = args.vector<double>(12, "losses", steps, true).data;
        const auto taken = args.indices(13, "taken", 1, true);
        taken.data[0] = 0;
        bool interrupted = false;
        try {
            Unlocked unlocked;
            Watch watch{unlocked, interrupted};
            trainer_.run(state, slice, losses, taken.data, signalled, &watch);
        } catch (const std::runtime_error&) {  // a handler forked: what it raised in the child comes first
            if (!interrupted) throw;
        }
        if (interrupted) throw py::error_already_set();
        return true;
    }

  private:
    struct Watch {
        Unlocked& unlocked;
        bool& interrupted;
    };
    // Asked now and then by the calling thread.
    static bool signalled(void* context) {
        const Watch& watch = *static_cast<Watch*>(context);
        if (!watch.unlocked.signalled()) return false;
        return watch.interrupted = true;
    }
    const Table<T>& table_;
    const size_t statistics_, scaling_;
    const fastnn::Plan plan_;
    const fastnn::Recipe recipe_;
    fastnn::Trainer<T> trainer_;
};

template <class T>
class PredictorBinding {
  public:
    PredictorBinding(int isa, const py::list& ops, size_t inputs, size_t parameters, size_t statistics,
                     size_t scaling)
        : statistics_(statistics),
          scaling_(scaling),
          plan_(make_plan(table_of<T>(isa), ops, inputs, parameters, statistics, scaling)),
          predictor_(table_of<T>(isa), plan_) {}

    // parameters, statistics, scaling, x, out -> False: x has a dtype or a layout that gather does not read
    bool run(const py::args& tuple) {
        const Args args(PySequence_Fast_ITEMS(tuple.ptr()), static_cast<Py_ssize_t>(tuple.size()));
        args.expect(5);
        const T* parameters = args.vector<T>(0, "parameters", plan_.parameters).data;
        const T* statistics = args.vector<T>(1, "statistics", statistics_).data;
        const fastnn::Rows x = rows_for(plan_, args, 3, 2, scaling_);
        if (x.data == nullptr) return false;
        const size_t n = static_cast<size_t>(args.array(3, "x").dimensions[0]);
        const auto out = args.matrix<T>(4, "out", n, plan_.outputs, true);
        Unlocked unlocked;
        predictor_.run(parameters, statistics, x, out.rows, out.data);
        return true;
    }

  private:
    const size_t statistics_, scaling_;
    const fastnn::Plan plan_;
    fastnn::Predictor<T> predictor_;
};

template <class T>
void bind_engine(py::module_& m, const char* trainer, const char* predictor) {
    using namespace py::literals;
    py::class_<TrainerBinding<T>>(m, trainer,
                                  "Whole slices of an epoch in one call: see csrc/engine/engine.hpp.")
        .def(py::init<int, const py::list&, size_t, size_t, size_t, size_t, const py::tuple&>(), "isa"_a,
             "ops"_a, "inputs"_a, "parameters"_a, "statistics"_a, "scaling"_a, "recipe"_a)
        .def("run", &TrainerBinding<T>::run);
    py::class_<PredictorBinding<T>>(m, predictor, "Predictions in one call: see csrc/engine/engine.hpp.")
        .def(py::init<int, const py::list&, size_t, size_t, size_t, size_t>(), "isa"_a, "ops"_a, "inputs"_a,
             "parameters"_a, "statistics"_a, "scaling"_a)
        .def("run", &PredictorBinding<T>::run);
}

// x, rows or None, step, pivot, unit, out -> False: x has a dtype or a layout that gather does not read
PyObject* moments(const Args& args) {
    args.expect(7);
    const fastnn::Rows x = stored_rows(args, 1, "x");
    if (x.data == nullptr) Py_RETURN_FALSE;
    const auto* const shape = args.array(1, "x").dimensions;
    const size_t I = static_cast<size_t>(shape[1]);
    Vector<int64_t> rows{nullptr, static_cast<size_t>(shape[0])};
    if (args[2] != Py_None) {
        rows = args.indices(2, "rows");
        if (!all_below(rows, static_cast<size_t>(shape[0]))) Py_RETURN_FALSE;  // NumPy knows negative ones
    }
    const size_t step = static_cast<size_t>(args.code(3, "step", INT_MAX));
    if (step == 0) value_error("step is 0, expected at least 1");
    const double* const pivot = args.vector<double>(4, "pivot", I).data;
    const double* const unit = args.vector<double>(5, "unit", I).data;
    const size_t sizes[] = {4, (rows.n + step - 1) / step, I};
    double* const out = args.data<double>(6, "out", kTypeNumber<double>, kTypeName<double>, 3, sizes, true);
    {
        Unlocked unlocked(0.3 * static_cast<double>(rows.n * I));
        args.instruction_set().float_table->moments(x.data, x.stored, x.stride, rows.data, rows.n, I, step,
                                                    pivot, unit, out);
    }
    Py_RETURN_TRUE;
}

// Python's side --------------------------------------------------------------------------------------------

// f(Args) as a METH_FASTCALL function; C++ exceptions become Python's.
template <auto f>
PyObject* call(PyObject*, PyObject* const* items, Py_ssize_t count) {
    try {
        if constexpr (std::is_void_v<decltype(f(Args(items, count)))>) {
            f(Args(items, count));
            Py_RETURN_NONE;
        } else {
            return f(Args(items, count));
        }
    } catch (py::error_already_set& e) {
        e.restore();
    } catch (const py::builtin_exception& e) {
        e.set_error();
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    }
    return nullptr;
}

#define FASTNN_METHOD(name, f, arguments)                                                        \
    {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&call<f>)), METH_FASTCALL, \
     name "(isa, " arguments ", /)\n--\n\nSee backends/contract.py. isa: index into instruction_sets()."}

PyMethodDef g_kernels[] = {
    FASTNN_METHOD("shuffle", shuffle, "key, order"),
    FASTNN_METHOD("gather", gather, "x, rows, out"),
    FASTNN_METHOD("gather_normalized", gather_normalized, "x, rows, shift, scale, out"),
    FASTNN_METHOD("moments", moments, "x, rows, step, pivot, unit, out"),
    FASTNN_METHOD("dense_forward", dense_forward, "x, w, b, activation, alpha, z, a"),
    FASTNN_METHOD("dense_backward_input", dense_backward_input, "dz, w, activation, alpha, saved, dx"),
    FASTNN_METHOD("dense_backward_weights", dense_backward_weights, "x, dz, dw, db"),
    FASTNN_METHOD("activation_forward", activation_forward, "activation, alpha, z, a"),
    FASTNN_METHOD("activation_backward", activation_backward, "activation, alpha, saved, da, dz"),
    FASTNN_METHOD("softmax_forward", softmax_forward, "z, a"),
    FASTNN_METHOD("softmax_backward", softmax_backward, "a, da, dz"),
    FASTNN_METHOD("maxout_forward", maxout_forward, "z, a, winner"),
    FASTNN_METHOD("maxout_backward", maxout_backward, "winner, da, dz"),
    FASTNN_METHOD("prelu_forward", prelu_forward, "z, slope, a"),
    FASTNN_METHOD("prelu_backward", prelu_backward, "z, slope, da, dz, dslope"),
    FASTNN_METHOD("rrelu_forward", rrelu_forward, "z, lower, upper, key, a"),
    FASTNN_METHOD("rrelu_backward", rrelu_backward, "z, lower, upper, key, da, dz"),
    FASTNN_METHOD("dropout", dropout, "x, threshold, scale, key, out"),
    FASTNN_METHOD("batch_norm_forward", batch_norm_forward,
                  "x, gamma, beta, momentum, epsilon, running_mean, running_var, mean, inv_std, a"),
    FASTNN_METHOD("batch_norm_predict", batch_norm_predict,
                  "x, gamma, beta, epsilon, running_mean, running_var, a"),
    FASTNN_METHOD("batch_norm_backward", norm_backward<true>,
                  "x, gamma, mean, inv_std, da, dx, dgamma, dbeta"),
    FASTNN_METHOD("layer_norm_forward", layer_norm_forward, "x, gamma, beta, epsilon, mean, inv_std, a"),
    FASTNN_METHOD("layer_norm_backward", norm_backward<false>,
                  "x, gamma, mean, inv_std, da, dx, dgamma, dbeta"),
    FASTNN_METHOD("loss", loss, "loss, parameter, z, y, weight, value, dz"),
    FASTNN_METHOD("squared_norm", squared_norm, "g"),
    FASTNN_METHOD("update", update, "rule, coefficients, adjustment, w, g, slots"),
    {nullptr, nullptr, 0, nullptr},
};

py::tuple names(const char* const* list, int n) {
    py::tuple result(n);
    for (int i = 0; i < n; ++i) result[i] = list[i];
    return result;
}

int index_of(const std::string& name) {
    const int found = fastnn::instruction_sets().find(name.c_str());
    if (found < 0) throw py::value_error("no instruction set '" + name + "' here");
    return found;
}

void math(const std::string& name, const py::array& x, const py::array& out, const std::string& isa) {
    PyObject* const index = PyLong_FromLong(index_of(isa));
    const py::object owner = py::reinterpret_steal<py::object>(index);
    PyObject* const items[] = {index, x.ptr(), out.ptr()};
    const Args args(items, 3);
    args.dispatch(1, "x", [&](const auto& t) {
        FASTNN_T;
        const auto from = args.vector<T>(1, "x");
        const auto to = args.vector<T>(2, "out", from.n, true);
        for (int f = 0; f < t.functions; ++f)
            if (name == t.function_names[f]) return t.function(f, from.n, from.data, to.data);
        value_error("no function '" + name + "'");
    });
}

}  // namespace

PYBIND11_MODULE(_native, m, py::mod_gil_not_used()) {
    m.doc() =
        "fastnn's kernels in C++: see fastnn/backends/native.py, which is the only module to import this "
        "one.";
    g_array_type = reinterpret_cast<PyTypeObject*>(
        py::object(py::module_::import("numpy").attr("ndarray")).release().ptr());
    if (PyModule_AddFunctions(m.ptr(), g_kernels) != 0) throw py::error_already_set();

    const auto& sets = fastnn::instruction_sets();
    if (sets.count == 0)
        throw py::import_error("this CPU lacks SSE4.2, the least that fastnn's native kernels need");
    const auto& t = *sets.items[0].float_table;
    m.attr("ACTIVATIONS") = names(t.activation_names, t.activations);
    m.attr("LOSSES") = names(t.loss_names, t.losses);
    m.attr("RULES") = names(t.rule_names, t.rules);
    m.attr("FUNCTIONS") = names(t.function_names, t.functions);

    m.def(
        "instruction_sets",
        [] {
            const auto& sets = fastnn::instruction_sets();
            py::tuple result(sets.count);
            for (int i = 0; i < sets.count; ++i) result[i] = sets.items[i].name;
            return result;
        },
        "Names of the instruction sets that this build has and this CPU runs, best last.");
    m.def(
        "default_instruction_set",
        [] { return fastnn::instruction_sets().items[fastnn::default_instruction_set()].name; },
        "The best of them, or the one FASTNN_ISA names; RuntimeError when it names none.");
    m.def("threads", &fastnn::threads,
          "The most threads a kernel uses; 1 in a forked child that cannot start any: see csrc/threads.hpp.");
    m.def(
        "set_threads",
        [](int n) {
            if (n < 0)
                throw py::value_error("n is " + std::to_string(n) +
                                      ", expected at least 1, or 0 for the default");
            fastnn::set_threads(n);
        },
        py::arg("n"), "Sets that number; 0: back to OMP_NUM_THREADS, else the CPUs this process may run on.");
    m.def(
        "limit_threads",
        [](int n) {
            if (n < 0)
                throw py::value_error("n is " + std::to_string(n) +
                                      ", expected at least 1, or 0 for no limit");
            return fastnn::limit_threads(n);
        },
        py::arg("n"), "The same for calls from this thread only; returns what it was. 0: no limit.");
    m.def("set_thread_quota", &fastnn::set_thread_quota, py::arg("cpus"),
          "CPUs that a control group pays for: the default number of threads where OMP_NUM_THREADS is not "
          "set.");
    m.def("set_least_work", &fastnn::set_least_work, py::arg("nanoseconds"),
          "The work of a step that is worth a thread (48000 ns). With 0 the smallest net gets all threads: "
          "for tests.");
    m.def(
        "multiply_adds",
        [](int t, size_t rounds) {
            const auto& sets = fastnn::instruction_sets();
            if (t < 0 || t >= sets.count) throw py::value_error("t is no instruction set's position");
            Unlocked unlocked;
            float sink[2] = {0.999f, 0.001f};
            return sets.items[t].float_table->multiply_adds(rounds, sink);
        },
        py::arg("t"), py::arg("rounds"),
        "Do float32 multiply-adds on registers; how many operations that was.");
    bind_engine<float>(m, "TrainerFloat32", "PredictorFloat32");
    bind_engine<double>(m, "TrainerFloat64", "PredictorFloat64");
    m.def("math", &math, py::arg("name"), py::arg("x"), py::arg("out"), py::arg("isa"),
          "out = name(x) for one of FUNCTIONS over 1-D arrays: for the tests of their accuracy.");
}
