// See team.hpp.
#include "team.hpp"

#include <algorithm>
#include <atomic>
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

namespace fastnn {
namespace {

// The kernels of a program on one thread have no teams of their own.
class Alone {
  public:
    Alone() : before_(limit_threads(1)) {}
    ~Alone() { limit_threads(before_); }
    Alone(const Alone&) = delete;

  private:
    const int before_;
};

void run_alone(Program& program, int64_t first) {
    const Alone alone;
    const int phases = program.phases();
    for (int64_t round = first;; ++round)
        for (int phase = 0; phase < phases; ++phase) {
            const int64_t tasks = program.tasks(round, phase);
            for (int64_t t = 0; t < tasks; ++t) program.run(round, phase, t, 0);
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

class Team {
  public:
    Team(Program& program, int64_t first) : program_(program), phases_(program.phases()), first_(first) {}

    void member(int id, int members) {
        for (int64_t sequence = 0; sequence != kStop; sequence = wait(sequence)) {
            const int64_t tasks = program_.tasks(round(sequence), phase(sequence));
            const int64_t most = members * static_cast<int64_t>(kTickets);
            const int64_t bundle = 1 + (tasks - 1) / most;  // tasks for a ticket: 1, but of millions
            int64_t done = 0;
            for (int k = 0; k < members; ++k) {
                const int owner = (id + k) % members;
                for (int64_t t; (t = bundle * claim(sequence, owner, members, tasks, bundle)) >= 0;)
                    done += run(sequence, t, std::min(t + bundle, tasks), id);
            }
            if (done > 0 && done_.fetch_add(done, std::memory_order_acq_rel) + done == tasks)
                complete(sequence, members);
        }
    }
    // What the calling thread does after it was a member.
    void go_on_alone() {
        for (int64_t sequence = alone_from_; sequence != kStop; ++sequence) {
            run(sequence, 0, program_.tasks(round(sequence), phase(sequence)), 0);
            if (out_of_memory() || !program_.finish(round(sequence), phase(sequence))) return;
        }
    }
    bool out_of_memory() const { return out_of_memory_.load(std::memory_order_relaxed); }

#ifndef _WIN32
    // The caller's: out of a region that would never end, in a forked child. Nothing between here and there has a
    // destructor.
    jmp_buf way_out;
#endif

  private:
    static constexpr int64_t kStop = -1;
    static constexpr int kTaskBits = 20;
    static constexpr uint64_t kTickets = (uint64_t(1) << kTaskBits) - 1;  // an owner's, in a phase
    static constexpr int kSpins = 1000;  // pauses: 10 to 40 us; what follows gives the core away

    // Above kTaskBits of a ticket: which phase it is of. After 2^44 phases, 20 days of the shortest, the first follows the last.
    static uint64_t tag(int64_t sequence) { return static_cast<uint64_t>(sequence) << kTaskBits; }

    // The next of the owner's bundles, or -1: none left, or the phase is over.
    int64_t claim(int64_t sequence, int owner, int members, int64_t tasks, int64_t bundle) {
        std::atomic<uint64_t>& next = next_[owner].ticket;
        uint64_t ticket = next.load(std::memory_order_acquire);
        for (;;) {
            if ((ticket & ~kTickets) != tag(sequence)) return -1;
            const int64_t claimed = owner + members * static_cast<int64_t>(ticket & kTickets);
            if (claimed * bundle >= tasks) return -1;
            if (next.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel,
                                           std::memory_order_acquire))
                return claimed;
        }
    }
    // Tasks begin .. end - 1: how many.
    int64_t run(int64_t sequence, int64_t begin, int64_t end, int id) {
        for (int64_t task = begin; task < end; ++task) {
            try {
                program_.run(round(sequence), phase(sequence), task, id);
            } catch (const std::bad_alloc&) {
                out_of_memory_.store(true, std::memory_order_relaxed);
            }
#ifndef _WIN32
            if (forks() != forks_) _longjmp(way_out, 1);
#endif
        }
        return end - begin;
    }
    void complete(int64_t sequence, int members) {
        done_.store(0, std::memory_order_relaxed);
        const bool go_on = !out_of_memory() && program_.finish(round(sequence), phase(sequence));
        if (!go_on && !out_of_memory() && program_.goes_on_alone()) alone_from_ = sequence + 1;
        for (int m = 0; m < members; ++m) next_[m].ticket.store(tag(sequence + 1), std::memory_order_release);
        sequence_.store(go_on ? sequence + 1 : kStop, std::memory_order_release);
    }
    int64_t wait(int64_t sequence) {
        for (int64_t spins = 0;; ++spins) {
            const int64_t now = sequence_.load(std::memory_order_acquire);
            if (now != sequence) return now;
            spins < kSpins ? pause_core() : yield_core();
        }
    }

    struct alignas(64) Next {
        std::atomic<uint64_t> ticket{
            0};  // the phase's tag and, below it, how many of the owner's bundles are taken
    };
    // `sequence` counts phases from the start.
    int64_t round(int64_t sequence) const { return first_ + sequence / phases_; }
    int phase(int64_t sequence) const { return static_cast<int>(sequence % phases_); }

    Program& program_;
    const int phases_;
    const int64_t first_;  // round
    const int forks_ = forks();
    Next next_[kMostMembers];
    int64_t alone_from_ = kStop;
    alignas(64) std::atomic<int64_t> sequence_{0};
    alignas(64) std::atomic<int64_t> done_{0};
    alignas(64) std::atomic<bool> out_of_memory_{false};
};

// False: none may start.
bool run_on_a_team(Program& program, int threads, int64_t first) {
    const TeamAtWork work(threads);
    if (work.alone()) return false;
    Team team(program, first);
#ifndef _WIN32
    if (_setjmp(team.way_out) != 0)
        throw std::runtime_error("forked within a step of training: it goes on in the parent only");
#endif
#pragma omp parallel num_threads(threads)
    {
        team.member(omp_get_thread_num(), omp_get_num_threads());
        if (omp_get_thread_num() == 0) team.go_on_alone();
    }
    if (team.out_of_memory()) throw std::bad_alloc();
    return true;
}

#endif

}  // namespace

void run_program(Program& program, int threads, int64_t first) {
#ifdef _OPENMP
    if (threads > 1 && run_on_a_team(program, std::min(threads, kMostMembers), first)) return;
#endif
    (void)threads;
    run_alone(program, first);
}

}  // namespace fastnn
