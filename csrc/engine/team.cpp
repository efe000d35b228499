// See team.hpp.
#include "team.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <new>
#include <stdexcept>

#include "../threads.hpp"

#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(_WIN32)
#include <windows.h>
#else
#include <sched.h>
#include <setjmp.h>
#endif
#if defined(__linux__)
#include <sys/resource.h>
#endif

namespace fastnn {
namespace {

void run_alone(Program& program) {
    const int phases = program.phases();
    for (int64_t round = 0;; ++round)
        for (int phase = 0; phase < phases; ++phase) {
            const int tasks = program.tasks(round, phase);
            for (int t = 0; t < tasks; ++t) program.run(round, phase, t, 0);
            if (!program.finish(round, phase)) return;
        }
}

#ifdef _OPENMP

void pause_core() {
#if defined(__x86_64__) || defined(_M_X64)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}
void yield_core() {
#if defined(_WIN32)
    SwitchToThread();
#else
    sched_yield();
#endif
}

// How often this thread lost its core to somebody else; where that is not told, often enough to be believed.
int64_t switches() {
#if defined(__linux__)
    rusage usage;
    return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nivcsw : 0;
#else
    static thread_local int64_t calls = 0;
    return calls += 10;
#endif
}

using Clock = std::chrono::steady_clock;

class Team {
  public:
    explicit Team(Program& program) : program_(program), phases_(program.phases()) {}

    void member(int id, int members) {
        const int64_t before = switches();
        for (int64_t sequence = 0; sequence != kStop; sequence = wait(sequence)) {
            const int tasks = program_.tasks(round(sequence), phase(sequence));
            int done = 0;
            for (int k = 0; k < members; ++k) {
                const int owner = (id + k) % members;
                for (int t; (t = claim(sequence, owner, members, tasks)) >= 0; ++done) {
                    run(sequence, t, id);
#ifndef _WIN32
                    if (forks() != forks_) _longjmp(way_out, 1);
#endif
                }
            }
            if (done > 0 && done_.fetch_add(done, std::memory_order_acq_rel) + done == tasks)
                complete(sequence, members);
        }
        switches_.fetch_add(switches() - before, std::memory_order_relaxed);
    }
    bool out_of_memory() const { return out_of_memory_.load(std::memory_order_relaxed); }

    void report(Clock::duration took) const {
        using Seconds = std::chrono::duration<double>;
        const bool others = switches_.load(std::memory_order_relaxed) >= 3;
        const Clock::duration lost(others ? lost_.load(std::memory_order_relaxed) : 0);
        report_waiting(Seconds(lost).count(), Seconds(took).count());
    }

#ifndef _WIN32
    // The caller's: out of a region that would never end, in a forked child. Nothing between here and there has a
    // destructor.
    jmp_buf way_out;
#endif

  private:
    static constexpr int64_t kStop = -1;
    static constexpr int kTaskBits = 20;
    static constexpr int kSpins = 1000;  // pauses: 10 to 40 us; what follows gives the core away

    // The next task of `owner`, or -1: none left, or the phase is over.
    int claim(int64_t sequence, int owner, int members, int tasks) {
        std::atomic<uint64_t>& next = next_[owner].ticket;
        uint64_t ticket = next.load(std::memory_order_acquire);
        for (;;) {
            if (ticket >> kTaskBits != static_cast<uint64_t>(sequence)) return -1;
            const int task = owner + members * static_cast<int>(ticket & ((uint64_t(1) << kTaskBits) - 1));
            if (task >= tasks) return -1;
            if (next.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel,
                                           std::memory_order_acquire))
                return task;
        }
    }
    void run(int64_t sequence, int task, int id) {
        try {
            program_.run(round(sequence), phase(sequence), task, id);
        } catch (const std::bad_alloc&) {
            out_of_memory_.store(true, std::memory_order_relaxed);
        }
    }
    void complete(int64_t sequence, int members) {
        done_.store(0, std::memory_order_relaxed);
        const bool go_on = !out_of_memory() && program_.finish(round(sequence), phase(sequence));
        for (int m = 0; m < members; ++m)
            next_[m].ticket.store(static_cast<uint64_t>(sequence + 1) << kTaskBits,
                                  std::memory_order_release);
        sequence_.store(go_on ? sequence + 1 : kStop, std::memory_order_release);
    }
    int64_t wait(int64_t sequence) {
        Clock::time_point since;
        for (int64_t spins = 0;; ++spins) {
            const int64_t now = sequence_.load(std::memory_order_acquire);
            if (now != sequence) {
                if (spins > kSpins)
                    lost_.fetch_add((Clock::now() - since).count(), std::memory_order_relaxed);
                return now;
            }
            if (spins == kSpins) since = Clock::now();
            spins < kSpins ? pause_core() : yield_core();
        }
    }

    struct alignas(64) Next {
        std::atomic<uint64_t> ticket{
            0};  // the phase's number and, below it, how many of the owner's tasks are taken
    };
    // `sequence` counts phases from the start.
    int64_t round(int64_t sequence) const { return sequence / phases_; }
    int phase(int64_t sequence) const { return static_cast<int>(sequence % phases_); }

    Program& program_;
    const int phases_;
    const int forks_ = forks();
    Next next_[kMostMembers];
    alignas(64) std::atomic<int64_t> sequence_{0};
    alignas(64) std::atomic<int> done_{0};
    alignas(64) std::atomic<bool> out_of_memory_{false};
    std::atomic<Clock::rep> lost_{
        0};  // how long threads waited, beyond spinning, for tasks others had claimed
    std::atomic<int64_t> switches_{0};
};

// False: none may start.
bool run_on_a_team(Program& program, int threads) {
    const TeamAtWork work;
    if (work.alone()) return false;
    Team team(program);
#ifndef _WIN32
    if (_setjmp(team.way_out) != 0)
        throw std::runtime_error("forked within a step of training: it goes on in the parent only");
#endif
    const Clock::time_point start = Clock::now();
#pragma omp parallel num_threads(threads)
    team.member(omp_get_thread_num(), omp_get_num_threads());
    team.report(Clock::now() - start);
    if (team.out_of_memory()) throw std::bad_alloc();
    return true;
}

#endif

}  // namespace

void run_program(Program& program, int threads) {
#ifdef _OPENMP
    if (threads > 1 && run_on_a_team(program, std::min(threads, kMostMembers))) return;
#endif
    (void)threads;
    run_alone(program);
}

}  // namespace fastnn
