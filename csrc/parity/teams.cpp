// A check of the engine's threads without kernels or Python: what Pace chooses on simulated machines, which have no clock,
// and that a team runs every task of a program once, phase by phase.
#include <stdio.h>
#ifndef _WIN32
#include <sys/wait.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>
#include <stdexcept>
#include <thread>

#include "../engine/pace.hpp"
#include "../engine/team.hpp"
#include "../threads.hpp"

namespace {

int failures = 0;

void at_least(double bound, double seen, const char* what) {
    const bool holds = seen >= bound;
    printf("%s %8.4g, at least %5.4g: %s\n", holds ? "  ok  " : "FAILED", seen, bound, what);
    failures += !holds;
}
void at_most(double bound, double seen, const char* what) {
    const bool holds = seen <= bound;
    printf("%s %8.4g, at most  %5.4g: %s\n", holds ? "  ok  " : "FAILED", seen, bound, what);
    failures += !holds;
}

void is(double expected, double seen, const char* what) {
    const bool holds = seen == expected;
    printf("%s %8.4g,      exactly: %s\n", holds ? "  ok  " : "FAILED", seen, what);
    failures += !holds;
}

// Pace: everything in milliseconds -------------------------------------------------------------------------------

// What a step takes that begins at `now`, on one thread or on a team.
using Machine = std::function<double(double now, bool team)>;

Machine quiet(double alone, double team) {
    return [=](double, bool together) { return together ? team : alone; };
}
// A process has one of the two cores for `slice` out of two: the team's step, which needs both, waits.
Machine busy(double alone, double team, double slice) {
    return [=](double now, bool together) {
        if (!together) return alone;
        double t = now;
        for (double left = team; left > 1e-9;) {
            const double into = std::fmod(t, 2 * slice);
            const double part = into < slice ? std::min(left, slice - into) : 0;
            left -= part;
            t += part > 0 ? part + 1e-9 : 2 * slice - into + 1e-9;
        }
        return t - now;
    };
}
// One machine until `change`, then another.
Machine then(Machine first, double change, Machine second) {
    return [=](double now, bool together) {
        return now < change ? first(now, together) : second(now, together);
    };
}

struct Fit {
    fastnn::Pace pace;
    Machine machine;
    double now = 0, with_team = 0;
    long steps = 0;

