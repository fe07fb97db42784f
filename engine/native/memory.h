// Arrays at page boundaries, in huge pages where the system gives them.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <new>
#include <utility>

namespace embedrt {

// `count` elements that are not initialized, and room to read one vector past them. Moves, does not copy.
template <class T>
class Array {
   public:
    Array() = default;
    explicit Array(size_t count) : count_(count) {
        const size_t bytes = count * sizeof(T) + SLACK;
        const size_t alignment = bytes >= HUGE_PAGE ? HUGE_PAGE : 4096;
        const size_t whole = (bytes + alignment - 1) / alignment * alignment;
        data_ = static_cast<T*>(std::aligned_alloc(alignment, whole));
        if (data_ == nullptr) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)  // Linux
        if (alignment == HUGE_PAGE) madvise(data_, whole, MADV_HUGEPAGE);
#endif
    }
    Array(Array&& other) noexcept { swap(other); }
    Array& operator=(Array&& other) noexcept {
        swap(other);
        return *this;
    }
    ~Array() { std::free(data_); }

    T* data() { return data_; }
    const T* data() const { return data_; }
    size_t size() const { return count_; }
    T& operator[](size_t i) { return data_[i]; }

   private:
    static constexpr size_t HUGE_PAGE = size_t{2} << 20, SLACK = 256;
    void swap(Array& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(count_, other.count_);
    }
    T* data_ = nullptr;
    size_t count_ = 0;
};

}  // namespace embedrt
