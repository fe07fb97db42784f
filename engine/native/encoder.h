// The forward pass: which thread computes which rows, columns and heads, and in which order.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "model.h"
#include "pool.h"
#include "profile.h"

namespace embedrt {

// A batch of texts, checked: token ids end to end, text i being [offsets[i], offsets[i + 1]).
struct Batch {
    const int32_t* ids = nullptr;
    const int32_t* offsets = nullptr;
    int num_texts = 0;
    bool first_only = false;
    int num_tokens() const { return offsets[num_texts]; }
};

// What one pass writes, grown to the largest batch so far.
struct Workspace {
    Array<float> x, context, scores, wide, rest, scale, left;
    Array<char> quantized, qkv;  // qkv: of what the kernel of attention wants
    std::vector<int32_t> positions;
    int tokens = 0, longest = 0;
};

class Encoder {
   public:
    Encoder(const embedrt_config& config, const embedrt_tensor* tensors, size_t num_tensors, PackedBefore before);

    // (T, H), or (num_texts, H) if first_only. Calls take turns. Throws std::invalid_argument for ids that do not exist
    // and texts that are too long.
    void run(const Batch& batch, float* out);

    const Kernels& kernels() const { return kernels_; }
    const Profile& profile() const { return profile_; }
    PackedBefore packed() const { return {model_.packed_data, model_.packed_size}; }

   private:
    friend class Pass;

    // Threads and memory of one process: a fork copies neither the threads nor a clean lock.
    struct Runner {
        explicit Runner(int threads, pid_t process) : pool(threads), owner(process) {}
        Pool pool;
        Workspace workspace;
        std::mutex turn;
        pid_t owner;
    };
    Runner& runner();

    const Kernels& kernels_;
    int num_threads_;
    std::atomic<Runner*> runner_{nullptr};
    std::unique_ptr<Runner> first_;
    Model model_;
    Profile profile_;
};

}  // namespace embedrt
