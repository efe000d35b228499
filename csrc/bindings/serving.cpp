// The type Predictor: a frozen plan that is called. A call with a plain row, a few rows or a list reads NumPy's structs
// directly and takes 0.1 us beside the arithmetic; whatever else it is given goes to its owner, in Python, which knows every
// check and every message.
#include "serving.hpp"

#include "numbers.hpp"

#include <structmember.h>

namespace fastnn {
namespace bindings {
namespace {

PyObject* new_array(int type, int nd, const Py_intptr_t* sizes) {
    auto& api = Api::get();
    PyObject* const descr = api.PyArray_DescrFromType_(type);
    if (descr == nullptr) return nullptr;
    return api.PyArray_NewFromDescr_(g_array_type, descr, nd, sizes, nullptr, nullptr, 0, nullptr);
}

// Whether the engine may take these rows unseen: only those of its own dtype are looked at here.
bool checked(const Predictor& p, const Input& in, PyObject* x) {
    if (Py_TYPE(x) != g_array_type) return false;
    const auto& a = *py::detail::array_proxy(x);
    return Args::type_number(a) == p.engine->type_number() && (a.flags & Api::NPY_ARRAY_C_CONTIGUOUS_) &&
           p.engine->finite(in.n * p.inputs, in.rows.data);
}

// What the owner says: it has our `_run` for rows that it has checked.
PyObject* ask_owner(const Predictor& p, const char* method, PyObject* x, PyObject* out) {
    auto* const self = const_cast<PyObject*>(reinterpret_cast<const PyObject*>(&p));
    const auto run = py::reinterpret_steal<py::object>(PyObject_GetAttrString(self, "_run"));
    if (!run) return nullptr;
    return out == nullptr ? PyObject_CallMethod(p.owner, method, "OO", run.ptr(), x)
                          : PyObject_CallMethod(p.owner, method, "OOO", run.ptr(), x, out);
}

// Runs what was read: false where the owner has to look at it.
bool run(const Predictor& p, const Input& in, PyObject* x, Answer answer, void* out) {
    const bool few = in.n <= p.engine->few() && p.row_ns * static_cast<double>(in.n) < kWorthThreads;
    if (few) return p.engine->run_few(in.rows, in.n, answer, out);
    if (!checked(p, in, x)) return false;
    p.engine->run(in.rows, in.n, answer, out);
    return true;
}

PyObject* predict(const Predictor& p, PyObject* x, PyObject* out) {
    Input in;
    if (!read(p, x, in)) return ask_owner(p, "predict_for", x, out);
    const bool scaled = !p.scaling.shift.empty();
    const int type = scaled ? static_cast<int>(Api::NPY_DOUBLE_) : p.engine->type_number();
    const size_t values = in.n * p.outputs;
    Py_intptr_t sizes[kMostDimensions + 1];
    memcpy(sizes, p.result.sizes, sizeof sizes);
    sizes[0] = static_cast<Py_intptr_t>(in.n);
    const int nd = p.result.nd + !in.single;
    const Py_intptr_t* const shape = sizes + in.single;
    py::object result;
    if (out == nullptr) {
        result = py::reinterpret_steal<py::object>(new_array(type, nd, shape));
        if (!result) return nullptr;
    } else {
        if (Py_TYPE(out) != g_array_type) return ask_owner(p, "predict_for", x, out);
        const auto& a = *py::detail::array_proxy(out);
        constexpr int kPlain =
            Api::NPY_ARRAY_C_CONTIGUOUS_ | Api::NPY_ARRAY_ALIGNED_ | Api::NPY_ARRAY_WRITEABLE_;
        const size_t bytes = values * (type == Api::NPY_DOUBLE_ ? 8 : 4);
        if (Args::type_number(a) != type || !Args::native_order(a) || (a.flags & kPlain) != kPlain ||
            a.nd != nd || memcmp(a.dimensions, shape, nd * sizeof *shape) != 0 || !apart(a, bytes, x))
            return ask_owner(p, "predict_for", x, out);
        result = py::reinterpret_borrow<py::object>(out);
    }
    void* const to = py::detail::array_proxy(result.ptr())->data;
    if (scaled) {
        const bool floats = p.engine->type_number() == kTypeNumber<float>;
        double small[64];
        std::vector<double> large(values > 64 ? values : 0);
        void* const z = values > 64 ? large.data() : small;
        if (!run(p, in, x, Answer::prediction, z)) return ask_owner(p, "predict_for", x, out);
        if (!p.engine->finite(values, z)) return ask_owner(p, "predict_for", x, out);
        double* const y = static_cast<double*>(to);
        floats ? p.scaling.apply(static_cast<const float*>(z), in.n, y)
               : p.scaling.apply(static_cast<const double*>(z), in.n, y);
    } else {
        if (!run(p, in, x, Answer::prediction, to)) return ask_owner(p, "predict_for", x, out);
        if (!p.engine->finite(values, to)) return ask_owner(p, "predict_for", x, out);
    }
    return result.release().ptr();
}

PyObject* predict_proba(const Predictor& p, PyObject* x) {
    Input in;
    if (!p.classifies || p.result.nd != 1 || !read(p, x, in))
        return ask_owner(p, "predict_proba_for", x, nullptr);
    const Py_intptr_t columns = static_cast<Py_intptr_t>(p.engine->columns(Answer::probabilities));
    const Py_intptr_t sizes[] = {static_cast<Py_intptr_t>(in.n), columns};
    auto result = py::reinterpret_steal<py::object>(
        new_array(p.engine->type_number(), 1 + !in.single, sizes + in.single));
    if (!result) return nullptr;
    void* const to = py::detail::array_proxy(result.ptr())->data;
    if (!run(p, in, x, Answer::probabilities, to)) return ask_owner(p, "predict_proba_for", x, nullptr);
    if (!p.engine->finite(in.n * columns, to)) return ask_owner(p, "predict_proba_for", x, nullptr);
    return result.release().ptr();
}

// The first of the largest, a NaN being larger than any number, as NumPy's argmax has it.
template <class T>
size_t largest(const T* z, size_t n) {
    size_t best = 0;
    for (size_t o = 1; o < n && z[best] == z[best]; ++o)
        if (!(z[o] <= z[best])) best = o;
    return best;
}

PyObject* predict_class(const Predictor& p, PyObject* x) {
    constexpr size_t kMost = 256;
    Input in;
    double z[kMost];
    const bool one_value = !p.positive || p.outputs == 1;
    if (!p.classifies || p.result.nd != 1 || !one_value || p.outputs > kMost || !read(p, x, in) ||
        !in.single || !run(p, in, x, Answer::logits, z) || !p.engine->finite(p.outputs, z))
        return ask_owner(p, "predict_class_for", x, nullptr);
    const bool floats = p.engine->type_number() == kTypeNumber<float>;
    const float* const narrow = reinterpret_cast<const float*>(z);
    const size_t found = p.positive ? static_cast<size_t>(floats ? *narrow > 0 : *z > 0)
                         : floats   ? largest(narrow, p.outputs)
                                    : largest(z, p.outputs);
    if (p.classes == nullptr) return PyLong_FromSize_t(found);
    PyObject* const item = PyTuple_GET_ITEM(p.classes, found);
    Py_INCREF(item);
    return item;
}

// The type -------------------------------------------------------------------------------------------------

const Predictor& of(PyObject* self) { return *reinterpret_cast<Predictor*>(self); }

PyObject* called(PyObject* self, PyObject* const* args, size_t flagged, PyObject* keywords) {
    const Py_ssize_t n = PyVectorcall_NARGS(flagged);
    const Py_ssize_t named = keywords == nullptr ? 0 : PyTuple_GET_SIZE(keywords);
    PyObject* given[] = {n > 0 ? args[0] : nullptr, n > 1 ? args[1] : nullptr};
    bool known = n <= 2;
    for (Py_ssize_t i = 0; i < named; ++i) {
        PyObject* const name = PyTuple_GET_ITEM(keywords, i);
        const int place = PyUnicode_CompareWithASCIIString(name, "x") == 0     ? 0
                          : PyUnicode_CompareWithASCIIString(name, "out") == 0 ? 1
                                                                               : -1;
        if (place < 0 || given[place] != nullptr)
            known = false;
        else
            given[place] = args[n + i];
    }
    if (!known || given[0] == nullptr) {
        PyErr_SetString(PyExc_TypeError, "a predictor is called with x, and perhaps with out");
        return nullptr;
    }
    PyObject* const out = given[1] == Py_None ? nullptr : given[1];
    return guarded([&] { return predict(of(self), given[0], out); });
}

// method(x), or method(x=x)
template <PyObject* (*method)(const Predictor&, PyObject*)>
PyObject* called_with_x(PyObject* self, PyObject* const* args, Py_ssize_t n, PyObject* keywords) {
    const Py_ssize_t named = keywords == nullptr ? 0 : PyTuple_GET_SIZE(keywords);
    if (n + named != 1 ||
        (named == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(keywords, 0), "x") != 0)) {
        PyErr_SetString(PyExc_TypeError, "expected one argument, x");
        return nullptr;
    }
    return guarded([&] { return method(of(self), args[0]); });
}
template <PyObject* (*method)(const Predictor&, PyObject*)>
PyCFunction with_x() {
    return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(called_with_x<method>));
}

// (x, answer, out): rows that the owner has checked. False where x is stored as the engine does not read it.
PyObject* run_checked(PyObject* self, PyObject* const* items, Py_ssize_t count) {
    return guarded([&]() -> PyObject* {
        const Predictor& p = of(self);
        const Args args(items, count);
        args.expect(3);
        const Stores x = stored_rows(args, 0, "x");
        if (x.rows.data == nullptr) Py_RETURN_FALSE;
        if (x.inputs != p.inputs) value_error("x has another number of columns");
        const Answer answer = static_cast<Answer>(args.code(1, "answer", 3));
        const size_t columns = p.engine->columns(answer);
        void* const out = p.engine->type_number() == kTypeNumber<float>
                              ? static_cast<void*>(args.matrix<float>(2, "out", x.count, columns, true).data)
                              : args.matrix<double>(2, "out", x.count, columns, true).data;
        if (answer == Answer::probabilities && !p.classifies) value_error("there are no probabilities");
        p.engine->run(x.rows, x.count, answer, out);
        Py_RETURN_TRUE;
    });
}

PyObject* reduce(PyObject* self, PyObject*) { return PyObject_CallMethod(of(self).owner, "reduce", nullptr); }
PyObject* repr(PyObject* self) { return PyObject_Repr(of(self).owner); }
PyObject* class_of(PyObject* self, void*) {  // to isinstance it is what its owner is
    return Py_NewRef(reinterpret_cast<PyObject*>(Py_TYPE(of(self).owner)));
}
PyObject* get_attribute(PyObject* self, PyObject* name) {
    PyObject* const found = PyObject_GenericGetAttr(self, name);
    if (found != nullptr || !PyErr_ExceptionMatches(PyExc_AttributeError)) return found;
    PyErr_Clear();
    return PyObject_GetAttr(of(self).owner, name);
}

void deallocate(PyObject* self) {
    PyTypeObject* const type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Predictor& p = *reinterpret_cast<Predictor*>(self);
    if (p.weak_references != nullptr) PyObject_ClearWeakRefs(self);
    Py_XDECREF(p.owner);
    Py_XDECREF(p.names);
    Py_XDECREF(p.classes);
    Py_XDECREF(p.buffers);
    delete p.engine;
    p.scaling.~Scaling();
    type->tp_free(self);
    Py_DECREF(type);
}
int traverse(PyObject* self, visitproc visit, void* arg) {
    Py_VISIT(Py_TYPE(self));
    const Predictor& p = of(self);
    for (PyObject* const held : {p.owner, p.names, p.classes, p.buffers}) Py_VISIT(held);
    return 0;
}

PyMethodDef g_methods[] = {
    {"predict_proba", with_x<predict_proba>(), METH_FASTCALL | METH_KEYWORDS,
     "predict_proba($self, x)\n--\n\nThe probabilities of a row (C,), or of rows (n, C)."},
    {"predict_class", with_x<predict_class>(), METH_FASTCALL | METH_KEYWORDS,
     "predict_class($self, x)\n--\n\nThe class of a row, or of rows (n,)."},
    {"_run", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(run_checked)), METH_FASTCALL,
     "_run(x, answer, out): of rows that were checked."},
    {"__reduce__", reduce, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr}};
