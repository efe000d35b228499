// The sources, and the gather of values: rows as they are stored, of every type, dense with gaps between them and sparse,
// into a batch; and what cannot be taken, by its place.
#include <functional>

#include "../engine/spec.hpp"
#include "checks.hpp"

namespace parity {
namespace {

using fastnn::kFine;
using fastnn::Rows;
using fastnn::Stored;

struct Source {
    // Of one value: what it becomes, by the source's statistics of its column, in the order of its Spec.
    std::function<Ref(Ref value, const std::vector<Ref>& statistics)> value;
    std::map<std::string, double> settings = {};
};
constexpr int kCount = 100;  // of ids: int8 holds them, and one more
const std::map<std::string, Source> kSources = {
    {"cast", {[](Ref value, const std::vector<Ref>&) { return value; }}},
    {"normalize", {[](Ref value, const std::vector<Ref>& s) { return (value - s[0]) * s[1]; }}},
    {"ids", {[](Ref value, const std::vector<Ref>&) { return value; }, {{"count", kCount}}}},
};

// The numbers of a data set, whatever they are stored as: ids, two thirds of them 0.
struct Content {
    static constexpr size_t n = 6;
    const size_t I;
    std::vector<int> values;

    explicit Content(size_t columns) : I(columns), values(n * columns) {
        for (int& value : values) value = g_random() % 3 == 0 ? static_cast<int>(g_random() % kCount) : 0;
    }
    int at(int64_t row, size_t column) const { return values[static_cast<size_t>(row) * I + column]; }
};

template <class S>
struct Dense {
    const size_t ld;
    Buffer<S> data;

    explicit Dense(const Content& content)
        : ld(content.I + 1), data(Content::n * ld - 1, S(0)) {  // the last row has no padding after it
        for (size_t r = 0; r < Content::n; ++r)
            for (size_t j = 0; j < content.I; ++j) data[r * ld + j] = static_cast<S>(content.at(r, j));
    }
    Rows rows(Stored type) const {
        Rows made;
        made.data = data.get(), made.stored = type, made.stride = static_cast<ptrdiff_t>(ld * sizeof(S));
        return made;
    }
};

template <class S, class Index>
struct Sparse {
    std::vector<S> values;
    std::vector<Index> columns, starts{0};

    explicit Sparse(const Content& content) {
        for (size_t r = 0; r < Content::n; ++r) {
            for (size_t j = 0; j < content.I; ++j)
                if (content.at(r, j) != 0) {
                    values.push_back(static_cast<S>(content.at(r, j)));
                    columns.push_back(static_cast<Index>(j));
                }
            starts.push_back(static_cast<Index>(values.size()));
        }
    }
};

// A sparse data set between guard pages.
template <class S, class Index>
struct Guarded {
    Buffer<S> values;
    Buffer<Index> columns, starts;

    explicit Guarded(const Sparse<S, Index>& from)
        : values(copied(from.values)), columns(copied(from.columns)), starts(copied(from.starts)) {}
    Rows rows(Stored type) const {
        Rows made;
        made.data = values.get(), made.stored = type, made.starts = starts.get(),
        made.columns = columns.get();
        made.wide = sizeof(Index) == 8, made.entries = values.size();
        return made;
    }
};

// Which rows are asked for: some several times.
Buffer<int64_t> asked_for(size_t B) {
    Buffer<int64_t> rows(B, 0);
    for (size_t i = 0; i < B; ++i) rows[i] = static_cast<int64_t>((i * 5) % Content::n);
    return rows;
}

template <class T>
class Check {
  public:
    Check(const fastnn::Table<T>& table, Report& report) : table_(table), report_(report) {}

    template <class S>
    void stored_as(Stored type) {
        for (const size_t I : sizes_of(table_)) {
            const Content content(I);
            const Dense<S> dense(content);
            taken(content, dense.rows(type), "");
            const Guarded narrow(Sparse<S, int32_t>{content});
            taken(content, narrow.rows(type), " sparse");
            const Guarded wide(Sparse<S, int64_t>{content});
            taken(content, wide.rows(type), " sparse");
            broken<S>(content, type);
            refused<S>(content, type);
        }
    }

  private:
    static constexpr size_t kRows = 9;

    template <class F>
    void for_sources(F&& f) {
        for (int i = 0; i < table_.operation_count; ++i) {
            if (table_.operations[i].gather == nullptr) continue;
            const fastnn::Declared declared(table_.operations[i].spec);
            const auto found = kSources.find(declared.name);
            if (found == kSources.end())
                report_.skip(declared.name);
            else
                f(table_.operations[i], declared, found->second);
        }
    }

    // The call of a source, and what its statistics lie in.
    struct Bound {
        fastnn::Call<T> call{};
        std::vector<Buffer<double>> statistics;

        Bound(const fastnn::Declared& declared, const Source& source, size_t I) {
            statistics.reserve(fastnn::kMostTensors);
            for (size_t k = 0; k < declared.statistics.size(); ++k) {
                statistics.push_back(uniform<double>(I, -2, k == 0 ? 300 : 2));
                call.statistics[k] = statistics.back().get();
            }
            for (size_t k = 0; k < declared.settings.size(); ++k)
                call.settings[k] = source.settings.at(declared.settings[k]);
        }
    };

