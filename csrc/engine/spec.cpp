// See spec.hpp.
#include "spec.hpp"

#include <algorithm>
#include <sstream>
#include <stdexcept>

#include "../dispatch.hpp"

namespace fastnn {
namespace {

std::vector<std::string> words(const std::string& text, char separator = ' ') {
    std::vector<std::string> found;
    std::istringstream stream(text);
    for (std::string word; std::getline(stream, word, separator);)
        if (!word.empty()) found.push_back(word);
    return found;
}

// "I3O": (I, 3 O).
Dims dims_of(const std::string& text) {
    Dims made;
    size_t times = 1;
    for (const char each : text)
        if (each >= '0' && each <= '9')
            times = static_cast<size_t>(each - '0');
        else
            made.push_back({times, each}), times = 1;
    return made;
}

std::vector<Field> fields(const char* text) {
    std::vector<Field> made;
    for (const std::string& word : words(text)) {
        const auto parts = words(word, ':');
        Field field{parts.at(0), dims_of(parts.at(1))};
        if (parts.size() > 2) field.number = parts[2] == "int32" ? Number::kInt32 : Number::kFloat64;
        made.push_back(field);
    }
    return made;
}

// The place of a field of that name, or -1.
int find(const std::vector<Field>& fields, const std::string& name) {
    for (size_t i = 0; i < fields.size(); ++i)
        if (fields[i].name == name) return static_cast<int>(i);
    return -1;
}

struct Known {
    const char* name;
    Role role;
    char dims;  // of x, of a, or none
};
constexpr Known kKnown[] = {
    {"x", Role::x, 'x'},         {"dx", Role::dx, 'x'},       {"saved", Role::saved, 'x'},
    {"other", Role::other, 'a'}, {"a", Role::a, 'a'},         {"z", Role::z, 'a'},
    {"da", Role::da, 'a'},       {"dz", Role::da, 'a'},       {"dother", Role::dother, 'x'},
    {"key", Role::key, '-'},     {"data", Role::data, '-'},   {"activation", Role::activation, '-'},
    {"rows", Role::rows, '-'},   {"below", Role::below, '-'},
};

}  // namespace

bool CallSpec::has(Role role, bool output) const {
    return std::any_of(arguments.begin(), arguments.end(),
                       [&](const Argument& each) { return each.role == role && each.output == output; });
}

Declared::Declared(const Spec& spec)
    : name(spec.name),
      x(spec.x),
      a(spec.a),
      params(fields(spec.params)),
      statistics(fields(spec.statistics)),
      scratch(fields(spec.scratch)),
      settings(words(spec.settings)),
      columns(spec.phase == std::string("columns")),
      source(spec.phase == std::string("source")),
      forward(parse(spec.forward)),
      backward(parse(spec.backward)),
      predict(*spec.predict ? parse(spec.predict) : forward),
      keeps_z(forward.has(Role::z, true)),
      goes_below(backward.has(Role::below, false)) {
    if (params.size() > kMostTensors || statistics.size() > kMostTensors || scratch.size() > kMostScratch ||
        settings.size() > kMostSettings)
        throw std::logic_error("operation " + name + " declares more than a Call holds");
}

CallSpec Declared::parse(const std::string& text) const {
    CallSpec call;
    bool output = false;
    for (const std::string& word : words(text)) {
        if (word == "->")
            output = true;
        else
            call.arguments.push_back(named(word, output));
    }
    call.passes = call.arguments.size() == 2 && call.arguments[1].name == "x";
    return call;
}

Argument Declared::named(std::string word, bool output) const {
    word = word.substr(0, word.find('~'));
    const bool optional = word.back() == '?';
    if (optional) word.pop_back();
    Argument made{word, Role::x, 0, {}, Number::kReal, output, optional};
    const auto of = [&](Role role, const std::vector<Field>& fields, int index) {
        made.role = role, made.index = index, made.dims = fields[index].dims,
        made.number = fields[index].number;
    };
    int i = -1;
    if ((i = find(params, word)) >= 0)
        of(Role::param, params, i);
    else if ((i = find(statistics, word)) >= 0)
        of(Role::statistic, statistics, i);
    else if ((i = find(scratch, word)) >= 0)
        of(Role::scratch, scratch, i);
    else if (word[0] == 'd' && (i = find(params, word.substr(1))) >= 0)
        of(Role::dparam, params, i);
    else if (const auto at = std::find(settings.begin(), settings.end(), word); at != settings.end())
        made.role = Role::setting, made.index = static_cast<int>(at - settings.begin());
    else {
        const auto known = std::find_if(std::begin(kKnown), std::end(kKnown),
                                        [&](const Known& each) { return word == each.name; });
        if (known == std::end(kKnown)) throw std::logic_error("operation " + name + " names " + word);
        made.role = known->role;
        made.dims = dims_of(known->dims == 'x' ? x : known->dims == 'a' ? a : "");
    }
    return made;
}

double Declared::setting(const char* name_, const double* settings_, double otherwise) const {
    for (size_t i = 0; i < settings.size(); ++i)
        if (settings[i] == name_) return settings_[i];
    return otherwise;
}

Sizes::Sizes(const Declared& declared, const double* settings, size_t B_, size_t P_, size_t I_, size_t O_,
             size_t F_)
    : B(B_), P(P_), I(I_), O(O_), F(F_) {
    const auto whole = [&](const char* name, double otherwise) -> size_t {
        const double value = declared.setting(name, settings, otherwise);
        return value >= 0 && value < 4294967296.0 ? static_cast<size_t>(value) : 0;
    };
    const size_t groups = whole("groups", 1);
    K = whole("kernel_height", 1) * whole("kernel_width", 1);
    J = groups > 0 ? I / groups : 0;
    V = whole("ids", 0);
}

size_t Sizes::of(char letter) const {
    switch (letter) {
        case 'B':
            return B;
        case 'P':
            return P;
        case 'N':
            return B * P;
        case 'I':
            return I;
        case 'O':
            return O;
        case 'F':
            return F;
        case 'G':
            return P * O;
        case 'K':
            return K;
        case 'J':
            return J;
        case 'V':
            return V;
    }
    throw std::logic_error("a dimension that is no letter of a Spec");
}

bool Sizes::elements(const Dims& dims, size_t* n, size_t count) const {
    constexpr size_t kMost = static_cast<size_t>(1) << 56;
    size_t product = 1;
    for (size_t d = 0; d < std::min(dims.size(), count); ++d) {
        const size_t size = of(dims[d]);
        if (size != 0 && product > kMost / size) return false;
        product *= size;
    }
    *n = product;
    return true;
}

const std::vector<Declared>& declared_operations() {
    static const std::vector<Declared> declared = [] {
        const Table<float>& table = *instruction_sets().items[0].float_table;
        std::vector<Declared> made;
        for (int i = 0; i < table.operation_count; ++i) made.emplace_back(table.operations[i].spec);
        return made;
    }();
    return declared;
}

}  // namespace fastnn
