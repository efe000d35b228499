// Every operation against its definition, and against itself: rows cut into ranges, gradients by blocks of rows, packed
// matrices and shared memory change no bit; inputs stay as they are.
#include "../threads.hpp"
#include "case.hpp"
#include "checks.hpp"

namespace parity {
namespace {

using fastnn::CallSpec;
using fastnn::Declared;

// Of a call like "x -> a~x": the output that may share memory, and with what. Empty: none does.
std::pair<std::string, std::string> sharing(const char* call) {
    std::istringstream stream(call);
    for (std::string word; stream >> word;)
        if (const size_t at = word.find('~'); at != std::string::npos)
            return {word.substr(0, at), word.substr(at + 1)};
    return {};
}

template <class T>
class Check {
  public:
    Check(const fastnn::Table<T>& table, Report& report)
        : table_(table), report_(report), W_(lanes_of(table)) {
        for (int f = 0; f < table.activations; ++f) {
            if (activation_named(table.activation_names[f]))
                activations_.push_back(f);
            else
                report.skip(table.activation_names[f]);
        }
    }

    void operation(const fastnn::Operation<T>& operation) {
        const Declared declared(operation.spec);
        const Definition* const definition = definition_named(declared.name);
        if (declared.source) return;  // sources.cpp
        if (definition == nullptr) return report_.skip(declared.name);
        const bool activates = declared.forward.has(fastnn::Role::activation, false);
        const auto all = definition->geometries.empty() ? sizes(operation, declared, *definition)
                                                        : windowed(operation, declared, *definition);
        for (const Size& size : all) {
            // where a case takes long, one activation each
            const bool cheap = operation.packed == nullptr && size.B * size.P * size.O < 10000;
            const size_t count = activates && cheap ? activations_.size() : 1;
            for (size_t i = 0; i < count; ++i) {
                const int f = activations_[turn_++ % activations_.size()];
                one(operation, declared, *definition, size, f, activates ? table_.activation_names[f] : "");
            }
        }
    }

  private:
    std::vector<Size> sizes(const fastnn::Operation<T>& operation, const Declared& declared,
                            const Definition& definition) const {
        const std::vector<size_t> around = sizes_of(table_);
        const struct {
            size_t B, P;
        } batches[] = {{1, 1}, {2, 1}, {W_ + 1, 1}, {19, 1}, {3, 4}, {1, W_ + 2}};
        std::vector<double> settings;
        for (const std::string& name : declared.settings) settings.push_back(definition.settings.at(name));
        std::vector<Size> made;
        const auto add = [&](size_t B, size_t P, size_t I, size_t O) {
            if (declared.x == declared.a ? I == O : operation.fits({P, I, P, O, settings.data()}))
                made.push_back({B, P, I, O});
        };
        for (const size_t O : around)
            for (const auto& batch : batches) {
                for (const size_t I : around) add(batch.B, batch.P, I, O);
                if (O > 1) add(batch.B, batch.P, 3 * O, O);
            }
        add(4100, 1, 3, 3);                 // rows in more than one run of sums
        if (operation.packed != nullptr) {  // large enough for that, and for several blocks
            add(130, 1, 3 * table_.panel_columns + 7, 65);
            add(26, 5, 3 * table_.panel_columns + 7, 65);
            add(4100, 1, 3 * table_.panel_columns + 1, 2);
            add(30, 1, 500, 60);
            add(3, 1, 40, 1100);
            add(13, 1, 1100, 3);
            add(1, 1, 600, 50);
        } else if (fastnn::threads() > 1) {  // large enough to be shared out
            add(63, 7, 300, 300);
            add(63, 7, 600, 300);
        }
        return made;
    }

    // Images of each geometry, of channels around the vector widths: in one group, in two, and one channel each.
    std::vector<Size> windowed(const fastnn::Operation<T>& operation, const Declared& declared,
                               const Definition& definition) const {
        std::vector<Size> made;
        size_t turn = 0;
        for (const size_t O : sizes_of(table_))
            for (const size_t I : sizes_of(table_))
                for (const size_t groups : {size_t(1), size_t(2), O}) {
                    auto settings = definition.geometries[turn++ % definition.geometries.size()];
                    settings["channels"] = static_cast<double>(I);
                    if (settings.count("groups")) settings["groups"] = static_cast<double>(groups);
                    const auto at = [&](const char* name) { return static_cast<size_t>(settings.at(name)); };
                    const size_t from = at("height") * at("width");
                    const size_t P = settings.count("out_height")
                                         ? at("out_height") * at("out_width")
                                         : from * at("factor_height") * at("factor_width");
                    std::vector<double> numbers;
                    for (const std::string& name : declared.settings) numbers.push_back(settings.at(name));
                    if (groups > 0 && operation.fits({from, I, P, O, numbers.data()}))
                        made.push_back({1 + turn % 3, P, I, O, from * I, settings});
                }
        return made;
    }

