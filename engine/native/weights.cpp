#include "weights.h"

#include <utility>

#include "refusal.h"

namespace embedrt {
namespace {

// All of what reads the same rows is int8, or all of it float32.
void check_same_kind(const std::vector<Source>& sources, const Source& first) {
    for (const Source& one : sources)
        if ((one.scale == nullptr) != (first.scale == nullptr))
            throw Refusal("weights that read the same rows are partly int8 and partly float32");
}

}  // namespace

int multiple_of_16(const std::string& what, int64_t value) {
    if (value < 16 || value > MAX_WIDTH || value % 16 != 0)
        throw Refusal(what + " is " + std::to_string(value) + ", the kernels take multiples of 16 up to " +
                      std::to_string(MAX_WIDTH));
    return static_cast<int>(value);
}

void WeightReader::block(Weights& weights, const Block& block, const embedrt_block& numbers, const std::string& name) {
    const Looks& looks = block.looks;
    const embedrt_norm& head_norm = numbers.attention.head_norm;
    const float factor = query_factor(numbers.attention.scale);
    const bool normed = head_norm.kind != EMBEDRT_NO_NORM;
    packer_.matrix(weights.qkv, hidden_, qkv_sources(name, looks, normed ? 1.0f : factor), CENTRE, float_kind());
    norm(weights.query_norm, name + "query_norm", head_norm, looks.head_size, factor);
    norm(weights.key_norm, name + "key_norm", head_norm, looks.head_size);
    product(weights.output, name + "attention_output", looks.queries(), hidden_, CENTRE);
    feed_forward(weights, block, numbers.feed_forward, name);
    if (numbers.norm.kind == EMBEDRT_NO_NORM) throw Refusal("a block has no norms");
    if (numbers.norms == EMBEDRT_POST || numbers.attention_is_normed != 0)
        norm(weights.attention_norm, name + "attention_norm", numbers.norm, hidden_);
    norm(weights.ffn_norm, name + "ffn_norm", numbers.norm, hidden_);
    if (numbers.norms != EMBEDRT_SANDWICH) return;
    norm(weights.attention_after_norm, name + "attention_after_norm", numbers.norm, hidden_);
    norm(weights.ffn_after_norm, name + "ffn_after_norm", numbers.norm, hidden_);
}

void WeightReader::product(Matrix& matrix, const std::string& name, int k, int n, int zero) {
    packer_.matrix(matrix, k, {with_bias(name, k, n)}, zero, float_kind());
}

void WeightReader::norm(Norm& norm, const std::string& name, const embedrt_norm& numbers, int width, float factor) {
    norm.kind = numbers.kind;
    norm.epsilon = numbers.epsilon;
    norm.width = width;
    if (!norm) return;
    if (norm.kind < 0 || norm.kind > EMBEDRT_RMS_NORM) throw Refusal("there is no such norm for " + name);
    packer_.vector(norm.gamma, tensors_.floats(name + ".gamma", 1, width), width, 1.0f, factor);
    packer_.vector(norm.beta, tensors_.floats(name + ".beta", 1, width, true), width, 0.0f, factor);
    packer_.vector(norm.restore, tensors_.floats(name + ".restore", 1, width, true), width, 1.0f);
}

// Q, K and V, each of its own tensors, or side by side in one.
std::vector<Source> WeightReader::qkv_sources(const std::string& name, const Looks& looks, float factor) const {
    const int width = looks.width();
    const struct {
        const char* name;
        int first, columns;
        float factor;
    } parts[] = {{"query", 0, looks.queries(), factor},
                 {"key", looks.queries(), looks.keys(), 1.0f},
                 {"value", looks.queries() + looks.keys(), looks.keys(), 1.0f}};
    const float* biases = tensors_.floats(name + "qkv.bias", 1, width, true);
    const float* weight = tensors_.floats(name + "qkv.weight", hidden_, width, true);
    std::vector<Source> sources;
    for (const auto& part : parts) {
        const float* bias =
            biases ? biases + part.first : tensors_.floats(name + part.name + ".bias", 1, part.columns, true);
        sources.push_back(weight ? Source{weight + part.first, nullptr, bias, part.columns, part.factor, width}
                                 : source(name + part.name, hidden_, part.columns, bias, part.factor));
    }
    check_same_kind(sources, sources.front());
    return sources;
}

void WeightReader::feed_forward(Weights& weights, const Block& block, const embedrt_feed_forward& numbers,
                                const std::string& name) {
    const int main = multiple_of_16("the FFN's width (" + name + "ffn_up)",
                                    tensors_.get(name + "ffn_up.weight").columns);
    const std::string outlying = name + "ffn_up_outlier";
    int count = 0;
    if (const embedrt_tensor* weight = tensors_.find(outlying + ".weight")) {
        count = multiple_of_16("the number of outlying neurons (" + outlying + ")", weight->columns);
        const float* few = tensors_.floats(name + "ffn_down_outlier.weight", count, hidden_);
        const float* bias = tensors_.floats(name + "ffn_down.bias", 1, hidden_, true);
        packer_.matrix(weights.few, count, {Source{few, nullptr, bias, hidden_, 1.0f}}, 0);
    }
    if (main + count != numbers.size)
        throw Refusal("tensor " + name + "ffn_up.weight has " + std::to_string(main) + " columns, wanted " +
                      std::to_string(numbers.size - count));
    const auto neurons = [&](const std::string& what) {
        std::vector<Source> sources = {with_bias(name + what, hidden_, main)};
        if (count > 0) sources.push_back(with_bias(name + what + "_outlier", hidden_, count));
        return sources;
    };
    std::vector<Source> up = neurons("ffn_up"), gate;
    if (numbers.gated != 0) gate = neurons("ffn_gate");
    check_same_kind(up, up.front());
    check_same_kind(gate, up.front());
    packer_.matrix(weights.up, hidden_, std::move(up), CENTRE, float_kind(), std::move(gate));
    product(weights.down, name + "ffn_down", main, hidden_, block.down_zero);
}

// Int8 where it has scales, else float32.
Source WeightReader::source(const std::string& name, int k, int n, const float* bias, float factor) const {
    const embedrt_tensor& weight = tensors_.get(name + ".weight");
    const float* scale = tensors_.floats(name + ".scale", 1, n, true);
    Tensors::check(weight, scale ? EMBEDRT_INT8 : EMBEDRT_FLOAT32, k, n);
    return {weight.data, scale, bias, n, factor};
}

Source WeightReader::with_bias(const std::string& name, int k, int n) const {
    return source(name, k, n, tensors_.floats(name + ".bias", 1, n, true));
}

}  // namespace embedrt
