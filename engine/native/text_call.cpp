// A text to its vector in one call, with the bits of the way through Python (embedrt/encoding.py).
#include <algorithm>
#include <cmath>
#include <exception>
#include <vector>

#include "handles.h"

namespace embedrt {
namespace {

// In numpy's order: halves down to 128 numbers, of those eight sums side by side.
float sum_of_squares(const float* x, size_t count) {
    if (count > 128) {
        const size_t half = count / 2 - count / 2 % 8;
        return sum_of_squares(x, half) + sum_of_squares(x + half, count - half);
    }
    if (count < 8) {
        float sum = -0.0f;
        for (size_t i = 0; i < count; i++) sum += x[i] * x[i];
        return sum;
    }
    float sums[8];
    for (size_t j = 0; j < 8; j++) sums[j] = x[j] * x[j];
    size_t i = 8;
    for (; i < count - count % 8; i += 8)
        for (size_t j = 0; j < 8; j++) sums[j] += x[i + j] * x[i + j];
    float sum = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
    for (; i < count; i++) sum += x[i] * x[i];
    return sum;
}

// Divided by the norm, as embedrt.pooling.l2_normalize does.
void divide_by_norm(float* x, size_t count) {
    const float norm = std::sqrt(sum_of_squares(x, count));
    const float divisor = norm < 1e-12f ? 1e-12f : norm;  // NaN stays
    for (size_t i = 0; i < count; i++) x[i] /= divisor;
}

bool is_finite(const float* x, size_t count) {
    return std::all_of(x, x + count, [](float value) { return std::isfinite(value); });
}

// The number of its tokens; -1 where there is no vector or not this one.
int64_t embed(const embedrt_text_call& call, std::string_view text, float* out) {
    TokenizerScratch scratch;
    Ids ids;
    if (!call.tokenizer->tokenizer.append(text, true, scratch, ids)) return -1;
    const auto count = static_cast<int32_t>(ids.size());
    if (ids.empty() || count > call.max_tokens || *std::max_element(ids.begin(), ids.end()) >= call.num_rows) return -1;
    const int32_t offsets[] = {0, count};
    const auto hidden = static_cast<size_t>(call.hidden_size), kept = static_cast<size_t>(call.dimension);
    std::vector<float> row(hidden);
    const Batch batch{.ids = ids.data(), .offsets = offsets, .num_texts = 1, .want = static_cast<Want>(call.want)};
    call.encoder->encoder.run(batch, row.data());
    if (call.normalize) divide_by_norm(row.data(), hidden);
    if (!is_finite(row.data(), hidden)) return -1;
    if (call.normalize_kept) divide_by_norm(row.data(), kept);
    std::copy_n(row.data(), kept, out);
    return count;
}

}  // namespace
}  // namespace embedrt

int64_t embedrt_embed_text(const embedrt_text_call* call, const char* text, int64_t size, float* out) {
    try {
        return embedrt::embed(*call, {text, static_cast<size_t>(size)}, out);
    } catch (const std::exception&) {
        return -1;
    }
}

void embedrt_normalize(float* row, int64_t width) { embedrt::divide_by_norm(row, static_cast<size_t>(width)); }