    void one(const fastnn::Operation<T>& operation, const Declared& declared, const Definition& definition,
             const Size& size, int f, const std::string& activation_name) {
        Case<T> c(operation, declared, definition, size);
        c.set_activation(f, 0.25);
        const Activation* const activation = activation_named(table_.activation_names[f]);
        const Labels label{declared.name, activation_name};
        const size_t n = c.training_range();

        if (!declared.forward.passes) {
            const auto forward = [&](const Cuts& cuts) { return c.forward(cuts); };
            call(c, declared.forward, definition.forward, activation, label + " forward", n, forward,
                 sharing(operation.spec.forward));
        }
        if (!declared.backward.arguments.empty()) {
            const auto backward = [&](const Cuts& cuts) { return c.backward(cuts); };
            call(c, declared.backward, definition.backward, activation, label + " backward", n, backward,
                 sharing(operation.spec.backward));
        }
        if (operation.packed != nullptr) packed(c, label, size);
        if (operation.sparse && size.P == 1) sparse(c, label);
        if (*operation.spec.predict && !declared.predict.passes) {
            const auto predict = [&](const Cuts& cuts) { return c.predict(cuts); };
            call(c, declared.predict, definition.predict, activation, label + " predict", c.rows(), predict,
                 sharing(operation.spec.predict));
        }
    }

    // What the lines of the report begin with, and where an activation has its part, its name.
    struct Labels {
        std::string text, activation;
        Labels operator+(const char* more) const { return {text + more, activation}; }
        std::string of(const fastnn::Argument& output) const {
            const bool activated = output.role == fastnn::Role::a || output.role == fastnn::Role::dx;
            return text + " " + output.name + (activated && !activation.empty() ? " " + activation : "");
        }
    };

    // One function of the operation: run(cuts).
    template <class Run>
    void call(Case<T>& c, const CallSpec& spec, void (*define)(Sample&), const Activation* activation,
              const Labels& label, size_t n, const Run& run,
              const std::pair<std::string, std::string>& shared) {
        c.restore_statistics();
        Outcome inputs;
        for (const auto& argument : spec.arguments)
            if (!argument.output && !argument.dims.empty() && !written(spec, argument.name))
                inputs[argument.name] = c.bytes(argument.name);

        const Outcome made = run(whole(n));
        Sample sample = c.sample(activation);
        define(sample);
        for (const auto& argument : spec.arguments)
            if (argument.output)
                compare(report_.line(label.of(argument)), c.values(argument.name, made),
                        sample.wanted.at(argument.name));
        Line& kept = report_.line(label.text + " keeps its inputs");
        for (const auto& [name, bytes] : inputs) kept.add(c.bytes(name) == bytes);

        report_.line(label.text + " in pieces").add(run(pieces(n)) == made);
        for (const auto& argument : spec.arguments)
            if (argument.output && argument.name == shared.first) {
                Line& line = report_.line(label.text + " " + shared.first + " in place of " + shared.second);
                in_place(c, argument, shared.second, made, run, n, line);
            }
    }

    static bool written(const CallSpec& spec, const std::string& name) {
        return std::any_of(spec.arguments.begin(), spec.arguments.end(),
                           [&](const auto& argument) { return argument.output && argument.name == name; });
    }

    static void compare(Line& line, const std::vector<Ref>& got, const Wanted& wanted) {
        line.add(got.size() == wanted.value.size());
        for (size_t i = 0; i < std::min(got.size(), wanted.value.size()); ++i)
            line.add(got[i], wanted.value[i], wanted.bound[i]);
    }

    // The output `out` where `in` lies: the same bits in all outputs, but for `in`.
    template <class Run>
    void in_place(Case<T>& c, const fastnn::Argument& out, const std::string& in, const Outcome& made,
                  const Run& run, size_t n, Line& line) {
        const Bytes before = c.bytes(in);
        c.share(out, in);
        Outcome found = run(whole(n));
        found[out.name] = c.bytes(in);
        c.back(out, in, before);
        for (const auto& [name, bytes] : made)
            if (name != in) line.add(found.at(name) == bytes);
        run(whole(n));  // leaves the outputs as others expect them
    }

    // Packed matrices: for training, past the caches, and for predictions.
    void packed(Case<T>& c, const Labels& label, const Size& size) {
        const struct {
            const char* name;
            fastnn::Use use;
            bool streaming;
        } ways[] = {{" packed", {true, true, true, size.B}, false},
                    {" streamed", {true, true, true, size.B}, true},
                    {" packed to predict", {false, false, false, 1000}, false}};
        const size_t n = c.training_range();
        const Outcome forward = c.forward(whole(n)), backward = c.backward(whole(n));
        for (const auto& way : ways) {
            if (!c.pack(way.use, table_.panel_columns, way.streaming)) continue;
            for (const Cuts& cuts : {whole(n), pieces(n)}) {
                report_.line(label.text + way.name + " forward").add(c.forward(cuts) == forward);
                if (way.use.training)
                    report_.line(label.text + way.name + " backward").add(c.backward(cuts) == backward);
            }
        }
        c.unpack();
    }

    // The same rows as sparse data: the same bits.
    void sparse(Case<T>& c, const Labels& label) {
        const size_t n = c.training_range();
        c.make_sparse();
        const Outcome forward = c.forward(whole(n)), backward = c.backward(whole(n));
        c.take_sparse(true);
        for (const Cuts& cuts : {whole(n), pieces(n)}) {
            report_.line(label.text + " sparse forward").add(c.forward(cuts) == forward);
            report_.line(label.text + " sparse backward").add(c.backward(cuts) == backward);
        }
        c.take_sparse(false);
    }

    const fastnn::Table<T>& table_;
    Report& report_;
    const size_t W_;
    std::vector<int> activations_;  // those that have a definition
    size_t turn_ = 0;               // of the activations
};

}  // namespace

template <class T>
void check_operations(const fastnn::Table<T>& table, Report& report) {
    Check<T> check(table, report);
    for (int i = 0; i < table.operation_count; ++i) check.operation(table.operations[i]);
}
PARITY_FOR_BOTH(check_operations)

}  // namespace parity
