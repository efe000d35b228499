// Runs of the engine: without the interpreter lock, and with their exceptions as Python's.
#pragma once

#include <stdexcept>

#include "../engine/engine.hpp"
#include "arguments.hpp"
#include "gil.hpp"

namespace fastnn {
namespace bindings {

[[noreturn]] inline void raise(const Refused& refused) {
    value_error("X cannot be read at row " + std::to_string(refused.row) + ", column " +
                std::to_string(refused.column) +
                ": expected an id, a whole number from 0 to below their count; of a sparse X, columns that "
                "it has and that ascend");
}

// run(stop, context) without the interpreter lock, which is taken back now and then to look for a Ctrl-C; the exceptions of
// both as Python's.
template <class F>
void without_gil(F&& run) {
    struct Watch {
        Unlocked* unlocked = nullptr;
        bool interrupted = false;
    } watch;
    const auto signalled = [](void* context) {
        Watch& mine = *static_cast<Watch*>(context);
        return mine.interrupted = mine.interrupted || mine.unlocked->signalled();
    };
    try {
        Unlocked unlocked;
        watch.unlocked = &unlocked;
        run(+signalled, &watch);
    } catch (const Refused& refused) {
        raise(refused);
    } catch (const std::runtime_error&) {  // a handler forked: what it raised in the child comes first
        if (!watch.interrupted) throw;
    }
    if (watch.interrupted) throw py::error_already_set();
}

}  // namespace bindings
}  // namespace fastnn
