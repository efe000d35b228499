// The operations, called from Python one at a time: a generic pair, whose arguments the Specs declare.
#include <cstddef>
#include <map>
#include <new>
#include <stdexcept>
#include <string_view>

#include "../engine/spec.hpp"
#include "arguments.hpp"
#include "gil.hpp"

namespace fastnn {
namespace bindings {
namespace {

constexpr int kFirst = 2;  // argument: behind the instruction set and the operation's code

constexpr std::string_view kLetters = "BPNIOFGKJV";  // those of ops/spec.py

// The sizes that the letters of a Spec stand for, as the arrays of a call say.
class Letters {
  public:
    Letters() {
        for (size_t& size : sizes_) size = kAny;
    }
    static constexpr int place(char letter) {
        const size_t found = kLetters.find(letter);
        if (found == kLetters.npos) throw std::logic_error("a dimension that is no letter of a Spec");
        return static_cast<int>(found);
    }
    size_t& operator[](int place) { return sizes_[place]; }
    size_t operator[](int place) const { return sizes_[place]; }
    template <char letter>
    size_t get(size_t otherwise = 0) const {
        constexpr int found = place(letter);
        const size_t size = sizes_[found];
        return size == kAny ? otherwise : size;
    }

  private:
    size_t sizes_[kLetters.size()];
};

constexpr int kMostDimensions = 4;  // of an array

// Where an argument goes in a Call, whose layout is the same for both float types.
size_t place_in_call(const Argument& argument) {
    using C = Call<float>;
    static_assert(sizeof(C) == sizeof(Call<double>));
    static const std::map<Role, size_t> places = {
        {Role::x, offsetof(C, x)},
        {Role::a, offsetof(C, a)},
        {Role::z, offsetof(C, z)},
        {Role::da, offsetof(C, da)},
        {Role::dx, offsetof(C, dx)},
        {Role::saved, offsetof(C, saved)},
        {Role::other, offsetof(C, other)},
        {Role::dother, offsetof(C, dother)},
        {Role::param, offsetof(C, params)},
        {Role::dparam, offsetof(C, dparams)},
        {Role::statistic, offsetof(C, statistics)},
        {Role::scratch, offsetof(C, scratch)},
        {Role::activation, offsetof(C, activation)},
        {Role::below, offsetof(C, below)},
    };
    const auto found = places.find(argument.role);
    if (found == places.end()) return 0;  // of a setting, the key, what a source reads
    const bool one_of_several = argument.role == Role::param || argument.role == Role::dparam ||
                                argument.role == Role::statistic || argument.role == Role::scratch;
    return found->second + (one_of_several ? sizeof(void*) * argument.index : 0);
}

// An argument of a call, read from its Spec once: half of a call of 100 ns went into reading it each time.
struct Binding {
    using Api = py::detail::npy_api;
    explicit Binding(const Argument& argument)
        : name(argument.name.c_str()),
          role(argument.role),
          number(argument.number),
          type(number == Number::kInt32 ? Api::NPY_INT_ : Api::NPY_DOUBLE_),
          flags(Api::NPY_ARRAY_C_CONTIGUOUS_ | Api::NPY_ARRAY_ALIGNED_ |
                (argument.output ? Api::NPY_ARRAY_WRITEABLE_ : 0)),
          index(argument.index),
          nd(static_cast<int>(argument.dims.size())),
          output(argument.output),
          optional(argument.optional),
          place(place_in_call(argument)) {
        if (nd > kMostDimensions) throw std::logic_error(argument.name + " has too many dimensions");
        for (int d = 0; d < nd; ++d)
            letters[d] = Letters::place(argument.dims[d].letter), times[d] = argument.dims[d].times;
    }
    const char* name;
    Role role;
    Number number;
    int type, flags;  // NumPy's, as they mostly are where the number is not the plan's; as they must be
    int index, nd;
    bool output, optional;
    size_t place;
    int letters[kMostDimensions];
    size_t times[kMostDimensions];
    // What dimension d is, as far as the arrays before it say.
    size_t wanted(const Letters& known, int d) const {
        const size_t size = known[letters[d]];
        return size == kAny ? kAny : size * times[d];
    }
};

// The array of argument i, checked against the dimensions that its Spec says, and against those of the arrays before it.
template <class T>
[[gnu::noinline, gnu::cold]] void* array_of(const Args& args, int i, const Binding& binding,
                                            const Letters& letters) {
    size_t wanted[kMostDimensions];
    for (int d = 0; d < binding.nd; ++d) wanted[d] = binding.wanted(letters, d);
    const auto data = [&]<class N>(N, int type, const char* type_name) -> void* {
        return args.data<N>(i, binding.name, type, type_name, binding.nd, wanted, binding.output);
    };
    if (binding.number == Number::kReal) return data(T{}, kTypeNumber<T>, kTypeName<T>);
    if (binding.number == Number::kFloat64) return data(double{}, kTypeNumber<double>, kTypeName<double>);
    return data(int32_t{}, args.int32_type(i, binding.name), "int32");
}

// The same for the arrays of nearly every call, in a quarter of the time, by what is left when all is well; else null.
template <class T>
[[gnu::always_inline]] inline void* plain_array_of(const Args& args, int i, const Binding& binding,
                                                   const Letters& letters) {
    if (!args.is_array(i)) return nullptr;
    const auto& array = args.known_array(i);
    const int type = binding.number == Number::kReal ? kTypeNumber<T> : binding.type;
    bool plain = Args::type_number(array) == type && Args::native_order(array) &&
                 (array.flags & binding.flags) == binding.flags && array.nd == binding.nd;
    for (int d = 0; plain && d < binding.nd; ++d) {
        const size_t wanted = binding.wanted(letters, d);
        plain = wanted == kAny || wanted == static_cast<size_t>(array.dimensions[d]);
    }
    return plain ? array.data : nullptr;
}

// What its letter stands for is what this dimension says.
inline void learn(const Binding& binding, int d, size_t size, Letters& letters) {
    const size_t times = binding.times[d];
    if (times > 1 && size % times != 0)
        value_error(std::string(binding.name) + " has a dimension of " + std::to_string(size) +
                    ", expected a multiple of " + std::to_string(times));
    letters[binding.letters[d]] = times > 1 ? size / times : size;
}

// Puts argument i into the call.
template <class T>
[[gnu::always_inline]] inline void take(const Table<T>& t, const Args& args, int i, const Binding& binding,
                                        Letters& letters, Call<T>& call, Moment& moment) {
    char* const place = reinterpret_cast<char*>(&call) + binding.place;
    switch (binding.role) {
        case Role::setting:
            call.settings[binding.index] = args.number(i);
            return;
        case Role::activation:
        case Role::below:
            *reinterpret_cast<Activated*>(place) = activated(t, args[i]);
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
    void* data = nullptr;
    if (!binding.optional || args[i] != Py_None) {
        data = plain_array_of<T>(args, i, binding, letters);
        if (data == nullptr) data = array_of<T>(args, i, binding, letters);
        const auto* const shape = args.known_array(i).dimensions;
        for (int d = 0; d < binding.nd; ++d) learn(binding, d, static_cast<size_t>(shape[d]), letters);
    }
    *reinterpret_cast<void**>(place) = data;
}

// A call of an operation, bound.
struct Bound {
    Bound(const Declared& declared_, const CallSpec& spec)
        : declared(declared_), checks(declared_.x != declared_.a && spec.has(Role::x, false)) {
        for (const Argument& argument : spec.arguments) {
            if (typed < 0 && !argument.optional && !argument.dims.empty() && argument.number == Number::kReal)
                typed = static_cast<int>(arguments.size());
            for (const Dim& dim : argument.dims)
                if (dim.letter == 'V') table = static_cast<int>(arguments.size());
            arguments.emplace_back(argument);
        }
    }
    const Declared& declared;
    bool checks;  // whether such rows may become such
    std::vector<Binding> arguments;
    int typed = -1;  // the first array of the plan's dtype that is always given
    int table = -1;  // one whose rows are counted by a setting, too
};

// An id is an address: the table has as many rows as the setting says.
template <class T>
void check_table(const Bound& spec, const Call<T>& call, const Letters& letters) {
    const Sizes sizes(spec.declared, call.settings, call.B, call.P, call.I, call.O, call.F);
    if (sizes.V != letters.get<'V'>())
        value_error(std::string(spec.arguments[spec.table].name) + " has " +
                    std::to_string(letters.get<'V'>()) + " rows, but ids is another number");
}

// Those of all operations, by their codes.
template <const CallSpec Declared::* which>
const std::vector<Bound>& bound() {
    static const auto all = [] {
        std::vector<Bound> made;
        for (const Declared& declared : declared_operations()) made.emplace_back(declared, declared.*which);
        return made;
    }();
    return all;
}

// Whether such rows may become such. A kernel that has `channels` among its settings takes its sizes from there: they must be
// those of the arrays.
template <class T>
void check(const Declared& declared, const Operation<T>& operation, const Letters& letters, Call<T>& call) {
    size_t from = call.P;
    const auto refuse = [&] {
        value_error(declared.name + " cannot make " + std::to_string(call.O) + " values out of " +
                    std::to_string(call.I));
    };
    const double channels = declared.setting("channels", call.settings, 0);
    if (channels >= 1 && channels <= static_cast<double>(call.F)) {
        call.I = static_cast<size_t>(channels), from = call.F / call.I;
        if (from * call.I != call.F) refuse();
    }
    if (!operation.fits({from, call.I, call.P, call.O, call.settings})) refuse();
    const Sizes sizes(declared, call.settings, call.B, call.P, call.I, call.O, call.F);
    if (letters.get<'K'>(sizes.K) != sizes.K || letters.get<'J'>(sizes.J) != sizes.J) refuse();
}

// f(table, operation, call): the arguments of an operation's call, bound by its Spec.
template <const CallSpec Declared::* which, class F>
void with_call(const Args& args, F&& f) {
    const auto& all = bound<which>();
    const int code = args.code(1, "operation", static_cast<int>(all.size()));
    const Bound& spec = all[code];
    const int count = static_cast<int>(spec.arguments.size());
    args.expect(kFirst + count);
    if (spec.typed < 0) value_error("the operation is not called by rows");
    args.dispatch(kFirst + spec.typed, spec.arguments[spec.typed].name, [&](const auto& t) {
        FASTNN_T;
        Call<T> call;
        Moment moment{0, 0};
        Letters letters;
        for (int i = 0; i < count; ++i) take(t, args, kFirst + i, spec.arguments[i], letters, call, moment);
        const Declared& declared = spec.declared;
        const Operation<T>& operation = t.operations[code];
        call.moment = &moment;
        call.B = letters.get<'N'>(letters.get<'B'>()),
        call.P = letters.get<'N'>(0) > 0 ? 1 : letters.get<'P'>(1);
        call.O = letters.get<'O'>(letters.get<'G'>());
        call.I = letters.get<'I'>(letters.get<'F'>(call.O)), call.F = letters.get<'F'>(call.P * call.I);
        if (spec.checks) check(declared, operation, letters, call);
        if (spec.table >= 0) check_table(spec, call, letters);
        const Unlocked unlocked(operation.ns(call.B * call.P, call.I, call.O, call.settings));
        f(declared, operation, call);
    });
}

template <class T>
Range all_of(const Declared& declared, const Call<T>& call) {
    return {0, declared.columns ? call.O : call.B};
}

void op_forward(const Args& args) {
    with_call<&Declared::forward>(args,
                                  [](const Declared& declared, const auto& operation, const auto& call) {
                                      operation.forward(call, all_of(declared, call));
                                  });
}

void op_predict(const Args& args) {
    with_call<&Declared::predict>(args, [](const Declared&, const auto& operation, const auto& call) {
        (operation.predict ? operation.predict : operation.forward)(call, {0, call.B});
    });
}

// The gradients of the parameters first, and before them what they read: dx may be da.
void op_backward(const Args& args) {
    with_call<&Declared::backward>(
        args, [](const Declared& declared, const auto& operation, const auto& call) {
            bool vectors = false;
            if (operation.prepare) operation.prepare(call, {0, call.B});
            for (size_t t = 0; operation.gradient && t < declared.params.size(); ++t) {
                const Dims& dims = declared.params[t].dims;
                vectors |= dims.size() == 1;
                if (dims.size() == 1) continue;
                size_t rows = 1;
                const Sizes sizes(declared, call.settings, call.B, call.P, call.I, call.O, call.F);
                if (!sizes.elements(dims, &rows, dims.size() - 1)) throw std::bad_alloc();
                operation.gradient(call, static_cast<int>(t), {0, rows}, call.dparams[t]);
            }
            if (vectors) operation.gradient(call, -1, {0, 0}, nullptr);
            if (declared.columns || call.dx != nullptr) operation.backward(call, all_of(declared, call));
        });
}

// data, rows, the source's statistics, a -> False: not for these kernels
PyObject* op_gather(const Args& args) {
    const auto& all = declared_operations();
    const int code = args.code(1, "operation", static_cast<int>(all.size()));
    const Declared& declared = all[code];
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
        Call<T> call{};
        Moment moment{0, 0};
        Letters letters;
        letters[Letters::place('F')] = out.cols;
        for (int i = 2; i < count - 1; ++i)
            take(t, args, kFirst + i, bound<&Declared::forward>()[code].arguments[i], letters, call, moment);
        Unlocked unlocked(0.3 * static_cast<double>(out.rows * out.cols));
        // what it cannot take the reference says
        done =
            kFine == t.operations[code].gather(call, data.rows, rows.data, out.rows, 0, out.cols, out.data);
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
