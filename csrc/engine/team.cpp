// See team.hpp.
#include "team.hpp"

#include <atomic>
#include <chrono>
#include <new>

#include "../threads.hpp"

#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(_WIN32)
#include <windows.h>
#else
#include <sched.h>
#endif

namespace fastnn {
namespace {

void run_alone(Program& program) {
    for (int64_t sequence = 0;; ++sequence) {
        const int tasks = program.tasks(sequence);
        for (int t = 0; t < tasks; ++t) program.run(sequence, t, 0);
        if (!program.finish(sequence)) return;
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

using Clock = std::chrono::steady_clock;

class Team {
  public:
    explicit Team(Program& program) : program_(program) {}

    void member(int id) {
        uint64_t ticket = ticket_.load(std::memory_order_acquire);
        for (;;) {
            const uint64_t sequence = ticket >> kTaskBits;
            if (sequence == kStop) return;
            const int task = static_cast<int>(ticket & kTaskMask), tasks = program_.tasks(sequence);
            if (task >= tasks) {
                ticket = wait(sequence, id);
            } else if (ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel,
                                                     std::memory_order_acquire)) {
                run(sequence, task, id);
                if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == tasks) complete(sequence);
                ticket = ticket_.load(std::memory_order_acquire);
            }
        }
    }
    bool out_of_memory() const { return out_of_memory_.load(std::memory_order_relaxed); }
    Clock::duration lost() const { return lost_; }

  private:
    // A ticket is the number of the phase being run and, below it, of the next task to claim.
    static constexpr int kTaskBits = 20;
    static constexpr uint64_t kTaskMask = (uint64_t(1) << kTaskBits) - 1;
    static constexpr uint64_t kStop = ~uint64_t(0) >> kTaskBits;
    static constexpr int kSpins = 4000;  // pauses: 50 to 100 us; what follows gives the core away

    void run(int64_t sequence, int task, int id) {
        try {
            program_.run(sequence, task, id);
        } catch (const std::bad_alloc&) {
            out_of_memory_.store(true, std::memory_order_relaxed);
        }
    }
    void complete(uint64_t sequence) {
        done_.store(0, std::memory_order_relaxed);
        const bool go_on = !out_of_memory() && program_.finish(static_cast<int64_t>(sequence));
        ticket_.store((go_on ? sequence + 1 : kStop) << kTaskBits, std::memory_order_release);
    }
    uint64_t wait(uint64_t sequence, int id) {
        Clock::time_point since;
        for (int64_t spins = 0;; ++spins) {
            const uint64_t ticket = ticket_.load(std::memory_order_acquire);
            if (ticket >> kTaskBits != sequence) {
                if (spins > kSpins && id == 0) lost_ += Clock::now() - since;
                return ticket;
            }
            if (spins == kSpins) since = Clock::now();
            spins < kSpins ? pause_core() : yield_core();
        }
    }
    Program& program_;
    alignas(64) std::atomic<uint64_t> ticket_{0};
    alignas(64) std::atomic<int> done_{0};
    std::atomic<bool> out_of_memory_{false};
    Clock::duration lost_{
        0};  // how long the calling thread waited, beyond spinning, for tasks that others had claimed
};

#endif

}  // namespace

void run_program(Program& program, int threads) {
#ifdef _OPENMP
    if (threads > 1) {
        Team team(program);
        const Clock::time_point start = Clock::now();
#pragma omp parallel num_threads(threads)
        team.member(omp_get_thread_num());
        report_waiting(std::chrono::duration<double>(team.lost()).count(),
                       std::chrono::duration<double>(Clock::now() - start).count());
        if (team.out_of_memory()) throw std::bad_alloc();
        return;
    }
#endif
    (void)threads;
    run_alone(program);
}

}  // namespace fastnn
