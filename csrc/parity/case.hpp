// One operation of a table at one size: the arrays that its Spec names, the Call that points into them, and runs of its
// functions over all rows at once or cut into ranges, as the tasks of an engine do. Knows no operation by name.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <sstream>
#include <string>

#include "../dispatch.hpp"
#include "../engine/spec.hpp"
#include "definitions.hpp"

namespace parity {

using Bytes = std::vector<char>;
using Outcome = std::map<std::string, Bytes>;  // what a call wrote, by the names of its outputs
using Cuts = std::vector<size_t>;              // the ends of the pieces of a range, 0 among them

// 0 .. n in one piece, and in up to four.
inline Cuts whole(size_t n) { return {0, n}; }
inline Cuts pieces(size_t n) {
    Cuts cuts{0, std::min<size_t>(1, n), n / 2, n - n / 3, n};
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    return cuts;
}

struct Size {
    size_t B, P, I, O;
    size_t F = P * I;                             // values of a row that comes in
    std::map<std::string, double> settings = {};  // instead of the definition's
};

template <class T>
class Case {
  public:
    Case(const fastnn::Operation<T>& operation, const fastnn::Declared& declared,
         const Definition& definition, const Size& size)
        : operation_(operation), declared_(declared), definition_(definition) {
        call_.B = size.B, call_.P = size.P, call_.I = size.I, call_.O = size.O;
        call_.F = size.F;
        call_.moment = &moment_, call_.op = 5;
        for (size_t i = 0; i < declared_.settings.size(); ++i)
            call_.settings[i] =
                (size.settings.empty() ? definition.settings : size.settings).at(declared_.settings[i]);
        for (const auto* spec : {&declared_.forward, &declared_.backward, &declared_.predict})
            for (const auto& argument : spec->arguments)
                if (is_array(argument)) add(argument);
        for (const auto& argument : declared_.forward.arguments) forget_if_written(argument);
        for (const auto& argument : declared_.backward.arguments) forget_if_written(argument);
    }

    size_t rows() const { return call_.B; }
    // What forward and backward are cut along in training.
    size_t training_range() const { return declared_.columns ? call_.O : call_.B; }

    void set_activation(int code, double alpha) { call_.activation = call_.below = {code, alpha}; }

    void restore_statistics() {
        for (const auto& [name, bytes] : initial_) arrays_.at(name).memory.assign(bytes);
    }

    // Runs of the functions -------------------------------------------------------------------------------------

    Outcome forward(const Cuts& cuts) {
        poison(declared_.forward);
        in_pieces(operation_.forward, cuts);
        return outcome(declared_.forward);
    }
    Outcome predict(const Cuts& cuts) {
        poison(declared_.predict);
        in_pieces(operation_.predict ? operation_.predict : operation_.forward, cuts);
        return outcome(declared_.predict);
    }
    // The gradients of the parameters first: dx may be da. Those of matrices in blocks of rows where the others are cut.
    Outcome backward(const Cuts& cuts) {
        poison(declared_.backward);
        const bool whole_blocks = cuts.size() == 2;
        if (operation_.prepare) in_pieces(operation_.prepare, whole_blocks ? whole(rows()) : pieces(rows()));
        bool vectors = false;
        for (size_t t = 0; operation_.gradient && t < declared_.params.size(); ++t) {
            vectors |= !declared_.is_matrix(t);
            if (declared_.is_matrix(t)) gradient(t, whole_blocks);
        }
        if (vectors) operation_.gradient(call_, -1, {0, 0}, nullptr);
        in_pieces(operation_.backward, cuts);
        return outcome(declared_.backward);
    }

    // Copies of the matrices, made of `width` rows at a time or several times as many. Returns whether it wants any.
    bool pack(const fastnn::Use& use, size_t width, bool streaming) {
        unpack();
        if (operation_.packed == nullptr) return false;
        for (int which = 0; which < fastnn::kMostPacked; ++which) {
            const size_t n = operation_.packed(call_, use, which);
            if (n == 0) continue;
            packed_.push_back(std::make_unique<Memory>(n * sizeof(T)));
            call_.packed[which] = reinterpret_cast<T*>(packed_.back()->data());
        }
        call_.streaming = streaming;
        for (size_t t = 0; t < declared_.params.size(); ++t) {
            if (!declared_.is_matrix(t) || operation_.pack == nullptr) continue;
            const size_t n = matrix_rows(t), half = n / 2 / width * width;
            operation_.pack(call_, static_cast<int>(t), {0, half});
            operation_.pack(call_, static_cast<int>(t), {half, n});
        }
        return !packed_.empty();
    }
    void unpack() {
        packed_.clear();
        std::fill(std::begin(call_.packed), std::end(call_.packed), nullptr);
        call_.streaming = false;
    }

