#include "look_up.h"

#include <algorithm>
#include <atomic>
#include <functional>

namespace embedrt {
namespace {

constexpr int ALONE = 2048;  // rows up to which waking the other threads would take longer than it saves
constexpr int RUN = 32;      // texts that a thread takes at once

class LookUp {
   public:
    LookUp(const Model& model, const Kernels& kernels, const Batch& batch, float* out)
        : model_(model), k_(kernels), batch_(batch), out_(out), hidden_(static_cast<size_t>(model.hidden)) {}

    void texts(int from, int to) const {
        Array<float> row(hidden_);
        for (int text = from; text < to; text++) {
            const int first = batch_.offsets[text], end = batch_.offsets[text + 1];
            float* own = out_ + static_cast<size_t>(text) * hidden_;
            if (batch_.want == Want::mean) {
                mean(first, end, row.data(), own);
            } else if (batch_.want == Want::all) {
                for (int t = first; t < end; t++) embed(t, out_ + static_cast<size_t>(t) * hidden_);
            } else {
                embed(batch_.wanted_row(text), own);
            }
        }
    }

   private:
    void embed(int token, float* out) const {
        k_.embed(model_.word(static_cast<size_t>(batch_.ids[token])), model_.hidden, out);
    }

    // Added from the first on to 0, as those of other encoders are.
    void mean(int first, int end, float* row, float* out) const {
        std::fill_n(out, hidden_, 0.0f);
        for (int t = first; t < end; t++) {
            embed(t, row);
            k_.add(row, model_.ones, model_.hidden, out);
        }
        const auto rows = static_cast<float>(end - first);
        for (size_t i = 0; i < hidden_; i++) out[i] /= rows;
    }

    const Model& model_;
    const Kernels& k_;
    const Batch& batch_;
    float* out_;
    const size_t hidden_;
};

}  // namespace

void look_up(const Model& model, const Kernels& kernels, Pool& pool, const Batch& batch, float* out) {
    const LookUp all(model, kernels, batch, out);
    if (batch.num_tokens() <= ALONE) return all.texts(0, batch.num_texts);
    std::atomic<int> next = 0;
    pool.run([&](int) {
        for (int from = next.fetch_add(RUN); from < batch.num_texts; from = next.fetch_add(RUN))
            all.texts(from, std::min(from + RUN, batch.num_texts));
    });
}

}  // namespace embedrt