    // expected: what a step should take on one thread
    Fit(Machine machine_, double expected) : pace(2, expected * 1e6), machine(std::move(machine_)) {}
    void run(double until) {
        while (now < until) {
            const bool team = pace.threads() > 1;
            const double took = machine(now, team);
            now += took, ++steps;
            with_team += team ? took : 0;
            pace.report(took * 1e6);
        }
    }
};

// The speed of a fit of `span` beside one whose steps all take `step`.
double speed(const Machine& machine, double expected, double span, double step) {
    Fit fit(machine, expected);
    fit.run(span);
    return static_cast<double>(fit.steps) * step / fit.now;
}
// The part of the time from `first` to `last` that is the team's.
double share(const Machine& machine, double expected, double first, double last) {
    Fit fit(machine, expected);
    fit.run(first);
    const double before = fit.with_team, start = fit.now;
    fit.run(last);
    return (fit.with_team - before) / (fit.now - start);
}

void check_pace() {
    for (const double step : {0.03, 0.25, 2.0, 10.0, 100.0}) {
        const Machine machine = quiet(2 * step, step);
        at_least(0.985, speed(machine, 2 * step, 1000, step), "a quiet machine, beside a team: 1 s");
        at_least(0.985, speed(machine, 2 * step, 20000, step), "20 s");
    }
    at_least(0.9, speed(quiet(0.05, 0.075), 0.05, 1000, 0.05),
             "a team that is slower: 1 s beside one thread");
    at_least(0.99, speed(quiet(0.05, 0.075), 0.05, 20000, 0.05), "20 s");
    at_least(0.98, speed(quiet(0.037, 0.031), 0.05, 1000, 0.031), "a team that is a little faster");

    // NumPy's threads spin for 25 ms after its products.
    for (const double stall : {0.5, 4.0}) {
        const Machine machine = then(quiet(0.5, stall), 25, quiet(0.5, 0.25));
        at_least(0.99, share(machine, 0.5, 60, 300), "stalls for 25 ms: on the team from 60 ms on");
        at_least(0.93, speed(machine, 0.5, 1000, 0.25), "the first second beside a quiet one");
    }

    for (const double slice : {1.5, 3.0, 12.0})
        for (const double step : {0.03, 0.25, 2.0}) {
            const Machine machine = busy(2 * step, step, slice);
            at_least(0.93, speed(machine, 2 * step, 1000, 2 * step),
                     "a busy process on a core: 1 s beside one thread");
            at_least(0.95, speed(machine, 2 * step, 20000, 2 * step), "20 s");
        }
    const Machine often = [](double now, bool team) {
        return !team || std::fmod(now, 200) < 25 ? 0.5 + 3.5 * team : 0.25;
    };
    at_least(0.75, share(often, 0.5, 1000, 5000),
             "stalls for 25 ms out of 200: returns to the team soon each time");

    // What disturbs single steps.
    const Machine cold = then(quiet(10, 10), 1, quiet(0.5, 0.25));
    at_least(0.985, (speed(cold, 0.5, 100, 0.25) * 100 + 10) / 100,
             "a first step that takes 40 times as long");
    const Machine hiccup = [](double now, bool team) { return team ? 0.25 : now < 55 ? 16 : 0.5; };
    at_most(0.15, share(then(hiccup, 500, quiet(0.5, 1)), 0.5, 500, 800),
            "a look at one thread that begins with 16 ms");

    at_least(0.90, speed(quiet(0.5, 4), 0.5, 1000, 0.5), "busy processes on both: 1 s beside one thread");
    at_least(0.98, speed(quiet(0.5, 4), 0.5, 20000, 0.5), "20 s");
    at_least(0.75, speed(quiet(0.5, 30), 0.5, 1000, 0.5), "many of them: 1 s");
    at_least(0.96, speed(quiet(0.5, 30), 0.5, 20000, 0.5), "20 s");

    const Machine over = then(busy(0.5, 0.25, 3), 5000, quiet(0.5, 0.25));
    at_least(0.99, share(over, 0.5, 6100, 7000), "a busy process ends after 5 s: on the team a second later");
    const Machine begins = then(quiet(0.5, 0.25), 5000, quiet(0.5, 4));
    at_most(0.15, share(begins, 0.5, 5000, 5500), "processes begin after 5 s: off the team");
}

// Pacer ------------------------------------------------------------------------------------------------------------

struct Hand {  // of a clock
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<Hand>;
    static inline time_point at;
    static time_point now() { return at; }
};

void check_pacer() {
    using std::chrono::milliseconds;
    fastnn::Pacer<Hand> pacer;
    const auto begun = [&](int team, size_t batch, size_t rows, bool measured = true) {
        pacer.begin(team, batch, rows, 1e6, measured);
        pacer.start();
        return pacer.threads();
    };
    const auto slow_steps = [&](size_t rows) {
        bool changed = false;
        for (int i = 0; i < 3 && !changed; ++i) {
            Hand::at += milliseconds(5);
            changed = pacer.step(rows);
        }
        return changed;
    };
    is(4, begun(4, 64, 64), "threads: a fit begins with a team");
    is(0, slow_steps(63), "the rest of an epoch is not counted");
    is(1, slow_steps(64), "steps that are five times as slow as expected end it");
    is(1, pacer.threads(), "within the call");
    is(1, begun(4, 64, 64), "the next one");
    is(1, begun(1, 64, 64), "where there is one thread, it is that");
    is(0, slow_steps(64), "and remains so");
    is(4, begun(4, 64, 64, false), "a team that is asked for");
    is(0, slow_steps(64), "remains one");
    is(1, begun(4, 64, 30), "what is known outlives these, and a call for the rest of an epoch");
    is(4, begun(4, 128, 128), "another batch is another question");
    is(1, slow_steps(128), "with the same answer");
    is(3, begun(3, 128, 128), "another team as well");
    is(1, slow_steps(128), "with the same answer");
    is(3, begun(3, 128, 129), "more rows, where a batch has fewer than it might");
    for (int i = 0; i < 3; ++i) {
        Hand::at += milliseconds(1000);
        pacer.start();
        Hand::at += milliseconds(1);
        is(0, pacer.step(129), "what lies between calls is not counted");
    }
}

// Team -----------------------------------------------------------------------------------------------------------

struct Count final : fastnn::Program {
    const int64_t size, begin, end, team_ends;  // rounds begin .. team_ends - 1 on a team, where there is one
    std::unique_ptr<std::atomic<unsigned char>[]> runs;  // of each task, in this phase
    std::atomic<int64_t> elsewhere{0};  // on other threads than the calling one, after the team
    int64_t wrong = 0, phases_done = 0;
    const std::thread::id caller = std::this_thread::get_id();