    void taken(const Content& content, const Rows& data, const char* kind) {
        const Buffer<int64_t> rows = asked_for(kRows);
        const size_t I = content.I;
        Buffer<T> out(kRows * I), parts(kRows * I);
        Line& line = report_.line(std::string("gather") + kind);
        line.add(table_.gather(data, rows, kRows, 0, I, out) == kFine);
        for (size_t i = 0; i < kRows * I; ++i) line.add(out[i], content.at(rows[i / I], i % I), 0);

        for_sources([&](const auto& operation, const auto& declared, const Source& source) {
            const Bound bound(declared, source, I);
            Line& values = report_.line(declared.name + kind);
            values.add(operation.gather(bound.call, data, rows, kRows, 0, I, out) == kFine);
            for (size_t i = 0; i < kRows * I; ++i) {
                std::vector<Ref> s;
                for (const auto& column : bound.statistics) s.push_back(column[i % I]);
                const Ref want = source.value(content.at(rows[i / I], i % I), s);
                // exact, or two roundings in double and half an ulp of T
                const Ref eps = s.empty() ? 0
                                          : Ref(std::numeric_limits<T>::epsilon()) / 2 +
                                                1.01L * std::numeric_limits<double>::epsilon();
                values.add(out[i], want, eps * std::fabs(want));
            }
            const size_t half = kRows / 2;  // the others are those that `following` announces
            operation.gather(bound.call, data, rows, half, kRows - half, I, parts);
            operation.gather(bound.call, data, rows + half, kRows - half, 0, I, parts + half * I);
            report_.line(declared.name + kind + " in pieces")
                .add(std::memcmp(out, parts, kRows * I * sizeof(T)) == 0);
        });
    }

    // Sparse rows that point outside of the data or of the row: refused by the place of the row, and not followed.
    template <class S>
    void broken(const Content& content, Stored type) {
        const Sparse<S, int64_t> whole(content);
        if (whole.values.empty()) return;
        const Buffer<int64_t> rows = asked_for(kRows);
        const auto refused_by_order = [&](const Sparse<S, int64_t>& data) {
            return table_.check_sparse_rows(Guarded(data).rows(type), rows, kRows, content.I) != kFine;
        };
        report_.line("check_sparse_rows").add(!refused_by_order(whole));
        for (size_t row = 0; row < Content::n; ++row) {
            if (whole.starts[row] + 2 > whole.starts[row + 1]) continue;
            Sparse<S, int64_t> twice = whole, swapped = whole;
            twice.columns[whole.starts[row]] = twice.columns[whole.starts[row] + 1];
            std::swap(swapped.columns[whole.starts[row]], swapped.columns[whole.starts[row] + 1]);
            report_.line("check_sparse_rows refuses columns that do not ascend")
                .add(refused_by_order(twice) && refused_by_order(swapped));
        }
        Buffer<T> out(kRows * content.I);
        const auto check = [&](const Sparse<S, int64_t>& data, int64_t row) {
            const Guarded guarded(data);
            size_t place = 0;
            while (rows[place] != row) ++place;
            const Rows stored = guarded.rows(type);
            report_.line("check_sparse_rows refuses broken rows")
                .add(table_.check_sparse_rows(stored, rows, kRows, content.I) == place * content.I);
            report_.line("gather refuses broken rows")
                .add(table_.gather(stored, rows, kRows, 0, content.I, out) == place * content.I);
            for_sources([&](const auto& operation, const auto& declared, const Source& source) {
                const Bound bound(declared, source, content.I);
                report_.line(declared.name + " refuses broken rows")
                    .add(operation.gather(bound.call, stored, rows, kRows, 0, content.I, out) ==
                         place * content.I);
            });
        };
        int64_t last = Content::n - 1;  // the last row that has entries
        while (whole.starts[last] == whole.starts[last + 1]) --last;
        for (const int64_t column : {static_cast<int64_t>(content.I), int64_t(-1), int64_t(1) << 60}) {
            Sparse<S, int64_t> data = whole;
            data.columns.back() = column;
            check(data, last);
        }
        for (const int64_t end : {whole.starts.back() + 1, int64_t(-1), int64_t(1) << 60}) {
            Sparse<S, int64_t> data = whole;
            data.starts.back() = end;
            check(data, Content::n - 1);
        }
    }

    // What is no id, where a source counts them: by its place.
    template <class S>
    void refused(const Content& content, Stored type) {
        const Buffer<int64_t> rows = asked_for(kRows);
        Buffer<T> out(kRows * content.I);
        for_sources([&](const auto& operation, const auto& declared, const Source& source) {
            if (source.settings.count("count") == 0) return;
            std::vector<S> wrong{S(kCount)};
            if (std::numeric_limits<S>::is_signed) wrong.push_back(S(-1));
            if constexpr (!std::numeric_limits<S>::is_integer)
                wrong.push_back(S(0.5)), wrong.push_back(S(NAN));
            const Bound bound(declared, source, content.I);
            for (const S value : wrong) {
                const size_t row = 2, column = content.I / 2;
                const Dense<S> data(content);
                data.data[static_cast<size_t>(rows[row]) * data.ld + column] = value;
                report_.line(declared.name + " refuses what is none")
                    .add(operation.gather(bound.call, data.rows(type), rows, kRows, 0, content.I, out) ==
                         row * content.I + column);
            }
        });
    }

    const fastnn::Table<T>& table_;
    Report& report_;
};

}  // namespace

template <class T>
void check_sources(const fastnn::Table<T>& table, Report& report) {
    Check<T> check(table, report);
    check.template stored_as<float>(fastnn::kFloat32);
    check.template stored_as<double>(fastnn::kFloat64);
    check.template stored_as<uint8_t>(fastnn::kUint8);
    check.template stored_as<int8_t>(fastnn::kInt8);
    check.template stored_as<int16_t>(fastnn::kInt16);
    check.template stored_as<uint16_t>(fastnn::kUint16);
    check.template stored_as<int32_t>(fastnn::kInt32);
    check.template stored_as<uint32_t>(fastnn::kUint32);
    check.template stored_as<int64_t>(fastnn::kInt64);
}
PARITY_FOR_BOTH(check_sources)

}  // namespace parity
