#include "lanes.h"

#include <unistd.h>

#include <algorithm>
#include <exception>
#include <string>

#include "refusal.h"

namespace embedrt {
namespace {

constexpr int MAX_THREADS = 1024;

}  // namespace

thread_local bool takes_half = false;

Lanes::Lanes(int threads, int available)
    : threads_(threads), owner_(getpid()), most_(static_cast<size_t>(std::max(1, available / threads))) {
    lanes_.reserve(most_);
    free_.reserve(most_);
    const Turn first(*this);  // fails here, where there can be no threads at all
}

Lane& Lanes::take() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
        if (!free_.empty()) {
            Lane& lane = *free_.back();
            free_.pop_back();
            return lane;
        }
        if (made_ < most_) break;
        given_.wait(lock);
    }
    made_++;
    lock.unlock();
    std::unique_ptr<Lane> fresh;
    try {
        fresh = std::make_unique<Lane>(threads_);
    } catch (const std::exception&) {  // the system gives no more threads: wait for those there are
        lock.lock();
        made_--;
        if (made_ == 0) throw;
        most_ = made_;
        lock.unlock();
        return take();
    }
    lock.lock();
    lanes_.push_back(std::move(fresh));
    return *lanes_.back();
}

void Lanes::give(Lane& lane) {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        profile_.add(lane.profile);
        lane.profile = Profile();
        free_.push_back(&lane);
    }
    given_.notify_one();
}

Profile Lanes::profile() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return profile_;
}

LanesOfProcess::LanesOfProcess(int threads, int available)
    : threads_(threads), available_(std::min(available, MAX_THREADS)) {
    if (threads < 1 || threads > MAX_THREADS)
        throw Refusal("threads must be 1 to " + std::to_string(MAX_THREADS) + ", not " + std::to_string(threads));
    lanes_.store(new Lanes(threads_, available_), std::memory_order_release);
}

LanesOfProcess::~LanesOfProcess() {
    Lanes* mine = lanes_.load(std::memory_order_acquire);
    if (mine->owner() == getpid()) delete mine;  // else it would wait for threads that are not there
}

Lanes& LanesOfProcess::get() {
    Lanes* current = lanes_.load(std::memory_order_acquire);
    while (current->owner() != getpid()) {
        auto fresh = std::make_unique<Lanes>(threads_, available_);
        if (lanes_.compare_exchange_strong(current, fresh.get(), std::memory_order_acq_rel)) return *fresh.release();
    }
    return *current;
}

Profile LanesOfCalls::profile() {
    Profile found = whole_.get().profile();
    found.add(half_.get().profile());
    return found;
}

}  // namespace embedrt