    Count(int64_t tasks, int64_t first, int64_t rounds, int64_t on_a_team)
        : size(tasks),
          begin(first),
          end(first + rounds),
          team_ends(first + on_a_team),
          runs(new std::atomic<unsigned char>[tasks]()) {}
    int phases() const override { return 2; }
    int64_t tasks(int64_t round, int phase) const override {
        return round >= end ? 0 : phase == 0 ? size : 1 + round % size;
    }
    void run(int64_t round, int phase, int64_t task, int member) override {
        const bool inside = round >= begin && round < end && task >= 0 && task < tasks(round, phase);
        if (inside) ++runs[task];
        if (round >= team_ends && (member != 0 || std::this_thread::get_id() != caller)) ++elsewhere;
    }
    bool finish(int64_t round, int phase) override {
        for (int64_t t = 0; t < size; ++t) wrong += runs[t].exchange(0) != (t < tasks(round, phase));
        wrong += phases_done++ != 2 * (round - begin) + phase;
        return phase == 0 || (round + 1 != team_ends && round + 1 != end);
    }
    bool goes_on_alone() override { return phases_done == 2 * (team_ends - begin) && team_ends < end; }
};

bool teams([[maybe_unused]] int threads) {
#ifdef _OPENMP
    return threads > 1;
#else
    return false;
#endif
}

void check_team() {
    struct {
        int64_t tasks, first, rounds, on_a_team;
        const char* what;
    } const cases[] = {
        {1, 0, 1000, 1000, "one task a phase"},
        {7, 0, 1000, 1000, "seven"},
        {7, 3, 1000, 300, "and most of the rounds on the calling thread"},
        {100, (int64_t(1) << 44) - 100, 200, 150, "rounds beyond those that a ticket can tell apart"},
        // Two, three and five members have 2^20 - 1 tickets each.
        {5 * ((1 << 20) - 1) + 1, 0, 2, 1, "more tasks than tickets"},
    };
    for (const auto& c : cases)
        for (const int threads : {1, 2, 3, 5}) {
            Count program(c.tasks, c.first, c.rounds, c.on_a_team);
            fastnn::run_program(program, threads, c.first);
            if (!teams(threads) && c.on_a_team < c.rounds) fastnn::run_program(program, 1, program.team_ends);
            is(0, static_cast<double>(program.wrong + program.elsewhere), c.what);
            is(static_cast<double>(2 * c.rounds), static_cast<double>(program.phases_done), "phases");
        }
}

#if defined(_OPENMP) && !defined(_WIN32)
// A child forked off where the calling thread goes on alone leaves the region: the others are not there to end it.
struct Forking final : fastnn::Program {
    pid_t child = -1;
    int phases() const override { return 1; }
    int64_t tasks(int64_t, int) const override { return 2; }
    void run(int64_t round, int, int64_t task, int) override {
        if (round == 1 && task == 0) child = fork();
    }
    bool finish(int64_t round, int) override {
        return round == 1;
    }  // the team ends after 0, the program after 2
    bool goes_on_alone() override { return true; }
};

void check_fork() {
    Forking program;
    bool left = false;
    try {
        fastnn::run_program(program, 2);
    } catch (const std::runtime_error&) {
        left = true;
    }
    if (program.child == 0) _exit(left ? 0 : 1);
    int status = 1;
    waitpid(program.child, &status, 0);
    is(0, status, "a child forked off on the calling thread alone");
    is(0, left, "its parent goes on");
}
#else
void check_fork() {}
#endif

}  // namespace

int main() {
    check_pace();
    check_pacer();
    check_team();
    check_fork();
    printf(failures == 0 ? "the teams do what they should\n" : "%d failures\n", failures);
    return failures == 0 ? 0 : 1;
}
