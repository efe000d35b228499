// The module _native: its lists, its settings, and what the other files here bind.
#include "../registry.hpp"
#include "../threads.hpp"
#include "gil.hpp"
#include "plans.hpp"

namespace py = pybind11;
using namespace fastnn;

namespace fastnn {
namespace bindings {
PyTypeObject* g_array_type = nullptr;
}
}  // namespace fastnn

namespace {

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
    const bindings::Args args(items, 3);
    args.dispatch(1, "x", [&](const auto& t) {
        using T = decltype(bindings::type_of(t));
        const auto from = args.vector<T>(1, "x");
        const auto to = args.vector<T>(2, "out", from.n, true);
        for (int f = 0; f < t.functions; ++f)
            if (name == t.function_names[f]) return t.function(f, from.n, from.data, to.data);
        bindings::value_error("no function '" + name + "'");
    });
}

// Adds a formula of one's own. What it is for checks that the code behind these addresses is what own.hpp says; it must stay.
template <class T>
int add_formula(const Table<T>& t, const std::string& kind, uintptr_t formula, uintptr_t derivative,
                int slots, int coefficients) {
    const bool activation = kind == "activation", loss = kind == "loss";
    if (!activation && !loss && kind != "rule") bindings::value_error("no kind of formula '" + kind + "'");
    if (formula == 0 || (derivative != 0) != activation) bindings::value_error("a formula's address is 0");
    if (slots < 0 || slots > kMostSlots)
        bindings::value_error("slots is " + std::to_string(slots) + ", expected 0 .. " +
                              std::to_string(kMostSlots));
    if (coefficients < 0 || coefficients > kMostCoefficients)
        bindings::value_error("coefficients is " + std::to_string(coefficients) + ", expected 0 .. " +
                              std::to_string(kMostCoefficients));
    const Own<T> added{reinterpret_cast<Formula<T>>(formula), reinterpret_cast<Formula<T>>(derivative), slots,
                       coefficients};
    return activation ? t.activations + add_own(OwnKind::activation, added)
           : loss     ? t.losses + add_own(OwnKind::loss, added)
                      : t.rules + add_own(OwnKind::rule, added);
}

}  // namespace

PYBIND11_MODULE(_native, m, py::mod_gil_not_used()) {
    m.doc() =
        "fastnn's kernels in C++: see fastnn/backends/native.py and native_engine.py, which alone import "
        "this one.";
    bindings::g_array_type = reinterpret_cast<PyTypeObject*>(
        py::object(py::module_::import("numpy").attr("ndarray")).release().ptr());
    if (PyModule_AddFunctions(m.ptr(), bindings::g_kernels) != 0 ||
        PyModule_AddFunctions(m.ptr(), bindings::g_operations) != 0)
        throw py::error_already_set();

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
        "int8_ways",
        [](int isa) {
            const auto& table = bindings::table_of<float>(isa);
            py::tuple result(fastnn::instruction_sets().items[isa].int8_ways);
            for (size_t i = 0; i < result.size(); ++i) result[i] = table.int8_ways[i].name;
            return result;
        },
        py::arg("isa"),
        "Names of the ways to multiply bytes that an instruction set has and this CPU runs, best last.");
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
            bindings::Unlocked unlocked;
            float sink[2] = {0.999f, 0.001f};
            return sets.items[t].float_table->multiply_adds(rounds, sink);
        },
        py::arg("t"), py::arg("rounds"),
        "Do float32 multiply-adds on registers; how many operations that was.");
    m.def(
        "add_formula",
        [](const std::string& kind, size_t bytes, uintptr_t formula, uintptr_t derivative, int slots,
           int coefficients) {
            const InstructionSet& any = fastnn::instruction_sets().items[0];
            if (bytes != sizeof(float) && bytes != sizeof(double))
                throw py::value_error("bytes is no float's size");
            return bytes == sizeof(float)
                       ? add_formula(*any.float_table, kind, formula, derivative, slots, coefficients)
                       : add_formula(*any.double_table, kind, formula, derivative, slots, coefficients);
        },
        py::arg("kind"), py::arg("bytes"), py::arg("formula"), py::arg("derivative") = 0,
        py::arg("slots") = 0, py::arg("coefficients") = 0,
        "The code of an activation, a loss or a rule of one's own, from the addresses of its functions: see "
        "csrc/own.hpp. They must stay for the life of the process.");
    bindings::bind_operations(m);
    bindings::bind_engine(m);
    bindings::bind_serving(m);
    m.def("math", &math, py::arg("name"), py::arg("x"), py::arg("out"), py::arg("isa"),
          "out = name(x) for one of FUNCTIONS over 1-D arrays: for the tests of their accuracy.");
}
