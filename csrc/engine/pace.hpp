// One thread or a team: which is faster for the steps of a fit, now. No threads here; the clock is Pacer's alone.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>

namespace fastnn {

// The steps themselves are measured, and both choices are tried again and again: the bits of a result do not depend on
// threads, so trying costs only time. Two things decide, and neither can be asked for. What a cache line from another core
// takes, 8 ns or 50: 64-128-64-10 with batches of 32 takes 37 us on one thread and 31 on two that share an L3 (Zen 4), 49
// and up to 75 elsewhere (Zen 3 in a virtual machine). And who else is on the cores: a team waits at its barrier for a
// thread that the scheduler took off its core, milliseconds for work of 100 us. A busy process does that for hours,
// NumPy's BLAS threads, which spin after a product, for 25 ms.
//
// - The team is left when its steps of the last 10 ms took longer than one thread's, the last time: than their harmonic mean,
//   which a step that lost its core hardly changes, while of the team's such steps are what it is about.
// - It is returned to after 10 ms. Where that gained nothing, after 20, 40 ... 1000 ms, or ten times what was lost by it; an
//   attempt ends after 2 ms and a step.
// - One thread is tried for 2 ms, and three steps where they are as short, to know what it takes: for the first time where
//   that makes what was run until then 2 % slower, later 0.5 %, and once a second at most. As long as that is not known, the
//   team is left when it takes twice what was expected of one thread.
class Pace {
  public:
    // The choice is between 1 thread and `team`, for steps that should take about `ns` on one.
    Pace(int team, double ns)
        : team_(team),
          expected_(ns),
          look_(kFirstWorth * (1.0 - 1.0 / team) * std::max(kLook, ns)),
          alone_(2 * ns) {}

    int threads() const { return together_ ? team_ : 1; }

    // A step took `ns` on threads(). True: threads() is another number now.
    bool report(double ns) {
        if (first_)
            return first_ = false;     // touches its memory for the first time: 20 times as long as the next
        stay_.add(std::max(ns, 1.0));  // a clock may be coarse
        return stay_.ns >= kLook && (together_ ? leaves_team() : returns_to_team());
    }

  private:
    static constexpr double kMillisecond = 1e6;  // everything is in nanoseconds
    static constexpr double kLook = 2 * kMillisecond, kMemory = 10 * kMillisecond;
    static constexpr double kSoon = 10 * kMillisecond, kRarely = 1000 * kMillisecond;
    static constexpr double kFirstWorth = 50, kWorth = 200, kRetryWorth = 10;  // 2 %, 0.5 %, 10 %

    // The steps since a change.
    struct Stay {
        double ns = 0, steps = 0;
        double late_ns = 0, late_steps = 0;  // the last 10 ms or so
        double speed = 0;                    // mean of the last 30 steps or so, a ns
        void add(double step) {
            const double kept = kMemory / (kMemory + step);
            ns += step, ++steps;
            late_ns = kept * late_ns + step, late_steps = kept * late_steps + 1;
            speed += (1 / step - speed) / std::min(steps, 30.0);
        }
        double late_mean() const { return late_ns / late_steps; }
        double harmonic_mean() const { return 1 / speed; }
    };

    bool leaves_team() { return (stay_.late_mean() > alone_ || stay_.ns >= look_) && change(); }
    bool returns_to_team() {
        if (!compared_) {
            if (stay_.steps < 3 && expected_ < kLook) return false;
            compared_ = true;
            const double alone = stay_.harmonic_mean(), slower = alone - before_.late_mean();
            if (slower > 0) {  // nothing is wrong with the team
                look_ = std::max(kRarely, kWorth * stay_.steps * std::min(slower, expected_));
                return change();
            }
            const double lost = before_.ns - before_.steps * alone;
            retry_ = lost < 0 ? kSoon : std::max(std::min(2 * retry_, kRarely), kRetryWorth * lost);
        }
        return stay_.ns >= retry_ && change();
    }
    bool change() {
        if (!together_) alone_ = stay_.harmonic_mean();
        before_ = stay_, stay_ = {};
        together_ = !together_, compared_ = false;
        return true;
    }

    int team_;
    double expected_;
    bool together_ = true, first_ = true;
    Stay stay_, before_;        // this one and the last, of the other choice
    double look_;               // ns with the team: then one thread is tried
    double alone_;              // ns a step on one thread
    double retry_ = kSoon / 2;  // ns on one thread: then the team is tried. Doubled before it is used
    bool compared_ = false;     // this stay on one thread, with the team before
};

// A Pace with a clock, for calls of many steps: threads may change between two.
template <class Clock = std::chrono::steady_clock>
class Pacer {
  public:
    // For steps of `rows` rows, or fewer: as many as there are, `batch` at most. measured = false: it is a team, whatever
    // it takes. What is known of the same team and batch stays known.
    void begin(int team, size_t batch, size_t rows, double ns, bool measured) {
        chooses_ = team > 1 && measured;
        threads_ = team;
        if (!chooses_) return;
        if (team != team_ || batch != batch_ || rows > rows_)
            pace_ = Pace(team, ns), team_ = team, batch_ = batch, rows_ = rows;
        threads_ = pace_.threads();
    }
    int threads() const { return threads_; }

    // Steps on threads() follow.
    void start() {
        if (chooses_) last_ = Clock::now();
    }
    // A step is done. True: threads() is another number now. Reading the clock takes 30 ns, of 24 us at least: what is
    // smaller has no team.
    bool step(size_t rows) {
        if (!chooses_ || rows < rows_) return false;  // the rest of an epoch says little
        const auto now = Clock::now();
        const double ns = std::chrono::duration<double, std::nano>(now - last_).count();
        last_ = now;
        const bool changed = pace_.report(ns);
        threads_ = pace_.threads();
        return changed;
    }

  private:
    bool chooses_ = false;
    int threads_ = 1, team_ = 0;
    size_t batch_ = 0, rows_ = 0;
    Pace pace_{2, 0};
    typename Clock::time_point last_;
};

}  // namespace fastnn
