// One thread or a team: which is faster for steps where an estimate cannot tell. No threads here, and no clock.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>

namespace fastnn {

// Measured in the calls themselves, in turn, twice each: at first, after 16 calls (NumPy's BLAS threads spin for 25 ms after
// a product, on the core that a team needs), then every 64. The bits of a result do not depend on threads, so trying costs
// only time. What a cache line from another core takes, 8 ns or 50, decides between 24 and 200 us:
// 64-128-64-10 with batches of 32 takes 37 us on one thread and 31 on two that share an L3 (Zen 4), 49 and up to 75
// elsewhere (Zen 3 in a virtual machine).
class Trials {
  public:
    Trials() = default;
    static constexpr double kSure = 200000;  // ns a step: from here on a team is faster anywhere
    static constexpr size_t kSteps = 16;     // a call: fewer say nothing

    // The number of threads for a call of so many steps, 1 or `team`.
    int choose(int team, size_t steps) {
        if (team != team_) *this = Trials(team);
        if (team == 1 || steps < kSteps) return team;
        const int turn = calls_ < 16 ? calls_ : (calls_ - 16) % 64;
        ++calls_;
        if (turn == 0) alone_ = together_ = std::numeric_limits<double>::infinity();
        if (turn < 4) return turn % 2 == 0 ? team : 1;
        return together_ < alone_ ? team : 1;
    }
    // What it took, ns a step.
    void report(int threads, size_t steps, double ns) {
        if (steps < kSteps) return;
        double& best = threads == 1 ? alone_ : together_;
        best = std::min(best, ns);
    }

  private:
    explicit Trials(int team) : team_(team) {}
    int team_ = 0, calls_ = 0;
    double alone_ = 0, together_ = 0;
};

}  // namespace fastnn
