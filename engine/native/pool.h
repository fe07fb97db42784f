// A pool of threads that all run the same function, and a barrier between its steps.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace embedrt {

// `size` threads, the caller of `run` included. Waiting spins for some microseconds, then sleeps in the kernel; between
// calls the threads sleep.
class Pool {
   public:
    // Calls and barriers are counted from `first` on, and the counts wrap around: only whether they changed is read.
    explicit Pool(int size, uint32_t first = 0);
    ~Pool();
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    int size() const { return size_; }

    // body(thread) on every thread, thread 0 being the caller; returns when all are done. One call at a time. `body`
    // must not throw.
    void run(const std::function<void(int)>& body);

    // Called by every thread of a running body: returns when all have called it.
    void barrier();

   private:
    void work(int thread, uint32_t seen);
    void stop();

    const int size_;
    const std::function<void(int)>* body_ = nullptr;
    alignas(64) std::atomic<uint32_t> call_;
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<uint32_t> phase_;
    alignas(64) std::atomic<bool> stop_{false};
    std::vector<std::thread> threads_;
};

}  // namespace embedrt
