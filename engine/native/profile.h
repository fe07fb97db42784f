// Where the time of each call's own thread goes, step by step.
#pragma once

#include <array>
#include <chrono>

namespace embedrt {

enum class Step : int { embed, quantize, qkv, attention, output, norm, up, down, wait, count };

constexpr std::array<const char*, static_cast<size_t>(Step::count)> STEP_NAMES = {
    "embeddings", "quantize", "qkv", "attention", "attention output", "layer norm", "ffn up", "ffn down", "wait"};

struct Profile {
    std::array<double, static_cast<size_t>(Step::count)> seconds{};
    void add(const Profile& other) {
        for (size_t i = 0; i < seconds.size(); i++) seconds[i] += other.seconds[i];
    }
};

// Adds up on one thread; on the others it does nothing.
class Stopwatch {
   public:
    explicit Stopwatch(Profile* profile) : profile_(profile), last_(now()) {}
    // Books the time since the last call on `step`.
    void lap(Step step) {
        if (profile_ == nullptr) return;
        const auto time = now();
        profile_->seconds[static_cast<size_t>(step)] += std::chrono::duration<double>(time - last_).count();
        last_ = time;
    }

   private:
    using Clock = std::chrono::steady_clock;
    Clock::time_point now() const { return profile_ ? Clock::now() : Clock::time_point(); }
    Profile* profile_;
    Clock::time_point last_;
};

}  // namespace embedrt
