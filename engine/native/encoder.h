// The forward pass: which thread computes which rows, columns and heads, and in which order.
#pragma once

#include "lanes.h"
#include "model.h"
#include "steps.h"

namespace embedrt {

// The rows of the result: all, or each text's first or last, or the mean of each text's.
enum class Want : int { all = EMBEDRT_ALL, first = EMBEDRT_FIRST, last = EMBEDRT_LAST, mean = EMBEDRT_MEAN };

// A batch of texts, checked: token ids end to end, text i being [offsets[i], offsets[i + 1]). Or of pictures: rows of pixels.
struct Batch {
    const int32_t* ids = nullptr;
    const float* pixels = nullptr;
    const int32_t* offsets = nullptr;
    const int32_t* keys = nullptr;  // (num_texts,): how many of a text's first tokens are seen; null: all
    const int32_t* seconds = nullptr;  // (num_texts,): where in each text its tokens of type 1 begin; null: there are none
    int num_texts = 0;
    Want want = Want::all;
    int num_tokens() const { return offsets[num_texts]; }
    int num_keys(int text) const { return keys ? keys[text] : offsets[text + 1] - offsets[text]; }
    bool wants_one_row() const { return want == Want::first || want == Want::last; }
    // Of the batch, the one that is wanted of a text.
    int wanted_row(int text) const { return want == Want::last ? offsets[text + 1] - 1 : offsets[text]; }
};

class Encoder {
   public:
    Encoder(const embedrt_config& config, const embedrt_tensor* tensors, size_t num_tensors, PackedBefore before);

    Encoder(const Encoder&) = delete;
    Encoder& operator=(const Encoder&) = delete;

    // (T, H), or (num_texts, H). Calls run side by side where threads are free (lanes.h). Throws
    // std::invalid_argument for ids that do not exist and texts that are too long.
    void run(const Batch& batch, float* out);
    // The same of pixels (num_pictures, rows, size).
    void run_pictures(const float* pixels, int num_pictures, Want want, float* out);

    const Kernels& kernels() const { return kernels_; }
    Profile profile() { return lanes_.profile(); }
    PackedBefore packed() const { return {model_.packed_data, model_.packed_size}; }

   private:
    friend class Pass;

    void run_checked(const Batch& batch, float* out);

    const Kernels& kernels_;
    LanesOfCalls lanes_;
    Model model_;
    std::vector<Steps> lists_;
    Widths widths_;
    size_t weight_bytes_ = 0;
};

}  // namespace embedrt
