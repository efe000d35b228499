// Formulas of one's own: compiled elsewhere, handed in by Python, called over blocks of values. No kernels, no Python.
#pragma once

#include <stddef.h>

namespace fastnn {

// Values that a formula takes in a call, never fewer: a loop of fixed length has no remainder, so that each value goes through
// the same instructions wherever it stands in a batch, whichever thread takes it.
constexpr size_t kOwnBlock = 64;
constexpr int kMostSlots = 8, kMostCoefficients = 16;

// in and out: blocks of kOwnBlock values, one behind the other.
//
//                numbers        in             out
//   loss         parameter      z, y           value, gradient
//   activation   alpha          z              a
//                alpha          saved          derivative
//   rule         coefficients   g, slots       step, slots
template <class T>
using Formula = void (*)(const double* numbers, const T* in, T* out);

template <class T>
struct Own {
    Formula<T> formula = nullptr, derivative = nullptr;
    int slots = 0, coefficients = 0;  // of a rule
};

enum class OwnKind { loss, activation, rule };

// What was added by that index, or null. For any thread at any time: it stays for the life of the process.
template <class T>
const Own<T>* own(OwnKind kind, int index);
// Its index. Throws std::length_error where there are too many.
template <class T>
int add_own(OwnKind kind, const Own<T>& own);

}  // namespace fastnn
