// A pool of threads that all run the same function, and a barrier between its steps.
#pragma once

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

namespace embedrt {

// `size` threads, the caller of `run` included. Waiting spins for some microseconds, then sleeps in the kernel; between
// calls the threads sleep.
class Pool {
   public:
    explicit Pool(int size);
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
    void work(int thread);

    const int size_;
    const std::function<void(int)>* body_ = nullptr;
    alignas(64) std::atomic<int> call_{0};
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<int> phase_{0};
    alignas(64) std::atomic<bool> stop_{false};
    std::vector<std::thread> threads_;
};

}  // namespace embedrt
