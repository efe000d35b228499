// What the code of an activation, a loss or a rule stands for: the table's, then those of one's own. For engine and bindings; the
// kernels, compiled for an instruction set, have their own look.
#pragma once

#include "kernels/table.hpp"
#include "own.hpp"

namespace fastnn {

template <class T>
bool has_activation(const Table<T>& t, int code) {
    return code >= 0 &&
           (code < t.activations || own<T>(OwnKind::activation, code - t.activations) != nullptr);
}
template <class T>
bool has_loss(const Table<T>& t, int code) {
    return code >= 0 && (code < t.losses || own<T>(OwnKind::loss, code - t.losses) != nullptr);
}
template <class T>
bool has_rule(const Table<T>& t, int code) {
    return code >= 0 && (code < t.rules || own<T>(OwnKind::rule, code - t.rules) != nullptr);
}
// Of one that there is. Bit 0: labels, bit 1: values, bit 2: each value by itself.
template <class T>
int targets_of(const Table<T>& t, int loss) {
    return loss < t.losses ? t.loss_targets[loss] : 2 | 4;
}
// Of each row with O outputs; 0: the loss, with so many parameters, does not take O.
template <class T>
size_t target_columns(const Table<T>& t, int loss, size_t parameters, size_t O) {
    const int declared = loss < t.losses ? t.loss_widths[loss] : 1;
    const size_t width = declared > 0 ? static_cast<size_t>(declared) : parameters;
    return width == 0 || O % width != 0 ? 0 : O / width;
}
template <class T>
int slots_of(const Table<T>& t, int rule) {
    return rule < t.rules ? t.rule_slots[rule] : own<T>(OwnKind::rule, rule - t.rules)->slots;
}
template <class T>
int coefficients_of(const Table<T>& t, int rule) {
    return rule < t.rules ? t.rule_coefficients[rule] : own<T>(OwnKind::rule, rule - t.rules)->coefficients;
}

}  // namespace fastnn
