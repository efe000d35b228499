// What was found: of each kernel the worst error, as a fraction of its bound, and what was not checked.
#pragma once

#include <cmath>
#include <cstdio>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "buffers.hpp"

namespace parity {

struct Line {
    Ref worst = 0;

    void add(Ref got, Ref want, Ref bound) {
        Ref e = std::fabs(got - want) / (bound + 1e-300L);
        if (got == want || (std::isnan(got) && std::isnan(want))) e = 0;
        if (std::isnan(e)) e = std::numeric_limits<Ref>::infinity();
        if (e > worst) worst = e;
    }
    void add(bool holds) {
        if (!holds) worst = std::numeric_limits<Ref>::infinity();
    }
};

class Report {
  public:
    // Of that kernel, for good: fetched once for a loop over elements.
    Line& line(const std::string& kernel) {
        const auto [found, is_new] = lines_.try_emplace(kernel);
        if (is_new) order_.push_back(kernel);
        return found->second;
    }
    // A formula or an operation that was added since and is not written out here: tests/ hold it against fastnn/ops.
    void skip(const std::string& name) { skipped_.insert(name); }
    const std::set<std::string>& skipped() const { return skipped_; }

    // Prints a line a kernel, and returns whether all kept to their bounds.
    bool print(const std::string& label) const {
        bool ok = true;
        for (const auto& kernel : order_) {
            const Ref worst = lines_.at(kernel).worst;
            const bool bad = !(worst <= 1);
            ok &= !bad;
            std::printf("%-22s %-40s %8.3Lf of the bound%s\n", label.c_str(), kernel.c_str(), worst,
                        bad ? "  FAILED" : "");
        }
        return ok;
    }

  private:
    std::map<std::string, Line> lines_;
    std::vector<std::string> order_;
    std::set<std::string> skipped_;
};

}  // namespace parity
