// Every loss and its gradient, of labels and of values.
#include "checks.hpp"
#include "formulas.hpp"

namespace parity {
namespace {

// Of one row: its logits z, and y or the label. What the loss and its gradient should be, and of what sizes their terms are.
struct Row {
    size_t O;
    std::vector<Ref> z, y;
    size_t label;
    bool labelled;

    Ref value = 0, size = 0, mass = 0;
    std::vector<Ref> gradient;
};

void point_by_point(Row& row, const PointLoss& loss, Ref p) {
    for (size_t o = 0; o < row.O; ++o) {
        const Ref v = loss.value(row.z[o], row.y[o], p);
        row.value += v / row.O, row.size += (std::fabs(v) + 8) / row.O;
        row.gradient[o] = loss.gradient(row.z[o], row.y[o], p) / row.O;
    }
}

void cross_entropy(Row& row, Ref smoothing) {
    std::vector<Ref> q(row.O);
    Ref total = 0;
    for (size_t o = 0; o < row.O; ++o) {
        q[o] = (row.labelled ? Ref(o == row.label) : row.y[o]) * (1 - smoothing) + smoothing / row.O;
        total += std::exp(row.z[o]), row.mass += q[o];
    }
    for (size_t o = 0; o < row.O; ++o) {
        row.value += q[o] * (ref_log(total) - row.z[o]), row.size += 16 * (q[o] + Ref(1) / row.O);
        row.gradient[o] = std::exp(row.z[o]) / total * row.mass - q[o];
    }
}

void focal(Row& row, Ref gamma) {
    std::vector<Ref> slope(row.O), p(row.O);
    Ref total = 0, sum = 0;
    for (size_t o = 0; o < row.O; ++o) total += std::exp(row.z[o]);
    row.size = 16 * row.O;
    for (size_t o = 0; o < row.O; ++o) {
        const Ref q = row.labelled ? Ref(o == row.label) : row.y[o];
        const Ref log_p = std::fmin(row.z[o] - ref_log(total), Ref(0)), rest = -std::expm1(log_p);
        p[o] = std::exp(log_p);
        row.value -= q * std::pow(rest, gamma) * log_p;
        // one class alone: p is 1, and stays so
        slope[o] = row.O == 1 ? 0 : q * std::pow(rest, gamma) * (gamma * p[o] * log_p / rest - 1);
        sum += slope[o], row.mass += 4 * q;
    }
    for (size_t o = 0; o < row.O; ++o) row.gradient[o] = slope[o] - p[o] * sum;
}

void gaussian(Row& row) {
    const size_t T = row.O / 2;
    for (size_t t = 0; t < T; ++t) {
        const Ref r = row.z[t] - row.y[t], variance = std::exp(row.z[T + t]);
        row.value += (row.z[T + t] + r * r / variance) / 2 / T;
        row.size += (8 + 8 * r * r / variance) / T, row.mass += r * r / variance / T;
        row.gradient[t] = r / variance / T, row.gradient[T + t] = (1 - r * r / variance) / 2 / T;
    }
}

void quantiles(Row& row) {
    const size_t T = row.O / 2;
    for (size_t o = 0; o < row.O; ++o) {
        const Ref r = row.z[o] - row.y[o % T], q = o < T ? 0.25L : 0.75L;
        row.value += (r > 0 ? (1 - q) * r : -q * r) / row.O, row.size += 8 / Ref(row.O);
        row.gradient[o] = (r > 0 ? 1 - q : r < 0 ? -q : 0.5L - q) / row.O;
    }
}

void hinge(Row& row) {
    size_t rival = row.label;
    for (size_t o = 0; o < row.O; ++o)
        if (const Ref margin = row.z[o] - row.z[row.label] + 1; o != row.label && margin > row.value)
            row.value = margin, rival = o;
    row.size = 16;
    if (rival != row.label) row.gradient[rival] = 1, row.gradient[row.label] = -1;
}

// Returns whether there is a definition of that name.
bool define(const std::string& name, Row& row, Ref parameter) {
    row.gradient.assign(row.O, 0);
    if (const PointLoss* const loss = point_loss_named(name))
        point_by_point(row, *loss, parameter);
    else if (name == "cross_entropy")
        cross_entropy(row, parameter);
    else if (name == "focal")
        focal(row, parameter);
    else if (name == "gaussian")
        gaussian(row);
    else if (name == "quantiles")
        quantiles(row);
    else if (name == "hinge")
        hinge(row);
    else
        return false;
    return true;
}

template <class T>
void one(const fastnn::Table<T>& t, int loss, bool labelled, size_t B, size_t O, Report& report) {
    const std::string name = t.loss_names[loss];
    const Ref eps = std::numeric_limits<T>::epsilon();
    const size_t width = t.loss_widths[loss] == 0 ? 2 : static_cast<size_t>(t.loss_widths[loss]);
    if (O % width != 0) return;
    Buffer<T> z = uniform<T>(B * O, -4, 4), y = uniform<T>(B * O, 0, 1), weight = uniform<T>(B, 0.1, 1);
    Buffer<int64_t> labels(B, 0);
    for (size_t i = 0; i < B; ++i) labels[i] = static_cast<int64_t>(g_random() % O);
    Buffer<T> value(B), dz(B * O);
    const double parameters[] = {0.25, 0.75};
    t.loss(loss, parameters, t.loss_widths[loss] == 0 ? 2 : 1, B, O, z, labelled ? labels.get() : nullptr,
           labelled ? nullptr : y.get(), weight, value, dz);
    for (size_t i = 0; i < B; ++i) {
        const T *const zi = z + i * O, *const yi = y + i * (O / width);
        Row row{O, {zi, zi + O}, {yi, yi + O / width}, static_cast<size_t>(labels[i]), labelled, 0, 0, 0, {}};
        if (!define(name, row, 0.25L)) return report.skip(name);
        report.line("loss " + name).add(value[i], row.value, (O + 16) * eps * row.size);
        Line& line = report.line("loss " + name + " dz");
        for (size_t o = 0; o < O; ++o) {
            const Ref size =
                std::fabs(row.gradient[o]) + (1 + row.mass) * (name == "tweedie"                      ? 4000
                                                               : name == "poisson" || name == "gamma" ? 60
                                                                                                      : 4);
            line.add(dz[i * O + o], row.gradient[o] * weight[i], (O + 16) * eps * weight[i] * size);
        }
    }
}

}  // namespace

template <class T>
void check_losses(const fastnn::Table<T>& table, Report& report) {
    for (const size_t O : sizes_of(table))
        for (const size_t B : {size_t(1), size_t(2), lanes_of(table) + 1, size_t(19)})
            for (int l = 0; l < table.losses; ++l) {
                if (table.loss_targets[l] & 1) one(table, l, true, B, O, report);
                if (table.loss_targets[l] & 2) one(table, l, false, B, O, report);
            }
}
PARITY_FOR_BOTH(check_losses)

}  // namespace parity
