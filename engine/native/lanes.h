// Calls side by side: each has a lane, which is threads and memory of its own.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "pool.h"
#include "profile.h"
#include "workspace.h"

namespace embedrt {

// What one call at a time runs on.
struct Lane {
    explicit Lane(int threads) : pool(threads) {}
    Pool pool;
    Workspace workspace;
    Profile profile;  // of this call
};

// As many lanes of `threads` threads as `available` threads have room for, at least one; made when calls first need
// them, and kept. They belong to the process that made them: a fork copies neither threads nor clean locks.
class Lanes {
   public:
    Lanes(int threads, int available);

    // A lane for as long as this lives.
    class Turn {
       public:
        explicit Turn(Lanes& lanes) : lanes_(lanes), lane_(lanes.take()) {}
        ~Turn() { lanes_.give(lane_); }
        Turn(const Turn&) = delete;
        Turn& operator=(const Turn&) = delete;
        Lane* operator->() const { return &lane_; }

       private:
        Lanes& lanes_;
        Lane& lane_;
    };

    // Of all calls that have ended.
    Profile profile();
    pid_t owner() const { return owner_; }

   private:
    Lane& take();  // waits while all are taken
    void give(Lane& lane);

    const int threads_;
    const pid_t owner_;
    std::mutex mutex_;  // of everything below
    std::condition_variable given_;
    size_t most_;
    size_t made_ = 0;  // and being made
    std::vector<std::unique_ptr<Lane>> lanes_;
    std::vector<Lane*> free_;  // the last one given is taken next: its memory is warm, and others need not grow
    Profile profile_;
};

// Whether calls of this thread take half of an encoder's threads, so that two run side by side, instead of all.
extern thread_local bool takes_half;

// The lanes of whichever process asks. In a forked child the threads are gone and the locks may be held for ever: it
// gets lanes of its own, and those that it inherited are left as they are.
class LanesOfProcess {
   public:
    LanesOfProcess(int threads, int available);
    ~LanesOfProcess();
    LanesOfProcess(const LanesOfProcess&) = delete;
    LanesOfProcess& operator=(const LanesOfProcess&) = delete;

    Lanes& get();

   private:
    const int threads_, available_;
    std::atomic<Lanes*> lanes_;  // owned
};

// The lanes of calls with all threads, and of those that take half of them: the caller decides how many run at once.
class LanesOfCalls {
   public:
    LanesOfCalls(int threads, int available)
        : whole_(threads, available), half_(std::max(1, threads / 2), std::max(threads, available)) {}

    Lanes& get() { return takes_half ? half_.get() : whole_.get(); }
    Profile profile();

   private:
    LanesOfProcess whole_, half_;
};

}  // namespace embedrt
