// Where the time of each call's own thread goes, part by part.
#pragma once

#include <array>
#include <chrono>

namespace embedrt {

enum class Part : int { embed, quantize, qkv, heads, attention, output, norm, up, down, wait, count };

constexpr std::array<const char*, static_cast<size_t>(Part::count)> PART_NAMES = {
    "embeddings", "quantize",   "qkv",    "head norms and rotary", "attention", "attention output",
    "norm",       "ffn up",     "ffn down", "wait"};

struct Profile {
    std::array<double, static_cast<size_t>(Part::count)> seconds{};
    void add(const Profile& other) {
        for (size_t i = 0; i < seconds.size(); i++) seconds[i] += other.seconds[i];
    }
};

// Adds up on one thread; on the others it does nothing.
class Stopwatch {
   public:
    explicit Stopwatch(Profile* profile) : profile_(profile), last_(now()) {}
    // Books the time since the last call on `part`.
    void lap(Part part) {
        if (profile_ == nullptr) return;
        const auto time = now();
        profile_->seconds[static_cast<size_t>(part)] += std::chrono::duration<double>(time - last_).count();
        last_ = time;
    }

   private:
    using Clock = std::chrono::steady_clock;
    Clock::time_point now() const { return profile_ ? Clock::now() : Clock::time_point(); }
    Profile* profile_;
    Clock::time_point last_;
};

}  // namespace embedrt
