#include "pool.h"

#include <chrono>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace embedrt {
namespace {

// Longer than a sleeping thread takes to come back (30 to 60 microseconds in a virtual machine): with less, a thread that
// overslept one barrier makes the others sleep at the next, and so on through a whole call.
constexpr std::chrono::microseconds SPIN{100};

void relax() {
#if defined(__x86_64__)
    _mm_pause();
#endif
}

// Until `value` is no longer `old`.
void wait_change(std::atomic<uint32_t>& value, uint32_t old) {
    using Clock = std::chrono::steady_clock;
    const auto end = Clock::now() + SPIN;
    do {
        for (int i = 0; i < 32; i++) {
            if (value.load(std::memory_order_acquire) != old) return;
            relax();
        }
        std::this_thread::yield();  // whoever is waited for may be queued on this very core
    } while (Clock::now() < end);
    while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

}  // namespace

Pool::Pool(int size, uint32_t first) : size_(size), call_(first), phase_(first) {
    threads_.reserve(static_cast<size_t>(size - 1));
    try {
        for (int thread = 1; thread < size; thread++)
            threads_.emplace_back([this, thread, first] { work(thread, first); });
    } catch (...) {
        stop();
        throw;
    }
}

Pool::~Pool() { stop(); }

void Pool::stop() {
    stop_.store(true, std::memory_order_release);
    call_.fetch_add(1, std::memory_order_acq_rel);
    call_.notify_all();
    for (auto& one : threads_) one.join();
}

void Pool::run(const std::function<void(int)>& body) {
    body_ = &body;
    call_.fetch_add(1, std::memory_order_acq_rel);
    call_.notify_all();
    body(0);
    barrier();
}

void Pool::barrier() {
    if (size_ == 1) return;
    const uint32_t phase = phase_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
        arrived_.store(0, std::memory_order_relaxed);
        // Not only released: libstdc++ then reads whether anybody sleeps, and wakes nobody if it reads that before the
        // others see the new phase. Whoever went to sleep meanwhile would sleep for ever.
        phase_.store(phase + 1, std::memory_order_seq_cst);
        phase_.notify_all();
    } else {
        wait_change(phase_, phase);
    }
}

void Pool::work(int thread, uint32_t seen) {
    for (;; seen++) {
        wait_change(call_, seen);
        if (stop_.load(std::memory_order_acquire)) return;
        (*body_)(thread);
        barrier();
    }
}

}  // namespace embedrt
