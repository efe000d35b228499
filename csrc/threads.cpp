// OpenMP, when there is one, and per-thread scratch. See threads.hpp.
#include "threads.hpp"

#include <stdlib.h>

#include <atomic>
#include <chrono>
#include <new>

#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef _WIN32
#include <malloc.h>
#else
#include <unistd.h>
#endif

namespace fastnn {
namespace {

std::atomic<int> g_threads{0};  // 0: the default
std::atomic<int> g_quota{0};
std::atomic<double> g_least_work{48000.0};
thread_local int t_limit = 0;

#if defined(_OPENMP) && !defined(_WIN32)
// The process that loaded us. A child forked from it never enters libgomp: no handler to install, nothing to
// hang.
const pid_t g_loaded_in = getpid();
bool forked() { return getpid() != g_loaded_in; }  // 50 ns, paid only by work of 60 us or more
#else
bool forked() { return false; }
#endif

using Clock = std::chrono::steady_clock;

// Whether the cores are ours. Where other processes hold them, a team waits at its barrier for a scheduler's
// time slice, milliseconds for work of 100 us: training on Fashion-MNIST beside four busy processes took 2,000
// rows/s with two threads and 17,000 with one. So a second region that stalls sends what follows to one thread, for 20
// times as long as it took: finding out costs 5 % at most. The sums do not depend on it: every element's order
// is fixed.
class Contention {
  public:
    bool go_alone() const {
        return Clock::now().time_since_epoch().count() < alone_until_.load(std::memory_order_relaxed);
    }
    // Estimates assume half the peak of one core: twice that and half a millisecond is beyond any kernel's own
    // sins.
    void report(double expected_ns, Clock::time_point start) {
        const Clock::time_point end = Clock::now();
        const Clock::duration took = end - start;
        if (std::chrono::duration<double, std::nano>(took).count() <= 2 * expected_ns + 500000.0)
            stalls_.store(0, std::memory_order_relaxed);
        else if (stalls_.fetch_add(1, std::memory_order_relaxed) >
                 0)  // a single one is a core that had to wake up
            alone_until_.store((end + 20 * took).time_since_epoch().count(), std::memory_order_relaxed);
    }

    // A program's own measure, which needs no estimate: a tenth of its time is no accident.
    void report_waiting(Clock::duration lost, Clock::duration took) {
        if (lost < std::chrono::milliseconds(1) || lost * 10 < took)
            stalls_.store(0, std::memory_order_relaxed);
        else if (stalls_.fetch_add(1, std::memory_order_relaxed) > 0)
            alone_until_.store((Clock::now() + 20 * took).time_since_epoch().count(),
                               std::memory_order_relaxed);
    }

  private:
    std::atomic<int> stalls_{0};  // in a row
    std::atomic<Clock::rep> alone_until_{0};
};
Contention g_contention;

struct Buffer {
    void* memory = nullptr;
    size_t bytes = 0;
    ~Buffer() { release(); }
    void release() {
#ifdef _WIN32
        _aligned_free(memory);
#else
        free(memory);
#endif
        memory = nullptr;
        bytes = 0;
    }
};
thread_local Buffer t_buffers[kSlots];

}  // namespace

int threads() {
    if (forked()) return 1;
    int n = t_limit > 0 ? t_limit : g_threads.load(std::memory_order_relaxed);
#ifdef _OPENMP
    if (n == 0) {
        n = omp_get_max_threads();
        const int quota = g_quota.load(std::memory_order_relaxed);
        if (quota > 0 && quota < n && getenv("OMP_NUM_THREADS") == nullptr) n = quota;
    }
#endif
    return n < 1 ? 1 : n;
}

int limit_threads(int n) {
    const int before = t_limit;
    t_limit = n;
    return before;
}

void set_thread_quota(int cpus) { g_quota.store(cpus, std::memory_order_relaxed); }

void set_threads(int n) { g_threads.store(n, std::memory_order_relaxed); }

int threads_for(double nanoseconds) {
#ifdef _OPENMP
    // Waking a spinning team and joining it costs 2 to 5 us: each thread gets at least 30 us of work.
    if (nanoseconds < 60000.0 || omp_in_parallel()) return 1;
    const int most = threads();
    if (most > 1 && g_contention.go_alone()) return 1;
    const double worth = nanoseconds / 30000.0;
    return worth < most ? static_cast<int>(worth) : most;
#else
    (void)nanoseconds;
    return 1;
#endif
}

void set_least_work(double nanoseconds) { g_least_work.store(nanoseconds, std::memory_order_relaxed); }

int program_threads(double nanoseconds) {
#ifdef _OPENMP
    if (omp_in_parallel()) return 1;
    const int most = threads();
    const double least = g_least_work.load(std::memory_order_relaxed);
    if (most == 1 || nanoseconds < 2 * least || g_contention.go_alone()) return 1;
    return nanoseconds < most * least ? static_cast<int>(nanoseconds / least) : most;
#else
    (void)nanoseconds;
    return 1;
#endif
}

void report_waiting(double lost, double took) {
    using Seconds = std::chrono::duration<double>;
    g_contention.report_waiting(std::chrono::duration_cast<Clock::duration>(Seconds(lost)),
                                std::chrono::duration_cast<Clock::duration>(Seconds(took)));
}

void run_tasks(int tasks, double nanoseconds, void (*task)(void*, int), void* context) {
#ifdef _OPENMP
    if (tasks > 1) {
        const Clock::time_point start = Clock::now();
        bool out_of_memory = false;
#pragma omp parallel num_threads(tasks)
        {
            // OpenMP may give fewer threads than asked for: the tasks are dealt out, not assumed.
            const int team = omp_get_num_threads();
            for (int t = omp_get_thread_num(); t < tasks; t += team) {
                try {
                    task(context, t);
                } catch (const std::bad_alloc&) {
#pragma omp atomic write
                    out_of_memory = true;
                }
            }
        }
        g_contention.report(nanoseconds, start);
        if (out_of_memory) throw std::bad_alloc();
        return;
    }
#endif
    (void)nanoseconds;
    for (int t = 0; t < tasks; ++t) task(context, t);
}

void* scratch(Slot slot, size_t bytes) {
    Buffer& buffer = t_buffers[slot];
    if (buffer.bytes < bytes) {
        buffer.release();
        const size_t rounded = (bytes + 4095) & ~static_cast<size_t>(4095);
#ifdef _WIN32
        buffer.memory = _aligned_malloc(rounded, 64);
#else
        if (posix_memalign(&buffer.memory, 64, rounded) != 0) buffer.memory = nullptr;
#endif
        if (buffer.memory == nullptr) throw std::bad_alloc();
        buffer.bytes = rounded;
    }
    return buffer.memory;
}

}  // namespace fastnn
