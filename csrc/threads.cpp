// OpenMP, when there is one, and per-thread scratch. See threads.hpp.
#include "threads.hpp"

#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef _WIN32
#include <malloc.h>
#else
#include <pthread.h>
#include <unistd.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

// OpenMP 5.0's call, which GCC's libgomp has had since GCC 9, whatever _OPENMP says. Weak: at run time there may be an
// older one. Clang's libomp keeps its threads through it.
#if defined(_OPENMP) && !defined(_WIN32) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 9
#define FASTNN_RELEASES_THREADS
#pragma weak omp_pause_resource_all
#endif

namespace fastnn {
namespace {

std::atomic<int> g_threads{0};  // 0: the default
std::atomic<int> g_quota{0};
std::atomic<double> g_least_work{48000.0};
thread_local int t_limit = 0;

int64_t now_ns() {
    using namespace std::chrono;
    return duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count();
}

// Whether the cores are ours, for single regions: kernels and predictions (of steps, which can be compared, engine/pace.hpp
// knows more). Where other processes hold them, a team waits at its barrier for a scheduler's time slice, milliseconds for
// work of 100 us: training on Fashion-MNIST beside four busy processes took 2,000 rows/s with two threads and 17,000 with
// one. So a second region that stalls sends what follows to one thread, for 20 times as long as it took: finding out costs
// 5 % at most; and for a second at most. The sums do not depend on it: every element's order is fixed.
class Contention {
  public:
    // Not where tests ask for all threads.
    bool go_alone() const {
        return now_ns() < alone_until_.load(std::memory_order_relaxed) &&
               g_least_work.load(std::memory_order_relaxed) > 0;
    }
    // Estimates assume half the peak of one core: twice that and half a millisecond is beyond any kernel's own
    // sins.
    void report(double expected_ns, int64_t start) {
        const int64_t end = now_ns(), took = end - start;
        if (static_cast<double>(took) <= 2 * expected_ns + 500000.0)
            stalls_.store(0, std::memory_order_relaxed);
        else if (stalls_.fetch_add(1, std::memory_order_relaxed) > 0)  // one is a core that had to wake up
            alone_until_.store(end + std::min<int64_t>(20 * took, 1000000000), std::memory_order_relaxed);
    }

    void forget() { stalls_ = 0, alone_until_ = 0; }