PyGetSetDef g_getters[] = {{"__class__", class_of, nullptr, nullptr, nullptr},
                           {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyMemberDef g_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Predictor, vectorcall), READONLY, nullptr},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Predictor, weak_references), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr}};
PyType_Slot g_slots[] = {{Py_tp_dealloc, reinterpret_cast<void*>(deallocate)},
                         {Py_tp_traverse, reinterpret_cast<void*>(traverse)},
                         {Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)},
                         {Py_tp_methods, g_methods},
                         {Py_tp_members, g_members},
                         {Py_tp_getset, g_getters},
                         {Py_tp_getattro, reinterpret_cast<void*>(get_attribute)},
                         {Py_tp_repr, reinterpret_cast<void*>(repr)},
                         {Py_tp_doc, const_cast<char*>("A network that only predicts: see docs/serving.md.")},
                         {0, nullptr}};
PyType_Spec g_spec = {"fastnn.serving.Predictor", sizeof(Predictor), 0,
                      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_HAVE_GC |
                          Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
                      g_slots};
PyTypeObject* g_predictor_type = nullptr;

Shape shape_of(const py::handle& tuple, const char* what, size_t* values) {
    Shape shape;
    *values = 1;
    for (const py::handle size : tuple_of(tuple, what)) {
        if (shape.nd == kMostDimensions) value_error(std::string(what) + " has too many dimensions");
        const size_t one = number_of<size_t>(size, what);
        *values *= one;
        shape.sizes[++shape.nd] = static_cast<Py_intptr_t>(one);
    }
    return shape;
}

