// A frozen plan as Python sees it: the engine behind it, what it is called with. No calls: serving.cpp has those.
#pragma once

#include <string.h>

#include <optional>
#include <vector>

#include "numbers.hpp"
#include "plans.hpp"
#include "running.hpp"

namespace fastnn {
namespace bindings {

using Api = py::detail::npy_api;
constexpr int kMostDimensions = 8;
constexpr double kWorthThreads = 60000;  // ns: see threads_for
constexpr size_t kLocal = 8192;          // bytes of rows that are copied before they are read

struct Shape {
    int nd = 0;
    Py_intptr_t sizes[kMostDimensions + 1] = {};  // behind a place for the rows
};

// The engine behind a Predictor, whatever its float type.
class Engine {
  public:
    virtual ~Engine() = default;
    virtual int type_number() const = 0;
    virtual size_t few() const = 0;
    virtual size_t columns(Answer answer) const = 0;
    virtual double ns(size_t n) const = 0;
    virtual bool finite(size_t n, const void* x) const = 0;
    virtual bool run_few(const Rows& x, size_t n, Answer answer, void* out) const = 0;
    virtual void run(const Rows& x, size_t n, Answer answer, void* out) const = 0;
};

template <class T>
class EngineOf final : public Engine {
  public:
    EngineOf(int isa, const py::list& ops, size_t inputs, const py::tuple& buffers, const Link& link,
             bool live, const py::object& described) {
        Plan plan = plan_of(isa, ops, inputs, buffers);
        const Tensors<T> tensors = tensors_of(buffers);
        const Extents extents = extents_of(buffers);
        const Int8 int8 = int8_of(isa, ops, described);
        const auto make = [&](bool (*stop)(void*), void* context) {
            frozen_.emplace(table_of<T>(isa), std::move(plan), tensors, extents, link, live, int8, stop,
                            context);
        };
        if (kNumberNs * static_cast<double>(extents.parameters) < kReleaseGil)
            make([](void*) { return false; }, nullptr);
        else
            without_gil(make);
    }
    int type_number() const override { return kTypeNumber<T>; }
    size_t few() const override { return Frozen<T>::kFewRows; }
    size_t columns(Answer answer) const override { return frozen_->columns(answer); }
    double ns(size_t n) const override { return frozen_->ns(n); }
    bool finite(size_t n, const void* x) const override {
        return frozen_->kernels().finite(n, static_cast<const T*>(x));
    }
    bool run_few(const Rows& x, size_t n, Answer answer, void* out) const override {
        return frozen_->run_few(x, n, answer, static_cast<T*>(out));
    }
    void run(const Rows& x, size_t n, Answer answer, void* out) const override {
        if (ns(n) >= kReleaseGil)
            return without_gil([&](auto stop, void* context) {
                frozen_->run(x, n, answer, static_cast<T*>(out), stop, context);
            });
        const auto never = [](void*) { return false; };
        try {
            frozen_->run(x, n, answer, static_cast<T*>(out), never, nullptr);
        } catch (const Refused& refused) {
            raise(refused);
        }
    }
    const Plan& plan() const { return frozen_->plan(); }

  private:
    static Extents extents_of(const py::tuple& buffers) {
        const Args args = args_of(buffers, "buffers");
        args.expect(3);
        return {args.vector<T>(0, "parameters").n, args.vector<T>(1, "statistics").n,
                args.vector<double>(2, "scaling").n};
    }
    static Tensors<T> tensors_of(const py::tuple& buffers) {
        const Args args = args_of(buffers, "buffers");
        return {args.vector<T>(0, "parameters").data, args.vector<T>(1, "statistics").data,
                args.vector<double>(2, "scaling").data};
    }
    static Plan plan_of(int isa, const py::list& ops, size_t inputs, const py::tuple& buffers) {
        return make_plan(table_of<T>(isa), ops, inputs, extents_of(buffers));
    }
    // (way, matrices), the matrix of an operation being None or (weights, scale, bias); or None.
    static Int8 int8_of(int isa, const py::list& ops, const py::object& described) {
        Int8 int8;
        if (described.is_none()) return int8;
        if (sizeof(T) != 4) value_error("int8 is for a network of float32");
        const auto parts = tuple_of(described, "int8", 2);
        int8.way = number_of<int>(parts[0], "int8: its way");
        table_of<T>(isa);  // whether there is one
        const int ways = instruction_sets().items[isa].int8_ways;
        if (int8.way < 0 || int8.way >= ways)
            value_error("int8: its way is " + std::to_string(int8.way) + ", expected 0 .. " +
                        std::to_string(ways - 1));
        const auto matrices = tuple_of(parts[1], "int8: its matrices", ops.size());
        for (size_t i = 0; i < ops.size(); ++i)
            int8.matrices.push_back(whole_of(tuple_of(ops[i], "an operation", 10), matrices[i]));
        return int8;
    }
    static WholeNumbers whole_of(const py::tuple& op, const py::handle& described) {
        WholeNumbers whole{0, 0, nullptr, nullptr, nullptr};
        if (described.is_none()) return whole;
        if (word_of(op[0], "the kind of an operation") != "dense")
            value_error("only dense has whole numbers");
        const auto last = [](const py::handle& shape) {
            const auto sizes = tuple_of(shape, "the shape of a row");
            return number_of<size_t>(sizes[sizes.size() - 1], "a size of a row");
        };
        whole.K = last(op[1]), whole.N = last(op[2]);
        const Args args = args_of(described, "int8: a matrix");
        args.expect(3);
        whole.weights = args.bytes(0, "weights", whole.K, whole.N).data;
        whole.scale = args.vector<float>(1, "scale", whole.N).data;
        whole.bias = args.vector<float>(2, "bias", whole.N).data;
        return whole;
    }
    static constexpr double kNumberNs = 1;  // to copy one and pack it
    std::optional<Frozen<T>> frozen_;
};

// y = shift + scale z in double, for targets that were scaled.
struct Scaling {
    std::vector<double> shift;  // empty: none
    double scale = 1;

    template <class T>
    void apply(const T* z, size_t n, double* y) const {
        const size_t O = shift.size();
        for (size_t i = 0; i < n; ++i)
            for (size_t o = 0; o < O; ++o) {
                volatile double product = scale * static_cast<double>(z[i * O + o]);  // no FMA, as in NumPy
                y[i * O + o] = shift[o] + product;
            }
    }
};

struct Predictor {
    PyObject_HEAD;
    vectorcallfunc vectorcall;
    PyObject* weak_references;
    PyObject* owner;    // what answers where this does not; has the attributes
    PyObject* names;    // a tuple, or null: of the features
    PyObject* classes;  // a tuple, or null: what predict_class gives
    PyObject* buffers;  // whose memory the engine reads, or null
    Engine* engine;
    Scaling scaling;
    Shape row, result;  // of a row that comes in and goes out
    size_t inputs, outputs;
    double row_ns;  // what a row takes, about
    bool rows;      // a row alone goes to the owner
    bool exact;     // other dtypes than the engine's go to the owner, which may warn
    bool positive;  // a class is one value above 0
    bool classifies;
};

// What a call is given, as the engine reads it.
struct Input {
    Rows rows;
    size_t n = 0;
    bool single = false;
    alignas(64) char local[kLocal];
};

// What a call was given, if that is a plain row or rows, a list, a tuple or a dict: else false.
bool read(const Predictor& p, PyObject* x, Input& in);

// Whether `bytes` from an array's begin on lie outside of x.
bool apart(const py::detail::PyArray_Proxy& out, size_t bytes, PyObject* x);

}  // namespace bindings
}  // namespace fastnn