  private:
    std::atomic<int> stalls_{0};  // in a row
    std::atomic<int64_t> alone_until_{0};
};
Contention g_contention;

// Forks. libgomp keeps the threads of a region for the next one; a child has none of them, and its next region would
// wait for them forever. So the forking thread lets its own go before a fork, and parent and child start new ones when
// they need them. Where that cannot be done, the child stays on one thread and never enters libgomp. A child that no
// handler saw (clone, _Fork) does so as well: its pid is not that of g_home.
#if defined(_OPENMP) && !defined(_WIN32)
pid_t g_home = getpid();                            // the process whose OpenMP is whole
bool forked() { return getpid() != g_home; }        // 50 ns, paid only by work of 60 us or more
std::atomic<int> g_running{0}, g_forking{0};        // teams at work, forks under way
std::atomic<int> g_forks{0};                        // that led to this process
thread_local int t_running = 0;                     // of g_running, this thread's
thread_local bool t_entered = false;                // this thread has had a team: it is libgomp's, and alive
thread_local bool t_child_may_use_threads = false;  // for the fork under way

#ifdef FASTNN_RELEASES_THREADS
// Whether we were loaded into a child that had not called exec: what it inherited of libgomp, through another library,
// may be threads that do not exist, and letting those go would wait for them. PF_FORKNOEXEC, linux/sched.h.
bool loaded_by_a_forked_child() {
    FILE* const stat = fopen("/proc/self/stat", "r");  // pid (name) state ppid pgrp session tty tpgid flags
    if (stat == nullptr) return false;
    unsigned flags = 0;
    if (fscanf(stat, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %u", &flags) != 1) flags = 0;
    fclose(stat);
    return (flags & 0x40) != 0;
}
const bool g_doubtful = loaded_by_a_forked_child();

bool release_threads() {
    if (forked() || (g_doubtful && !t_entered) || omp_in_parallel()) return false;
    return omp_pause_resource_all != nullptr && omp_pause_resource_all(omp_pause_soft) == 0;
}
#else
bool release_threads() { return false; }
#endif

// No team starts between here and the fork (see TeamAtWork), so that what g_running says holds for the child. Another
// thread's team may be holding a lock of libgomp, which nobody would release in the child.
void before_fork() {
    g_forking.fetch_add(1);
    const bool released = release_threads();
    t_child_may_use_threads = released && g_running.load() == 0;
}
void after_fork_in_parent() { g_forking.fetch_sub(1); }
void after_fork_in_child() {
    g_home = t_child_may_use_threads ? getpid() : 0;
    g_forking = 0;
    g_running = t_running;
    g_forks.fetch_add(1);
    g_contention.forget();
}
// Should this fail, the children stay on one thread. glibc takes the handlers back where we are unloaded.
const int g_handlers = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
#else
bool forked() { return false; }
#endif

// Whether a team of so many can be started: where it cannot, libgomp ends the process. So a thread that has had no such team
// first starts the others itself, all of them alive at once: 50 us, once. Memory, a user's processes or a container's pids
// may be too few; then it is one thread, and another try a second later.
bool startable(int threads) {
    thread_local int known = 1, of_forks = 0;
    thread_local int64_t refused = 0;
    if (of_forks != forks()) known = 1, of_forks = forks();
    if (threads <= known) return true;
    if (now_ns() < refused) return false;
    std::mutex gate;
    std::vector<std::thread> others;
    bool all = true;
    {
        const std::lock_guard<std::mutex> closed(gate);
        try {
            while (static_cast<int>(others.size()) + 1 < threads)
                others.emplace_back([&gate] { const std::lock_guard<std::mutex> passed(gate); });
        } catch (const std::exception&) {  // std::system_error, std::bad_alloc
            all = false;
        }
    }
    for (std::thread& other : others) other.join();
    if (all)
        known = threads;
    else
        refused = now_ns() + 1000000000;
    return all;
}

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

#if defined(_OPENMP) && !defined(_WIN32)
TeamAtWork::TeamAtWork(int threads) {
    if (!startable(threads)) {
        alone_ = true;
        return;
    }
    g_running.fetch_add(1);
    alone_ = g_forking.load() != 0;
    if (alone_)
        g_running.fetch_sub(1);
    else
        ++t_running;
}
TeamAtWork::~TeamAtWork() {
    if (alone_) return;
    t_entered = true;
    --t_running;
    g_running.fetch_sub(1);
}
int forks() { return g_forks.load(std::memory_order_relaxed); }
#else
TeamAtWork::TeamAtWork(int threads) : alone_(!startable(threads)) {}
TeamAtWork::~TeamAtWork() = default;
int forks() { return 0; }
#endif

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

double least_work() { return g_least_work.load(std::memory_order_relaxed); }

int program_threads(double nanoseconds) {
#ifdef _OPENMP
    if (omp_in_parallel()) return 1;
    const int most = threads();
    const double least = least_work();
    if (most == 1 || nanoseconds < 2 * least) return 1;
    return nanoseconds < most * least ? static_cast<int>(nanoseconds / least) : most;
#else
    (void)nanoseconds;
    return 1;
#endif
}

Region::Region(double nanoseconds) : expected_(nanoseconds), threads_(program_threads(nanoseconds)) {
    if (threads_ > 1 && g_contention.go_alone()) threads_ = 1;
    if (threads_ > 1) start_ = now_ns();
}
Region::~Region() {
    if (threads_ > 1) g_contention.report(expected_, start_);
}

#ifdef _OPENMP
namespace {

// False: none may start.
bool run_on_a_team(int tasks, double nanoseconds, void (*task)(void*, int), void* context) {
    const TeamAtWork work(tasks);
    if (work.alone()) return false;
    const int64_t start = now_ns();
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
    return true;
}

}  // namespace
#endif

void run_tasks(int tasks, double nanoseconds, void (*task)(void*, int), void* context) {
#ifdef _OPENMP
    if (tasks > 1 && run_on_a_team(tasks, nanoseconds, task, context)) return;
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
#if defined(__SANITIZE_ADDRESS__)  // what a larger request before has left is nobody's
    __asan_unpoison_memory_region(buffer.memory, bytes);
    __asan_poison_memory_region(static_cast<char*>(buffer.memory) + bytes, buffer.bytes - bytes);
#endif
    return buffer.memory;
}

}  // namespace fastnn
