// What fastnn asks of OpenMP, on std::thread: preloaded in place of libgomp, whose own synchronisation ThreadSanitizer does
// not see. See .ci/sanitize.sh.
#include <thread>
#include <vector>

namespace {
thread_local int t_member = 0, t_members = 0;  // 0: not in a region
}

extern "C" {
void GOMP_parallel(void (*body)(void*), void* data, unsigned threads, unsigned) {
    const auto member = [=](int id) {
        t_member = id, t_members = static_cast<int>(threads);
        body(data);
        t_member = t_members = 0;
    };
    std::vector<std::thread> others;
    for (unsigned id = 1; id < threads; ++id) others.emplace_back(member, id);
    member(0);
    for (std::thread& other : others) other.join();
}
int omp_get_thread_num() { return t_member; }
int omp_get_num_threads() { return t_members > 0 ? t_members : 1; }
int omp_get_max_threads() { return 2; }
int omp_in_parallel() { return t_members > 1; }
}
