// How many threads a piece of work gets, and running it on them; scratch memory. No kernels, no Python.
// Compiled once for the baseline: the per-instruction-set files only call it.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace fastnn {

// The most threads a kernel may use: limit_threads of the calling thread, else set_threads, else OpenMP's default
// (OMP_NUM_THREADS, else the CPUs we may run on, of which `quota` says how many are paid for), else 1. 1 in a
// forked child that cannot start threads: where the fork came while a team was at work, its own or another thread's, and
// wherever the OpenMP is not GCC's (libgomp 9 or later).
int threads();
void set_threads(int n);          // n >= 1; 0: back to the default
int limit_threads(int n);         // of the calling thread; 0: no limit. Returns what it was
void set_thread_quota(int cpus);  // of a control group: unless OMP_NUM_THREADS says otherwise

// Threads for work that takes about `nanoseconds` on one thread: 1 below 60 us, inside a parallel region, and
// for a while after the cores turned out to be taken by others.
int threads_for(double nanoseconds);

// Threads that are worth waking for a program (engine/team.hpp) that takes about `nanoseconds` on one: each gets at least
// `least_work` of it, 48 us unless set: what waking it may cost. For tests: with 0, everything gets all threads.
int program_threads(double nanoseconds);
void set_least_work(double nanoseconds);
double least_work();

// A program that runs while this lives, and is nothing like the one before it: as program_threads, but 1 for a while after
// the cores turned out to be taken by others, which it notices.
class Region {
  public:
    explicit Region(double nanoseconds);
    ~Region();
    Region(const Region&) = delete;
    int threads() const { return threads_; }

  private:
    double expected_;
    int threads_;
    int64_t start_ = 0;  // ns
};

// What a fork must know of: exists while a team works. alone(): do without one, as a fork is under way or the system starts
// no more threads.
class TeamAtWork {
  public:
    explicit TeamAtWork(int threads);
    ~TeamAtWork();
    TeamAtWork(const TeamAtWork&) = delete;
    bool alone() const { return alone_; }

  private:
    bool alone_ = false;
};
// How many forks lie between the process that loaded us and this one.
int forks();

// task(context, t) for t in 0 .. tasks-1, each on one thread; `nanoseconds` as for threads_for. Rethrows
// std::bad_alloc.
void run_tasks(int tasks, double nanoseconds, void (*task)(void*, int), void* context);

// `bytes` of this thread's memory, 64-byte aligned, valid until the next call with that slot. The address sanitizer sees
// where more is touched.
// Throws std::bad_alloc.
enum Slot { kPackA, kPackB, kThin, kRow, kGradient, kRunSum, kWhole, kState, kImage, kSlots };
void* scratch(Slot slot, size_t bytes);

}  // namespace fastnn
