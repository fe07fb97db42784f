#include "encoder.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "isa.h"
#include "look_up.h"
#include "pass.h"

namespace embedrt {
namespace {

// Position of every token: counted from the text's start, or as RoBERTa counts, without pad tokens.
void number(const Model& model, const Batch& batch, std::vector<int32_t>& out) {
    out.resize(static_cast<size_t>(batch.num_tokens()));
    if (batch.pixels != nullptr) {
        for (size_t t = 0; t < out.size(); t++) out[t] = static_cast<int32_t>(t) % model.patch_rows;
        return;
    }
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

// Token type of every token, where the batch has more than one.
void type(const Model& model, const Batch& batch, std::vector<uint8_t>& out) {
    if (batch.seconds == nullptr) return;
    if (model.num_types < 2) throw std::invalid_argument("the model has no second token type");
    out.resize(static_cast<size_t>(batch.num_tokens()));
    for (int text = 0; text < batch.num_texts; text++) {
        const int32_t length = batch.offsets[text + 1] - batch.offsets[text], second = batch.seconds[text];
        if (second < 0 || second > length)
            throw std::invalid_argument("text " + std::to_string(text) + " has " + std::to_string(length) +
                                        " tokens, its second part begins at " + std::to_string(second));
        for (int32_t t = 0; t < length; t++) out[static_cast<size_t>(batch.offsets[text] + t)] = t < second ? 0 : 1;
    }
}

void check(const Model& model, const Batch& batch) {
    if (batch.want < Want::all || batch.want > Want::mean) throw std::invalid_argument("there are no such rows");
    if (batch.num_texts < 1 || batch.offsets[0] != 0) throw std::invalid_argument("a batch begins with a text at 0");
    for (int i = 0; i < batch.num_texts; i++)
        if (batch.offsets[i + 1] <= batch.offsets[i])
            throw std::invalid_argument("text " + std::to_string(i) + " has no tokens");
    if (batch.keys == nullptr) return;
    int nearest = INT32_MAX;  // that any block sees no further than
    for (const Block& block : model.blocks) nearest = std::min(nearest, block.looks.before);
    for (int i = 0; i < batch.num_texts; i++) {
        const int length = batch.offsets[i + 1] - batch.offsets[i];
        if (batch.keys[i] < 1 || batch.keys[i] > length)
            throw std::invalid_argument("text " + std::to_string(i) + " has no such tokens to be seen");
        if (batch.keys[i] < length && length - 1 > nearest)
            throw std::invalid_argument("text " + std::to_string(i) + " has tokens that are not seen and " +
                                        std::to_string(length) + " in all, more than the window of " + std::to_string(nearest));
    }
}

// The mean of each text's rows, added from the first on to 0, as numpy does.
void mean(const float* states, const Batch& batch, size_t hidden, float* out) {
    for (int text = 0; text < batch.num_texts; text++, out += hidden) {
        std::fill_n(out, hidden, 0.0f);
        for (int t = batch.offsets[text]; t < batch.offsets[text + 1]; t++, states += hidden)
            for (size_t i = 0; i < hidden; i++) out[i] += states[i];
        const auto rows = static_cast<float>(batch.offsets[text + 1] - batch.offsets[text]);
        for (size_t i = 0; i < hidden; i++) out[i] /= rows;
    }
}

}  // namespace

Encoder::Encoder(const embedrt_config& config, const embedrt_tensor* tensors, size_t num_tensors, PackedBefore before)
    : kernels_(choose_kernels(config.isa)), lanes_(config.num_threads, config.available_threads) {
    model_ = load_model(config, tensors, num_tensors, before, kernels_, Lanes::Turn(lanes_.get())->pool);
    lists_ = compile(model_, kernels_);
    widths_ = widths_of(model_, kernels_);
    weight_bytes_ = weight_bytes(lists_);
}

void Encoder::run(const Batch& batch, float* out) {
    if (model_.patch_rows > 0) throw std::invalid_argument("this encoder reads pictures, not tokens");
    check(model_, batch);
    run_checked(batch, out);
}

void Encoder::run_pictures(const float* pixels, int num_pictures, Want want, float* out) {
    if (model_.patch_rows == 0) throw std::invalid_argument("this encoder reads tokens, not pictures");
    if (num_pictures < 1 || num_pictures > INT32_MAX / model_.patch_rows)
        throw std::invalid_argument("a batch has 1 picture or more, and fewer than 2^31 rows");
    std::vector<int32_t> offsets(static_cast<size_t>(num_pictures) + 1);
    for (size_t i = 0; i < offsets.size(); i++) offsets[i] = static_cast<int32_t>(i) * model_.patch_rows;
    const Batch batch{.pixels = pixels, .offsets = offsets.data(), .num_texts = num_pictures, .want = want};
    check(model_, batch);
    run_checked(batch, out);
}

void Encoder::run_checked(const Batch& batch, float* out) {
    const Lanes::Turn lane(lanes_.get());
    number(model_, batch, lane->workspace.positions);
    type(model_, batch, lane->workspace.types);
    if (model_.blocks.empty()) return look_up(model_, kernels_, lane->pool, batch, out);
    int longest = 0;
    for (int i = 0; i < batch.num_texts; i++) longest = std::max(longest, batch.offsets[i + 1] - batch.offsets[i]);
    lane->workspace.tables.grow(model_, longest);
    Pass pass(*this, lane->workspace, lane->pool, batch, &lane->profile);
    lane->pool.run([&pass](int thread) { pass.body(thread); });
    const auto hidden = static_cast<size_t>(model_.hidden);
    if (batch.want == Want::mean) return mean(pass.result(), batch, hidden, out);
    const int rows = batch.want == Want::all ? batch.num_tokens() : batch.num_texts;
    std::memcpy(out, pass.result(), sizeof(float) * static_cast<size_t>(rows) * hidden);
}

}  // namespace embedrt
