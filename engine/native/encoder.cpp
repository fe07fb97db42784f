#include "encoder.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>

#include "isa.h"
#include "pass.h"
#include "refusal.h"

namespace embedrt {
namespace {

constexpr int MAX_THREADS = 1024;

// Position of every token: counted from the text's start, or as RoBERTa counts, without pad tokens.
void number(const Model& model, const Batch& batch, std::vector<int32_t>& out) {
    out.resize(static_cast<size_t>(batch.num_tokens()));
    const bool table = model.num_positions > 0;
    const int limit = table ? model.num_positions : model.max_tokens < 0 ? INT32_MAX : model.max_tokens + model.first_position();
    for (int text = 0; text < batch.num_texts; text++) {
        int next = model.first_position();
        for (int t = batch.offsets[text]; t < batch.offsets[text + 1]; t++) {
            const int id = batch.ids[t];
            if (id < 0 || id >= model.vocabulary)
                throw std::invalid_argument("text " + std::to_string(text) + " has token " + std::to_string(id) +
                                            ", the vocabulary has " + std::to_string(model.vocabulary));
            const bool pad = model.pad_position >= 0 && id == model.pad_position;
            const int position = pad ? model.pad_position : next++;
            if (position >= limit)
                throw std::invalid_argument("text " + std::to_string(text) + " has " +
                                            std::to_string(batch.offsets[text + 1] - batch.offsets[text]) +
                                            " tokens, the model has positions for " +
                                            std::to_string(limit - model.first_position()));
            out[static_cast<size_t>(t)] = position;
        }
    }
}

void check(const Batch& batch) {
    if (batch.want < Want::all || batch.want > Want::last) throw std::invalid_argument("there are no such rows");
    if (batch.num_texts < 1 || batch.offsets[0] != 0) throw std::invalid_argument("a batch begins with a text at 0");
    for (int i = 0; i < batch.num_texts; i++)
        if (batch.offsets[i + 1] <= batch.offsets[i])
            throw std::invalid_argument("text " + std::to_string(i) + " has no tokens");
}

}  // namespace

Encoder::Encoder(const embedrt_config& config, const embedrt_tensor* tensors, size_t num_tensors, PackedBefore before)
    : kernels_(choose_kernels(config.isa)), num_threads_(config.num_threads),
      available_threads_(std::min(config.available_threads, MAX_THREADS)) {
    if (num_threads_ < 1 || num_threads_ > MAX_THREADS)
        throw Refusal("threads must be 1 to " + std::to_string(MAX_THREADS) + ", not " + std::to_string(num_threads_));
    auto lanes = std::make_unique<Lanes>(num_threads_, available_threads_);
    model_ = load_model(config, tensors, num_tensors, before, kernels_, Lanes::Turn(*lanes)->pool);
    lists_ = compile(model_, kernels_);
    widths_ = widths_of(model_, kernels_);
    lanes_.store(lanes.release(), std::memory_order_release);
}

Encoder::~Encoder() {
    Lanes* mine = lanes_.load(std::memory_order_acquire);
    if (mine->owner() == getpid()) delete mine;  // else it would wait for threads that are not there
}

// In a forked child the threads are gone and the locks may be held for ever: it gets lanes of its own, and those that
// it inherited are left as they are.
Lanes& Encoder::lanes() {
    Lanes* current = lanes_.load(std::memory_order_acquire);
    while (current->owner() != getpid()) {
        auto fresh = std::make_unique<Lanes>(num_threads_, available_threads_);
        if (lanes_.compare_exchange_strong(current, fresh.get(), std::memory_order_acq_rel)) return *fresh.release();
    }
    return *current;
}

void Encoder::run(const Batch& batch, float* out) {
    check(batch);
    const Lanes::Turn lane(lanes());
    number(model_, batch, lane->workspace.positions);
    int longest = 0;
    for (int i = 0; i < batch.num_texts; i++) longest = std::max(longest, batch.offsets[i + 1] - batch.offsets[i]);
    lane->workspace.tables.grow(model_, longest);
    Pass pass(*this, lane->workspace, lane->pool, batch, &lane->profile);
    lane->pool.run([&pass](int thread) { pass.body(thread); });
    const int rows = batch.want == Want::all ? batch.num_tokens() : batch.num_texts;
    std::memcpy(out, pass.result(), sizeof(float) * static_cast<size_t>(rows) * static_cast<size_t>(model_.hidden));
}

}  // namespace embedrt
