#include "words.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

#include "isa.h"
#include "pack.h"
#include "refusal.h"
#include "split.h"
#include "weights.h"

namespace embedrt {
namespace {

constexpr int CHUNK_ROWS = 48;  // whose logits of one panel lie in the first cache

int depth_of(const PackedF32& weight) { return weight.k; }
int depth_of(const PackedBf16& weight) { return weight.depth; }
int depth_of(const PackedI8& weight) { return weight.depth; }

// One panel of a weight as a weight of its own, with the columns that do not exist.
template <class Packed>
Packed panel_of(Packed weight, int panel, int width) {
    const size_t first = static_cast<size_t>(panel) * static_cast<size_t>(width);
    weight.data += first * static_cast<size_t>(depth_of(weight));
    weight.bias += first;
    if constexpr (requires { weight.scale; }) {
        weight.scale += first;
        if (weight.start != nullptr) weight.start += first;
    }
    weight.n = width;
    return weight;
}

// A row of `width` numbers rounded to bfloat16; zeros behind it, up to `stride` bytes.
void narrow_row(const Kernels& kernels, const float* row, int width, char* out, size_t stride) {
    const size_t bytes = static_cast<size_t>(width) * sizeof(uint16_t);
    kernels.narrow_row(row, width, reinterpret_cast<uint16_t*>(out));
    std::memset(out + bytes, 0, stride - bytes);
}

float saturated(float logit, WordPooling pooling) {
    if (!(logit > 0.0f)) return 0.0f;
    const float once = std::log1p(logit);
    return pooling == WordPooling::sum ? once : std::log1p(once);
}

// `count` logits of a token into those of its text; `first`: it is the text's first.
void put(const float* logits, int count, bool first, WordPooling pooling, float* out) {
    if (pooling == WordPooling::largest) {
        if (first) {
            std::memcpy(out, logits, sizeof(float) * static_cast<size_t>(count));
            return;
        }
        for (int i = 0; i < count; i++) out[i] = logits[i] > out[i] ? logits[i] : out[i];
        return;
    }
    for (int i = 0; i < count; i++) out[i] = (first ? 0.0f : out[i]) + saturated(logits[i], pooling);
}

}  // namespace

// The rows of a call, first as the transform leaves them, then as the decoder reads them.
struct Words::Call {
    Call(const Words& words, const float* states, const int32_t* text_offsets, int texts, WordPooling how, float* to)
        : hidden(states), offsets(text_offsets), num_texts(texts), num_rows(text_offsets[texts]), pooling(how), out(to),
          rows(static_cast<size_t>(num_rows) * static_cast<size_t>(words.transform_.n())),
          narrow(words.transform_.kind == Kind::bfloat16
                     ? static_cast<size_t>(num_rows) * words.transform_.row_bytes(words.kernels_) : 0),
          read(static_cast<size_t>(num_rows) * words.decoder_.row_bytes(words.kernels_)),
          scale(static_cast<size_t>(num_rows)) {}