    // Makes most of x 0, and rows of sparse data of the others, in another order.
    void make_sparse() {
        const size_t B = call_.B, I = call_.I;
        T* const x = reinterpret_cast<T*>(arrays_.at("x").memory.data());
        starts_.push_back(0);
        for (size_t row = B; row-- > 0;) {
            order_.push_back(static_cast<int64_t>(row));
            for (size_t j = 0; j < I; ++j) {
                if (g_random() % 3 > 0) x[row * I + j] = 0;
                if (x[row * I + j] == 0 && g_random() % 16 > 0) continue;  // a 0 may be an entry
                values_.push_back(x[row * I + j]), columns_.push_back(static_cast<int64_t>(j));
            }
            starts_.push_back(static_cast<int64_t>(values_.size()));
        }
        sparse_.data = values_.data(), sparse_.stored = sizeof(T) == 4 ? fastnn::kFloat32 : fastnn::kFloat64;
        sparse_.starts = starts_.data(), sparse_.columns = columns_.data(), sparse_.wide = true;
        sparse_.entries = values_.size(), sparse_.count = B;
    }
    // Whether its functions get those instead of x.
    void take_sparse(bool whether) {
        call_.x = whether ? nullptr : reinterpret_cast<T*>(arrays_.at("x").memory.data());
        call_.sparse = whether ? &sparse_ : nullptr;
        call_.order = order_.data();
    }

    // What it holds ---------------------------------------------------------------------------------------------

    // A sample for the definition; statistics as they were.
    Sample sample(const Activation* activation) const {
        Sample s;
        s.B = call_.B, s.P = call_.P, s.I = call_.I, s.O = call_.O, s.F = call_.F;
        s.eps = std::numeric_limits<T>::epsilon();
        s.activation = activation, s.alpha = call_.below.alpha, s.key = call_.key();
        for (size_t i = 0; i < declared_.settings.size(); ++i)
            s.settings[declared_.settings[i]] = call_.settings[i];
        for (const auto& [name, array] : arrays_) {
            auto& values = s.arrays[name];
            const auto before = initial_.find(name);
            const char* const data = before == initial_.end() ? array.memory.data() : before->second.data();
            for (size_t i = 0; i < array.elements; ++i) values.push_back(value(array, data, i));
        }
        return s;
    }
    // The values of an output as a call left it.
    std::vector<Ref> values(const std::string& name, const Outcome& outcome) const {
        const Array& array = arrays_.at(name);
        std::vector<Ref> values;
        for (size_t i = 0; i < array.elements; ++i)
            values.push_back(value(array, outcome.at(name).data(), i));
        return values;
    }
    Bytes bytes(const std::string& name) const { return arrays_.at(name).memory.copy(); }

    // Makes the output of that name lie where `in` lies, until `back` puts things as they were.
    void share(const fastnn::Argument& out, const std::string& in) {
        bind(out, arrays_.at(in).memory.data());
    }
    void back(const fastnn::Argument& out, const std::string& in, const Bytes& content) {
        bind(out, arrays_.at(out.name).memory.data());
        arrays_.at(in).memory.assign(content);
    }

  private:
    using Number = fastnn::Number;
    using Role = fastnn::Role;
    struct Array {
        Number number;
        size_t elements;
        Memory memory;
    };
    using Function = void (*)(const fastnn::Call<T>&, fastnn::Range);

    static bool is_array(const fastnn::Argument& argument) {
        switch (argument.role) {
            case Role::setting:
            case Role::activation:
            case Role::below:
            case Role::key:
            case Role::data:
            case Role::rows:
                return false;
            default:
                return true;
        }
    }

