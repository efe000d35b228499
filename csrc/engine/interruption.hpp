// A caller's wish that a call end early. No threads, no Python.
#pragma once

#include <atomic>
#include <chrono>

namespace fastnn {

// The calling thread looks for it, a Ctrl-C say, at most every 50 ms; the others only see what it found.
class Interruption {
  public:
    void begin(bool (*stop)(void*), void* context) {
        stop_ = stop, context_ = context;
        found_ = false;
        looked_ = Clock::now();
    }
    void look() {
        const Clock::time_point now = Clock::now();
        if (found_ || now - looked_ < std::chrono::milliseconds(50)) return;
        looked_ = now;
        if (stop_(context_)) found_ = true;
    }
    bool found() const { return found_; }

  private:
    using Clock = std::chrono::steady_clock;
    bool (*stop_)(void*) = nullptr;
    void* context_ = nullptr;
    Clock::time_point looked_;
    std::atomic<bool> found_{false};
};

}  // namespace fastnn
