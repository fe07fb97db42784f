#include "tables.h"

#include <algorithm>
#include <cmath>

namespace embedrt {

void Tables::grow(const Model& model, int longest) {
    if (longest > places_) {
        places_ = std::max(longest, 2 * places_);
        turns_.clear();
        for (const Rotary& rotary : model.rotaries) {
            const auto pairs = static_cast<size_t>(rotary.pairs);
            Turns turns{2 * pairs, Array<float>(static_cast<size_t>(places_) * 2 * pairs)};
            for (int place = 0; place < places_; place++)
                for (size_t j = 0; j < pairs; j++) {
                    float* turn = turns.data.data() + static_cast<size_t>(place) * 2 * pairs;
                    const double angle = static_cast<float>(place) * rotary.frequencies[j];  // as float32 has it
                    turn[j] = static_cast<float>(std::cos(angle));
                    turn[pairs + j] = static_cast<float>(std::sin(angle));
                }
            turns_.push_back(std::move(turns));
        }
    }
    const auto reach = static_cast<size_t>(longest) + Attention::ALIGNED;
    if (reach <= reach_) return;
    reach_ = reach;
    biases_.clear();
    for (const DistanceBias& bias : model.biases) {
        Array<float> out(static_cast<size_t>(bias.heads) * bias_stride());
        const int most = static_cast<int>(reach_);
        for (int head = 0; head < bias.heads; head++)
            for (int distance = -most; distance < most; distance++)
                out[static_cast<size_t>(head) * bias_stride() + static_cast<size_t>(most + distance)] = bias.at(head, distance);
        biases_.push_back(std::move(out));
    }
}

}  // namespace embedrt
