// Numbers that depend on positions and distances alone, computed when a text is first so long.
#pragma once

#include <vector>

#include "memory.h"
#include "model.h"

namespace embedrt {

class Tables {
   public:
    // Makes them reach for texts of `longest` tokens.
    void grow(const Model& model, int longest);

    // Of one rotary: of a token's place in its text: (2 pairs,), cosines and then sines.
    const float* turn(int rotary, int place) const {
        const Turns& turns = turns_[static_cast<size_t>(rotary)];
        return turns.data.data() + static_cast<size_t>(place) * turns.width;
    }
    // What the scores of a head get by distance: bias(...)[distance]; the next head's are bias_stride() behind.
    const float* bias(int bias, int head) const {
        return biases_[static_cast<size_t>(bias)].data() + static_cast<size_t>(head) * bias_stride() + reach_;
    }
    size_t bias_stride() const { return 2 * reach_; }

   private:
    struct Turns {
        size_t width = 0;
        Array<float> data;
    };
    std::vector<Turns> turns_;
    std::vector<Array<float>> biases_;
    int places_ = 0;
    size_t reach_ = 0;  // distances of the biases on either side, and more for the kernels to read
};

}  // namespace embedrt
