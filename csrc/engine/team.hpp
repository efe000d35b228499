// A team of threads that runs a program of phases inside one parallel region. No kernels, no Python.
#pragma once

#include <stdint.h>

namespace fastnn {

// What the team runs: a round (a training step) with its phases 0, 1, ..., phases() - 1, then the next, until `finish` says
// stop. `tasks` is a pure function, asked by threads that may be late.
class Program {
  public:
    virtual int phases() const = 0;
    virtual int64_t tasks(int64_t round, int phase) const = 0;
    virtual void run(int64_t round, int phase, int64_t task, int member) = 0;  // may throw std::bad_alloc
    // Called by one thread after the last task of a phase, before any of the next: false ends the program.
    virtual bool finish(int64_t round, int phase) = 0;
    // Asked then: true where only the team ends, and the calling thread goes on with the next round. Ending the parallel
    // region first would make it wait for members that have lost their core: 4 to 20 ms beside busy processes.
    virtual bool goes_on_alone() { return false; }

  protected:
    ~Program() = default;
};

// Runs it, from round `first` on, on `threads` threads, or fewer: OpenMP may give fewer. The calling thread is member 0.
// Rethrows std::bad_alloc, after which nothing runs any more. Throws std::runtime_error in a child that `run` forked off and
// returned into: the others of the team, and what they were at, stayed with the parent.
//
// Member m of a team of n has tasks m, m + n, m + 2n, ... of each phase to begin with: in every step the same rows and
// the same weights, which are still in its cache. A task is claimed, not assigned: who is done with his own takes those
// of others, and a phase ends when its tasks are done, so that a thread that the scheduler has taken off its core
// between two tasks is not waited for. Beyond a million tasks a member several are claimed at once. Which thread runs a task
// changes nothing in the result.
void run_program(Program& program, int threads, int64_t first = 0);

constexpr int kMostMembers = 64;

}  // namespace fastnn
