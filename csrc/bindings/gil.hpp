// Giving the GIL up while C++ works, and taking it back.
#pragma once

#include <pybind11/pybind11.h>
#ifndef _WIN32
#include <unistd.h>
#endif

namespace fastnn {
namespace bindings {

// ns of work: below, giving the GIL up and getting it back costs too much
constexpr double kReleaseGil = 20000.0;

// Takes the GIL back. In a daemon thread at the interpreter's end it does not come back: Python before 3.14 ends the
// thread by pthread_exit, which glibc does by an exception, and that may not leave a destructor (std::terminate). The
// thread then hangs until the process is gone, as Python 3.14 has it (CPython issue 87135).
inline void take_gil(PyThreadState* state) noexcept {
    try {
        PyEval_RestoreThread(state);
    } catch (...) {
        for (;;) pause();
    }
}

// Lets other Python threads run while a long kernel does.
class Unlocked {
  public:
    explicit Unlocked(double nanoseconds = __builtin_inf())
        : state_(nanoseconds > kReleaseGil ? PyEval_SaveThread() : nullptr) {}
    ~Unlocked() {
        if (state_) take_gil(state_);
    }
    Unlocked(const Unlocked&) = delete;
    Unlocked& operator=(const Unlocked&) = delete;

    // Is there a Ctrl-C, or another signal whose handler raises? By the thread that made this, with the GIL for so long.
    bool signalled() {
        take_gil(state_);
        const bool raised = PyErr_CheckSignals() != 0;
        state_ = PyEval_SaveThread();
        return raised;
    }

  private:
    PyThreadState* state_;
};

}  // namespace bindings
}  // namespace fastnn
