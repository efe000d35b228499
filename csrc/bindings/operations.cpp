// The operations, called from Python one at a time: a generic pair, whose arguments the Specs declare.
#include <functional>

#include "../engine/spec.hpp"
#include "arguments.hpp"
#include "gil.hpp"

namespace fastnn {
namespace bindings {
namespace {

constexpr int kFirst = 2;  // argument: behind the instruction set and the operation's code

// The sizes that the letters of a Spec stand for, as the arrays of a call say.
class Letters {
  public:
    Letters() {
        for (size_t& size : sizes_) size = kAny;
    }
    size_t& operator[](char letter) { return sizes_[letter % kPlaces]; }
    size_t get(char letter, size_t otherwise = 0) const {
        const size_t size = sizes_[letter % kPlaces];
        return size == kAny ? otherwise : size;
    }

  private:
    static constexpr int kPlaces = 17;  // the letters of a Spec are different modulo 17
    size_t sizes_[kPlaces];
};

// The array of argument i, checked against the dimensions that its Spec says, and against those of the arrays before it.
template <class T>
void* array_of(const Args& args, int i, const Argument& argument, Letters& letters) {
    const char* const name = argument.name.c_str();
    size_t wanted[8];
    const int nd = static_cast<int>(argument.dims.size());
    for (int d = 0; d < nd; ++d) wanted[d] = letters[argument.dims[d]];
    void* data = nullptr;
    const bool output = argument.output;
    if (argument.number == Number::kInt32)
        data = args.data<int32_t>(i, name, args.int32_type(i, name), "int32", nd, wanted, output);
    else if (argument.number == Number::kFloat64)
        data = args.data<double>(i, name, kTypeNumber<double>, kTypeName<double>, nd, wanted, output);
    else
        data = args.data<T>(i, name, kTypeNumber<T>, kTypeName<T>, nd, wanted, output);
    const auto* const shape = args.array(i, name).dimensions;
    for (int d = 0; d < nd; ++d) letters[argument.dims[d]] = static_cast<size_t>(shape[d]);
    return data;
}

// Puts argument i into the call.
template <class T>
void take(const Args& args, int i, const Argument& argument, Letters& letters, Call<T>& call,
          Moment& moment) {
    switch (argument.role) {
        case Role::setting:
            call.settings[argument.index] = args.number(i);
            return;
        case Role::activation:
            call.activation = activated(args[i]);
            return;
        case Role::below:
            call.below = activated(args[i]);
            return;
        case Role::key: {
            const RandomKey key = args.key(i);
            moment = {key.seed, key.step}, call.op = key.op;
            return;
        }
        case Role::data:
        case Role::rows:
            return;
        default:
            break;
    }
    if (argument.optional && args[i] == Py_None) {
        call.dx = nullptr;
        return;
    }
    void* const data = array_of<T>(args, i, argument, letters);
    T* const real = static_cast<T*>(data);
    switch (argument.role) {
        case Role::x:
            call.x = real;
            return;
        case Role::a:
            call.a = real;
            return;
        case Role::z:
            call.z = real;
            return;
        case Role::da:
            call.da = real;
            return;
        case Role::dx:
            call.dx = real;
            return;
        case Role::saved:
            call.saved = real;
            return;
        case Role::other:
            call.other = real;
            return;
        case Role::dother:
            call.dother = real;
            return;
        case Role::param:
            call.params[argument.index] = real;
            return;
        case Role::dparam:
            call.dparams[argument.index] = real;
            return;
        case Role::statistic:
            call.statistics[argument.index] = data;
            return;
        default:
            call.scratch[argument.index] = data;
    }
}

// f(table, operation, call): the arguments of an operation's call, bound by its Spec.
template <class F>
void with_call(const Args& args, const CallSpec Declared::* which, F&& f) {
    const auto& all = declared_operations();
    const Declared& declared = all[args.code(1, "operation", static_cast<int>(all.size()))];
    const CallSpec& spec = declared.*which;
    const int count = static_cast<int>(spec.arguments.size());
    args.expect(kFirst + count);
    int typed = 0;  // the first array of the plan's dtype
    while (spec.arguments[typed].number != Number::kReal || spec.arguments[typed].dims.empty() ||
           (spec.arguments[typed].optional && args[kFirst + typed] == Py_None))
        ++typed;
    args.dispatch(kFirst + typed, spec.arguments[typed].name.c_str(), [&](const auto& t) {
        FASTNN_T;
        static thread_local Call<T>
            call;  // what this operation does not name it does not read; clearing takes 40 ns
        Moment moment{0, 0};
        Letters letters;
        for (int i = 0; i < count; ++i) take<T>(args, kFirst + i, spec.arguments[i], letters, call, moment);
        const Operation<T>& operation = t.operations[&declared - all.data()];
        call.moment = &moment;
        call.B = letters.get('N', letters.get('B')), call.O = letters.get('O', letters.get('G'));
        call.I = call.F = letters.get('I', letters.get('F', call.O));
        if (declared.x == "NI" && !operation.fits(call.I, call.O))
            value_error(declared.name + " cannot make " + std::to_string(call.O) + " values out of " +
                        std::to_string(call.I));
        const Unlocked unlocked(operation.ns(call.B, call.I, call.O));
        f(declared, operation, call);
    });
}

template <class T>
Range all_of(const Declared& declared, const Call<T>& call) {
    return {0, declared.columns ? call.O : call.B};
}

void op_forward(const Args& args) {
    with_call(args, &Declared::forward,
              [](const Declared& declared, const auto& operation, const auto& call) {
                  operation.forward(call, all_of(declared, call));
              });
}

void op_predict(const Args& args) {
    with_call(args, &Declared::predict, [](const Declared&, const auto& operation, const auto& call) {
        (operation.predict ? operation.predict : operation.forward)(call, {0, call.B});
    });
}

// The gradients of the parameters first: dx may be da.
void op_backward(const Args& args) {
    with_call(args, &Declared::backward,
              [](const Declared& declared, const auto& operation, const auto& call) {
                  bool vectors = false;
                  for (size_t t = 0; operation.gradient && t < declared.params.size(); ++t) {
                      const std::string& dims = declared.params[t].dims;
                      vectors |= dims.size() == 1;
                      if (dims.size() == 1) continue;
                      size_t rows = 1;
                      for (size_t d = 0; d + 1 < dims.size(); ++d) rows *= dims[d] == 'I' ? call.I : call.O;
                      operation.gradient(call, static_cast<int>(t), {0, rows}, call.dparams[t]);
                  }
                  if (vectors) operation.gradient(call, -1, {0, 0}, nullptr);
                  if (declared.columns || call.dx != nullptr)
                      operation.backward(call, all_of(declared, call));
              });
}

// data, rows, the source's statistics, a -> False: not for these kernels
PyObject* op_gather(const Args& args) {
    const auto& all = declared_operations();
    const Declared& declared = all[args.code(1, "operation", static_cast<int>(all.size()))];
    if (!declared.source) value_error(declared.name + " is no source");
    const int count = static_cast<int>(declared.forward.arguments.size()), last = kFirst + count - 1;
    args.expect(kFirst + count);
    bool done = false;
    args.dispatch(last, "a", [&](const auto& t) {
        FASTNN_T;
        const Stores data = stored_rows(args, kFirst, "data");
        if (data.rows.data == nullptr) return;
        const auto rows = args.indices(kFirst + 1, "rows");
        const auto out = args.matrix<T>(last, "a", rows.n, data.inputs, true);
        // NumPy's indexing knows negative rows, and says what is wrong with the others
        if (!all_below(rows, data.count)) return;
        Call<T> call;
        Moment moment{0, 0};
        Letters letters;
        letters['F'] = out.cols;
        for (int i = 2; i < count - 1; ++i)
            take<T>(args, kFirst + i, declared.forward.arguments[i], letters, call, moment);
        Unlocked unlocked(0.3 * static_cast<double>(out.rows * out.cols));
        // what it cannot take the reference says
        done = kFine == t.operations[&declared - all.data()].gather(call, data.rows, rows.data, out.rows, 0,
                                                                    out.cols, out.data);
    });
    return PyBool_FromLong(done);
}

}  // namespace

PyMethodDef g_operations[] = {
    FASTNN_METHOD("op_forward", op_forward, "operation, *arguments"),
    FASTNN_METHOD("op_predict", op_predict, "operation, *arguments"),
    FASTNN_METHOD("op_backward", op_backward, "operation, *arguments"),
    FASTNN_METHOD("op_gather", op_gather, "operation, *arguments"),
    {nullptr, nullptr, 0, nullptr},
};

// OPS: the Spec of each operation as a dict, in the order of their codes.
void bind_operations(py::module_& m) {
    const Table<float>& table = *instruction_sets().items[0].float_table;
    py::tuple specs(table.operation_count);
    for (int i = 0; i < table.operation_count; ++i) {
        const Spec& spec = table.operations[i].spec;
        py::dict made;
        made["name"] = spec.name, made["params"] = spec.params, made["statistics"] = spec.statistics;
        made["settings"] = spec.settings, made["scratch"] = spec.scratch, made["phase"] = spec.phase;
        made["forward"] = spec.forward, made["backward"] = spec.backward, made["predict"] = spec.predict;
        made["x"] = spec.x, made["a"] = spec.a;
        specs[i] = made;
    }
    m.attr("OPS") = specs;
    declared_operations();  // read now: a Spec that cannot be is an error of the import
}

}  // namespace bindings
}  // namespace fastnn
