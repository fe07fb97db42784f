// Hidden states to the words of a vocabulary: the head of a masked language model, pooled over each text's tokens.
//
//   rows = norm(activation(hidden @ transform.weight + transform.bias))
//   logits = rows @ decoder.weight + decoder.bias                          (T, V), never in memory as a whole
#pragma once

#include "embedrt_native.h"
#include "lanes.h"
#include "model.h"

namespace embedrt {

// What becomes of a word's logits over the tokens of a text.
enum class WordPooling : int {
    largest = EMBEDRT_LARGEST,          // the largest of them
    sum = EMBEDRT_SUM,                  // the sum of log(1 + max(logit, 0))
    sum_of_twice = EMBEDRT_SUM_OF_TWICE  // the same with log(1 + x) of that
};

class Words {
   public:
    Words(const embedrt_words_config& config, const embedrt_tensor* tensors, size_t num_tensors);

    // hidden (T, H) of texts at `offsets`; out (num_texts, V). Calls run side by side where threads are free.
    void run(const float* hidden, const int32_t* offsets, int num_texts, WordPooling pooling, float* out);

   private:
    struct Call;

    void load(const embedrt_words_config& config, const embedrt_tensor* tensors, size_t num_tensors);
    void transform(const Call& call, int part, int parts) const;
    void pool_panel(const Call& call, int panel, float* buffer) const;

    const Kernels& kernels_;
    LanesOfCalls lanes_;
    Matrix transform_, decoder_;
    Norm norm_;
    Activation activation_ = Activation::gelu_erf;
    Array<char> packed_;
};

}  // namespace embedrt