    // The argument's array, unless there is one of that name: random numbers within the span of the definition.
    void add(const fastnn::Argument& argument) {
        if (arrays_.count(argument.name)) return bind(argument, arrays_.at(argument.name).memory.data());
        size_t n = 0;
        if (!sizes().elements(argument.dims, &n)) std::abort();
        const size_t size = argument.number == Number::kReal    ? sizeof(T)
                            : argument.number == Number::kInt32 ? sizeof(int32_t)
                                                                : sizeof(double);
        const auto made = arrays_.emplace(argument.name, Array{argument.number, n, Memory(n * size)}).first;
        char* const data = made->second.memory.data();
        const auto found = definition_.spans.find(argument.name);
        const Span span = found == definition_.spans.end() ? Span{-1, 1} : found->second;
        if (argument.number == Number::kReal)
            fill_uniform(reinterpret_cast<T*>(data), n, span.low, span.high);
        if (argument.number == Number::kFloat64)
            fill_uniform(reinterpret_cast<double*>(data), n, span.low, span.high);
        if (span.whole)
            for (size_t i = 0; i < n; ++i) {
                T& x = reinterpret_cast<T*>(data)[i];
                x = std::floor(x);
            }
        if (argument.role == Role::statistic) initial_[argument.name] = made->second.memory.copy();
        bind(argument, data);
    }
    void forget_if_written(const fastnn::Argument& argument) {
        if (argument.output && argument.role != Role::statistic && is_array(argument))
            arrays_.at(argument.name).memory.poison();
    }

    void bind(const fastnn::Argument& argument, void* data) {
        T* const real = static_cast<T*>(data);
        const int i = argument.index;
        switch (argument.role) {
            case Role::x:
                call_.x = real;
                break;
            case Role::a:
                call_.a = real;
                if (!declared_.keeps_z) call_.z = real;
                break;
            case Role::z:
                call_.z = real;
                break;
            case Role::da:
                call_.da = real;
                break;
            case Role::dx:
                call_.dx = real;
                break;
            case Role::saved:
                call_.saved = real;
                break;
            case Role::other:
                call_.other = real;
                break;
            case Role::dother:
                call_.dother = real;
                break;
            case Role::param:
                call_.params[i] = real;
                break;
            case Role::dparam:
                call_.dparams[i] = real;
                break;
            case Role::statistic:
                call_.statistics[i] = data;
                break;
            default:
                call_.scratch[i] = data;
        }
    }

    // Outputs are never read: NaN, or -1. Statistics are: as they were.
    void poison(const fastnn::CallSpec& spec) {
        for (const auto& argument : spec.arguments)
            if (argument.output) arrays_.at(argument.name).memory.poison();
        restore_statistics();
    }
    Outcome outcome(const fastnn::CallSpec& spec) const {
        Outcome made;
        for (const auto& argument : spec.arguments)
            if (argument.output) made[argument.name] = bytes(argument.name);
        return made;
    }

    void in_pieces(Function function, const Cuts& cuts) {
        for (size_t i = 0; i + 1 < cuts.size(); ++i) function(call_, {cuts[i], cuts[i + 1]});
    }
    fastnn::Sizes sizes() const {
        return {declared_, call_.settings, call_.B, call_.P, call_.I, call_.O, call_.F};
    }
    size_t matrix_rows(size_t t) const {
        const auto& dims = declared_.params[t].dims;
        size_t rows = 0;
        if (!sizes().elements(dims, &rows, dims.size() - 1)) std::abort();
        return rows;
    }
    void gradient(size_t t, bool in_one) {
        const size_t rows = matrix_rows(t);
        const size_t columns = arrays_.at(declared_.params[t].name).elements / rows;
        const Cuts cuts = in_one ? whole(rows) : pieces(rows);
        for (size_t i = 0; i + 1 < cuts.size(); ++i)
            operation_.gradient(call_, static_cast<int>(t), {cuts[i], cuts[i + 1]},
                                call_.dparams[t] + cuts[i] * columns);
    }

    static Ref value(const Array& array, const char* data, size_t i) {
        switch (array.number) {
            case Number::kInt32:
                return reinterpret_cast<const int32_t*>(data)[i];
            case Number::kFloat64:
                return reinterpret_cast<const double*>(data)[i];
            default:
                return reinterpret_cast<const T*>(data)[i];
        }
    }

    const fastnn::Operation<T>& operation_;
    const fastnn::Declared& declared_;
    const Definition& definition_;
    const fastnn::Moment moment_{0x123456789abcdef0u, (uint64_t(3) << 32) + 5};
    std::map<std::string, Array> arrays_;
    Outcome initial_;  // of the statistics
    std::vector<std::unique_ptr<Memory>> packed_;
    std::vector<T> values_;  // of make_sparse
    std::vector<int64_t> columns_, starts_, order_;
    fastnn::Rows sparse_;
    fastnn::Call<T> call_;
};

}  // namespace parity
