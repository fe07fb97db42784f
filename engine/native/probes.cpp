// Doors to the parts that tests look at by themselves.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "embedrt_native.h"
#include "guarded.h"
#include "isa.h"
#include "lanes.h"
#include "self_check.h"

using namespace embedrt;

int32_t embedrt_probe_break(const char* isa, const char* kernel, char* error, size_t error_size) {
    return guarded(error, error_size, [&] {
        for (const Kernels* one : built_kernels()) {
            if (one->name != std::string(isa)) continue;
            without_kernel(*one, kernel);  // throws if there is none
            break_kernel(*one, kernel);
        }
    });
}

int32_t embedrt_probe_pool(int32_t threads, uint32_t first, int32_t calls, int32_t barriers, int64_t* count, char* error,
                           size_t error_size) {
    return guarded(error, error_size, [&] {
        Pool pool(threads, first);
        std::atomic<int64_t> steps{0};
        for (int32_t i = 0; i < calls; i++)
            pool.run([&](int) {
                for (int32_t step = 0; step < barriers; step++) {
                    steps++;
                    pool.barrier();
                }
            });
        *count = steps;
    });
}

int32_t embedrt_probe_lanes(int32_t threads, int32_t available, int32_t callers, int32_t wanted, int32_t* most,
                            char* error, size_t error_size) {
    return guarded(error, error_size, [&] {
        Lanes lanes(threads, available);
        std::atomic<int32_t> inside{0}, highest{0};
        const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        std::vector<std::thread> running;
        for (int32_t i = 0; i < callers; i++)
            running.emplace_back([&] {
                const Lanes::Turn lane(lanes);
                const int32_t now = ++inside;
                for (int32_t seen = highest; seen < now && !highest.compare_exchange_weak(seen, now);) {
                }
                while (highest < wanted && std::chrono::steady_clock::now() < end) std::this_thread::yield();
                std::this_thread::sleep_for(std::chrono::milliseconds(20));  // others come in, if they may
                inside--;
            });
        for (std::thread& one : running) one.join();
        *most = highest;
    });
}