// A tuple, or nothing where it is None.
py::object tuple_or_nothing(const py::object& given, const char* what, size_t least) {
    if (given.is_none()) return py::object();
    if (!PyTuple_Check(given.ptr()) || static_cast<size_t>(PyTuple_GET_SIZE(given.ptr())) < least)
        type_error(std::string(what) + " is no tuple of " + std::to_string(least));
    return given;
}

template <class T>
Link link_of(int isa, const py::object& described) {
    Link link;
    if (described.is_none()) return link;
    const auto parts = tuple_of(described, "link", 4);
    const Table<T>& t = table_of<T>(isa);
    const auto name = word_of(parts[0], "link: its operation");
    if (name != "softmax" && name != "activation")
        value_error("link is no operation that makes probabilities");
    for (int i = 0; i < t.operation_count; ++i)
        if (name == t.operations[i].spec.name) link.operation = i;
    link.activation.code = number_of<int>(parts[1], "link: its activation");
    if (link.activation.code < 0 || link.activation.code >= t.activations)
        value_error("link has an activation that there is not");
    link.two_columns = number_of<bool>(parts[2], "link: whether it has two columns");
    link.predicted = number_of<bool>(parts[3], "link: whether predictions have it");
    return link;
}

// See _native.pyi.
py::object freeze(int isa, const py::list& ops, const py::tuple& buffers, const py::object& link,
                  const py::object& owner, const py::tuple& shapes, const py::object& names,
                  const py::object& classes, const py::object& scaling, const py::tuple& flags,
                  const py::object& int8) {
    const auto both = tuple_of(shapes, "shapes", 2), given_flags = tuple_of(flags, "flags", 3);
    size_t inputs = 0, outputs = 0;
    const Shape row = shape_of(both[0], "the shape of a row", &inputs);
    const Shape result = shape_of(both[1], "the shape of a result", &outputs);
    const Args given = args_of(buffers, "buffers");
    given.expect(3);
    const bool floats = Args::type_number(given.array(0, "parameters")) == kTypeNumber<float>;
    std::unique_ptr<Engine> engine;
    Link linked;
    const bool live = number_of<bool>(given_flags[2], "live");
    if (floats) {
        linked = link_of<float>(isa, link);
        engine.reset(new EngineOf<float>(isa, ops, inputs, buffers, linked, live, int8));
    } else {
        linked = link_of<double>(isa, link);
        engine.reset(new EngineOf<double>(isa, ops, inputs, buffers, linked, live, int8));
    }
    if (engine->columns(Answer::logits) != outputs) value_error("the plan makes other rows");
    if (linked.two_columns && outputs != 1) value_error("two columns are of one output");
    Scaling scales;
    if (!scaling.is_none()) {
        const auto parts = tuple_of(scaling, "scaling", 2);
        scales.shift = numbers_of(parts[0], "scaling: its shifts");
        scales.scale = number_of<double>(parts[1], "scaling: its scale");
        if (scales.shift.size() != outputs) value_error("scaling has another number of shifts");
    }
    const bool exact = number_of<bool>(given_flags[0], "exact");
    const bool one = number_of<bool>(given_flags[1], "whether a class is one value");
    py::object named = tuple_or_nothing(names, "names", inputs);
    // as many as predict_class may index
    py::object known = tuple_or_nothing(classes, "classes", one ? 2 : outputs);
    py::object held;  // where what is read lies
    if (live || !int8.is_none()) held = buffers;

    auto* const p = reinterpret_cast<Predictor*>(g_predictor_type->tp_alloc(g_predictor_type, 0));
    if (p == nullptr) throw py::error_already_set();
    // from here on nothing fails: the predictor owns what was checked
    p->vectorcall = called;
    p->owner = Py_NewRef(owner.ptr());
    p->names = named.release().ptr(), p->classes = known.release().ptr(), p->buffers = held.release().ptr();
    p->engine = engine.release();
    new (&p->scaling) Scaling(std::move(scales));
    p->row = row, p->result = result, p->inputs = inputs, p->outputs = outputs;
    p->exact = exact, p->rows = live;
    p->row_ns = p->engine->ns(1);
    p->positive = one, p->classifies = linked.operation >= 0;
    return py::reinterpret_steal<py::object>(reinterpret_cast<PyObject*>(p));
}

}  // namespace

void bind_serving(py::module_& m) {
    g_predictor_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&g_spec));
    if (g_predictor_type == nullptr) throw py::error_already_set();
    m.attr("Predictor") = py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(g_predictor_type));
    m.def("freeze", &freeze);
}

}  // namespace bindings
}  // namespace fastnn