    const float* hidden;
    const int32_t* offsets;
    int num_texts, num_rows;
    WordPooling pooling;
    float* out;
    mutable Array<float> rows;          // (T, E)
    mutable Array<char> narrow, read;   // as the transform and the decoder read theirs
    mutable Array<float> scale;         // (T,) of int8
    mutable std::atomic<int> next{0};   // panel
};

Words::Words(const embedrt_words_config& config, const embedrt_tensor* tensors, size_t num_tensors)
    : kernels_(choose_kernels(config.isa)), lanes_(config.num_threads, config.available_threads) {
    load(config, tensors, num_tensors);
}

void Words::load(const embedrt_words_config& config, const embedrt_tensor* tensors, size_t num_tensors) {
    const Tensors by_name(tensors, num_tensors);
    const int hidden = multiple_of_16("the hidden size", config.hidden_size);
    const int size = multiple_of_16("the width before the vocabulary", config.size);
    if (config.vocabulary < 1) throw Refusal("the vocabulary is empty");
    if (config.activation < EMBEDRT_GELU_ERF || config.activation > EMBEDRT_QUICK_GELU)
        throw Refusal("the activation is not one of gelu (erf, tanh or quick), relu and silu");
    activation_ = static_cast<Activation>(config.activation);
    Packer packer(kernels_);
    WeightReader weights(by_name, kernels_, packer, hidden);
    weights.product(transform_, "words.transform", hidden, size, CENTRE);
    weights.norm(norm_, "words.norm", config.norm, size);
    weights.product(decoder_, "words.decoder", size, config.vocabulary, CENTRE);
    by_name.check_all_read();
    if (transform_.kind == Kind::int8) throw Refusal("the transform before the vocabulary is float32");
    packed_ = packer.finish(Lanes::Turn(lanes_.get())->pool);
}

void Words::run(const float* hidden, const int32_t* offsets, int num_texts, WordPooling pooling, float* out) {
    if (pooling < WordPooling::largest || pooling > WordPooling::sum_of_twice)
        throw std::invalid_argument("there is no such pooling of words");
    if (num_texts < 1 || offsets[0] != 0) throw std::invalid_argument("a batch begins with a text at 0");
    for (int i = 0; i < num_texts; i++)
        if (offsets[i + 1] <= offsets[i]) throw std::invalid_argument("text " + std::to_string(i) + " has no tokens");
    const Call call(*this, hidden, offsets, num_texts, pooling, out);
    const Lanes::Turn lane(lanes_.get());
    const int panels = decoder_.panels(kernels_), threads = lane->pool.size();
    const size_t width = static_cast<size_t>(CHUNK_ROWS) * static_cast<size_t>(kernels_.panel_columns);
    Array<float> buffers(width * static_cast<size_t>(threads));
    lane->pool.run([&](int thread) {
        transform(call, thread, threads);
        lane->pool.barrier();
        float* buffer = buffers.data() + width * static_cast<size_t>(thread);
        for (int panel = call.next++; panel < panels; panel = call.next++) pool_panel(call, panel, buffer);
    });
}

// Some of the rows, up to what the decoder reads.
void Words::transform(const Call& call, int part, int parts) const {
    const int from = part_of(call.num_rows, part, parts), to = part_of(call.num_rows, part + 1, parts);
    if (from >= to) return;
    const auto first = static_cast<size_t>(from);
    const auto width = static_cast<size_t>(transform_.k()), size = static_cast<size_t>(transform_.n());
    const float* hidden = call.hidden + first * width;
    float* rows = call.rows.data() + first * size;
    Product product;
    product.num_rows = to - from;
    product.last_panel = transform_.panels(kernels_);
    product.epilogue = Epilogue::activate;
    product.activation = activation_;
    product.main = transform_.n();
    product.out = rows;
    product.out_stride = size;
    product.row_stride = transform_.row_bytes(kernels_);
    if (transform_.kind == Kind::bfloat16) {
        char* narrow = call.narrow.data() + first * product.row_stride;
        for (size_t r = 0; r < static_cast<size_t>(to - from); r++)
            narrow_row(kernels_, hidden + r * width, transform_.k(), narrow + r * product.row_stride, product.row_stride);
        product.rows = narrow;
        kernels_.product_bf16(transform_.bf16, product);
    } else {
        product.rows = hidden;
        kernels_.product_f32(transform_.f32, product);
    }
    const size_t stride = decoder_.row_bytes(kernels_);
    for (size_t r = first; r < static_cast<size_t>(to); r++) {
        float* row = call.rows.data() + r * size;
        char* read = call.read.data() + r * stride;
        if (norm_) norm_(kernels_, row, row);
        switch (decoder_.kind) {
            case Kind::int8: kernels_.quantize(row, decoder_.k(), CENTRE, read, call.scale.data() + r); break;
            case Kind::bfloat16: narrow_row(kernels_, row, decoder_.k(), read, stride); break;
            case Kind::float32: std::memcpy(read, row, stride); break;
        }
    }
}

// One panel of the vocabulary for all texts, some rows at a time; it stays in the second cache.
void Words::pool_panel(const Call& call, int panel, float* buffer) const {
    const int width = kernels_.panel_columns, first = panel * width;
    const int columns = std::min(width, decoder_.n() - first);
    const size_t stride = decoder_.row_bytes(kernels_);
    int text = 0;
    for (int from = 0; from < call.num_rows; from += CHUNK_ROWS) {
        const int to = std::min(call.num_rows, from + CHUNK_ROWS);
        Product product;
        product.num_rows = to - from;
        product.last_panel = 1;
        product.rows = call.read.data() + static_cast<size_t>(from) * stride;
        product.row_stride = stride;
        product.row_scale = call.scale.data() + from;
        product.out = buffer;
        product.out_stride = static_cast<size_t>(width);
        product.main = width;
        switch (decoder_.kind) {
            case Kind::int8: kernels_.product_i8(panel_of(decoder_.i8, panel, width), product); break;
            case Kind::bfloat16: kernels_.product_bf16(panel_of(decoder_.bf16, panel, width), product); break;
            case Kind::float32: kernels_.product_f32(panel_of(decoder_.f32, panel, width), product); break;
        }
        for (int row = from; row < to; row++) {
            while (row >= call.offsets[text + 1]) text++;
            put(buffer + static_cast<size_t>(row - from) * static_cast<size_t>(width), columns,
                row == call.offsets[text], call.pooling,
                call.out + static_cast<size_t>(text) * static_cast<size_t>(decoder_.n()) + first);
        }
    }
}

}  // namespace embedrt
