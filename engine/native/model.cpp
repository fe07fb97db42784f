#include "model.h"

#include <cmath>
#include <cstdint>
#include <map>
#include <stdexcept>

#include "pack.h"
#include "refusal.h"
#include "tensors.h"

namespace embedrt {
namespace {

constexpr int MAX_WIDTH = 32768;  // 255 * 128 * K must fit in 31 bits
constexpr int LEAST_HEAD = 32, MOST_HEAD = 256;

int multiple_of_16(const std::string& what, int64_t value) {
    if (value < 16 || value > MAX_WIDTH || value % 16 != 0)
        throw Refusal(what + " is " + std::to_string(value) + ", the kernels take multiples of 16 up to " +
                      std::to_string(MAX_WIDTH));
    return static_cast<int>(value);
}

// Whether an activation's rows lie around a small zero point: it is over -0.17, and nothing is multiplied to it.
bool is_lopsided(const embedrt_feed_forward& ffn) { return ffn.gated == 0 && ffn.activation != EMBEDRT_SILU; }

bool same(const embedrt_norm& a, const embedrt_norm& b) { return a.kind == b.kind && a.epsilon == b.epsilon; }

// Whether both can read the same weights as they are packed.
bool pack_alike(const embedrt_block& a, const embedrt_block& b) {
    return a.norms == b.norms && a.attention_is_normed == b.attention_is_normed && same(a.norm, b.norm) &&
           a.attention.num_heads == b.attention.num_heads && a.attention.num_kv_heads == b.attention.num_kv_heads &&
           a.attention.head_size == b.attention.head_size && a.attention.scale == b.attention.scale &&
           same(a.attention.head_norm, b.attention.head_norm) && a.feed_forward.size == b.feed_forward.size &&
           a.feed_forward.gated == b.feed_forward.gated && is_lopsided(a.feed_forward) == is_lopsided(b.feed_forward);
}

class Loader {
   public:
    Loader(const embedrt_config& config, const Tensors& tensors, PackedBefore before, const Kernels& kernels,
           Pool& pool)
        : config_(config), tensors_(tensors), before_(before), kernels_(kernels), packer_(kernels),
          pool_(pool) {}

    Model load() {
        read_config();
        read_embeddings();
        read_blocks();
        read_norm(model_.final_norm, "final_norm", config_.final_norm, model_.hidden);
        if (tensors_.find("output_norm.gamma") != nullptr)
            read_norm(model_.output_norm, "output_norm", config_.blocks[config_.num_blocks - 1].norm, model_.hidden);
        tensors_.check_all_read();
        finish();
        return std::move(model_);
    }

   private:
    void finish() {
        model_.packed_size = packer_.size();
        if (before_.data == nullptr) {
            model_.packed = packer_.finish(pool_);
            model_.packed_data = model_.packed.data();
            return;
        }
        if (before_.size != packer_.size() || reinterpret_cast<uintptr_t>(before_.data) % 64 != 0)
            throw std::invalid_argument("the packed weights have " + std::to_string(before_.size) + " bytes, wanted " +
                                        std::to_string(packer_.size()) + " from a multiple of 64");
        packer_.take(before_.data);
        model_.packed_data = before_.data;
    }

    void read_config() {
        model_.hidden = multiple_of_16("the hidden size", config_.hidden_size);
        if (config_.num_blocks < 1 || config_.num_blocks > 1000) throw Refusal("there are no layers");
        if (config_.bfloat16 != 0 && kernels_.product_bf16 == nullptr)
            throw Refusal(std::string("products in bfloat16 need a processor with AVX512-BF16; this is ") + kernels_.name);
        model_.first_value_twice = config_.first_value_twice != 0;
        model_.max_tokens = config_.max_tokens;
        packer_.vector(model_.ones, nullptr, model_.hidden, 1.0f);
    }

    void read_embeddings() {
        const embedrt_embeddings& numbers = config_.embeddings;
        const int size = model_.embedding_size = multiple_of_16("the embeddings' width", numbers.size);
        model_.embedding_scale = numbers.scale;
        model_.num_positions = numbers.num_positions;
        model_.pad_position = numbers.pad_position;
        if (model_.num_positions < 0 || model_.pad_position < -1 ||
            (model_.num_positions > 0 && model_.num_positions <= model_.first_position()))
            throw Refusal("the positions do not fit their table");
        read_token_table(size);
        if (model_.num_positions > 0)
            model_.position = tensors_.floats("embeddings.position", model_.num_positions, size);
        if (numbers.has_token_types != 0) {
            const embedrt_tensor& type = tensors_.get("embeddings.token_type");
            if (type.rows < 1) throw Refusal("the table of token types is empty");
            Tensors::check(type, EMBEDRT_FLOAT32, type.rows, size);
            model_.type = static_cast<const float*>(type.data);
        }
        read_norm(model_.embeddings_norm, "embeddings.norm", numbers.norm, size);
        if (size == model_.hidden) return;
        single(model_.projection, "embeddings.projection", size, model_.hidden, CENTRE);
        const float* restore = tensors_.floats("embeddings.projection.restore", 1, model_.hidden, true);
        packer_.vector(model_.projection_restore, restore, model_.hidden, 1.0f);
    }

    void read_token_table(int size) {
        const embedrt_tensor& word = tensors_.get("embeddings.word");
        if (word.rows < 1 || word.rows > INT32_MAX) throw Refusal("the token table is empty or too long");
        model_.vocabulary = static_cast<int>(word.rows);
        if (tensors_.find("embeddings.word.scale") != nullptr) {
            Tensors::check(word, EMBEDRT_INT8, word.rows, size);
            model_.word_i8 = static_cast<const int8_t*>(word.data);
            model_.word_scale = tensors_.floats("embeddings.word.scale", word.rows, 1);
        } else {
            model_.word_f32 = tensors_.floats("embeddings.word", word.rows, size);
        }
        if (const embedrt_tensor* rest = tensors_.find("embeddings.word_rest")) read_rests(*rest, word.rows, size);
    }

    void read_rests(const embedrt_tensor& rest, int64_t vocabulary, int size) {
        Tensors::check(rest, EMBEDRT_INT8, rest.rows, size);
        model_.rest = static_cast<const int8_t*>(rest.data);
        model_.rest_scale = tensors_.floats("embeddings.word_rest.scale", rest.rows, 1);
        const embedrt_tensor& row = tensors_.get("embeddings.word_rest.row");
        Tensors::check(row, EMBEDRT_INT32, vocabulary, 1);
        model_.rest_row = static_cast<const int32_t*>(row.data);
        for (int64_t id = 0; id < vocabulary; id++)
            if (model_.rest_row[id] < 0 || model_.rest_row[id] >= rest.rows)
                throw Refusal("embeddings.word_rest.row names row " + std::to_string(model_.rest_row[id]) + " of " +
                              std::to_string(rest.rows));
    }

    void read_blocks() {
        const auto count = static_cast<size_t>(config_.num_blocks);
        std::map<int, size_t> first;  // block that had these weights first
        model_.weights.reserve(count), model_.rotaries.reserve(count), model_.biases.reserve(2);
        std::vector<const Weights*> weights(count);
        for (size_t i = 0; i < count; i++) {
            const embedrt_block& numbers = config_.blocks[i];
            model_.blocks.push_back(read_numbers(numbers));
            const auto [found, fresh] = first.insert({numbers.weights, i});
            if (fresh) {
                Weights& mine = model_.weights.emplace_back();
                read_weights(mine, model_.blocks[i], numbers, "layers." + std::to_string(numbers.weights) + ".");
                weights[i] = &mine;
            } else if (pack_alike(numbers, config_.blocks[found->second])) {
                weights[i] = weights[found->second];
            } else {
                throw Refusal("blocks of different numbers share the weights of layer " + std::to_string(numbers.weights));
            }
            model_.blocks[i].weights = weights[i];
        }
    }

    Block read_numbers(const embedrt_block& numbers) {
        Block block;
        block.norms = numbers.norms;
        if (numbers.norms < EMBEDRT_POST || numbers.norms > EMBEDRT_SANDWICH) throw Refusal("norms have no such place");
        if (numbers.feed_forward.activation < EMBEDRT_GELU_ERF || numbers.feed_forward.activation > EMBEDRT_QUICK_GELU)
            throw Refusal("the activation is not one of gelu (erf, tanh or quick), relu and silu");
        block.activation = static_cast<Activation>(numbers.feed_forward.activation);
        if (is_lopsided(numbers.feed_forward)) block.down_zero = config_.activation_zero;
        block.looks = read_looks(numbers.attention);
        return block;
    }

    Looks read_looks(const embedrt_attention& numbers) {
        Looks looks;
        looks.heads = numbers.num_heads;
        looks.kv_heads = numbers.num_kv_heads;
        looks.head_size = numbers.head_size;
        if (looks.heads < 1 || looks.kv_heads < 1 || looks.heads % looks.kv_heads != 0)
            throw Refusal("the heads of keys do not divide those of queries");
        if (looks.head_size < LEAST_HEAD || looks.head_size > MOST_HEAD || looks.head_size % 16 != 0)
            throw Refusal("heads are " + std::to_string(looks.head_size) + " wide, the kernels take multiples of 16 from " +
                          std::to_string(LEAST_HEAD) + " to " + std::to_string(MOST_HEAD));
        if (int64_t{looks.heads} * looks.head_size > MAX_WIDTH) throw Refusal("the heads are too wide together");
        if (!(numbers.scale > 0)) throw Refusal("the attention's scale is not over 0");
        if (numbers.window >= 0) looks.before = looks.after = numbers.window;
        if (numbers.causal != 0) looks.after = 0;
        looks.interleaved = numbers.rotary_interleaved != 0;
        if (numbers.rotary != nullptr) looks.rotary = find_rotary(numbers.rotary, looks.head_size);
        if (numbers.distance_bias != EMBEDRT_NO_BIAS) looks.bias = find_bias(numbers.distance_bias, looks.heads);
        return looks;
    }

    int find_rotary(const std::string& name, int head_size) {
        for (size_t i = 0; i < model_.rotaries.size(); i++)
            if (model_.rotaries[i].name == name) {
                check_rotary(model_.rotaries[i], head_size);
                return static_cast<int>(i);
            }
        Rotary& rotary = model_.rotaries.emplace_back();
        rotary.name = name;
        const std::string tensor = "rotary." + name + ".frequencies";
        const int64_t pairs = tensors_.get(tensor).columns;
        const float* frequencies = tensors_.floats(tensor, 1, pairs);
        rotary.pairs = static_cast<int>(pairs < MAX_WIDTH ? pairs : MAX_WIDTH);
        check_rotary(rotary, head_size);
        packer_.vector(rotary.frequencies, frequencies, rotary.pairs, 0.0f);
        return static_cast<int>(model_.rotaries.size() - 1);
    }

    static void check_rotary(const Rotary& rotary, int head_size) {
        if (rotary.pairs < 1 || 2 * rotary.pairs > head_size)
            throw Refusal("rotary." + rotary.name + ".frequencies turns " + std::to_string(2 * rotary.pairs) +
                          " of a head's " + std::to_string(head_size) + " numbers");
    }

    int find_bias(int kind, int heads) {
        for (size_t i = 0; i < model_.biases.size(); i++)
            if (model_.biases[i].kind == kind) {
                if (model_.biases[i].heads != heads) throw Refusal("the biases of the distances are of another number of heads");
                return static_cast<int>(i);
            }
        if (kind != EMBEDRT_TABLE && kind != EMBEDRT_SLOPES) throw Refusal("there are no such biases of distances");
        DistanceBias& bias = model_.biases.emplace_back();
        bias.kind = kind;
        bias.heads = heads;
        const bool slopes = kind == EMBEDRT_SLOPES;
        const std::string name = slopes ? "attention.slopes" : "attention.distance_bias";
        const int64_t columns = tensors_.get(name).columns;
        if (!slopes && (columns % 2 != 1 || columns > 2 * MAX_WIDTH))
            throw Refusal(name + " has " + std::to_string(columns) + " distances, wanted as many on either side of 0");
        const float* numbers = slopes ? tensors_.floats(name, 1, heads) : tensors_.floats(name, heads, columns);
        bias.reach = slopes ? 0 : static_cast<int>(columns / 2);
        packer_.vector(bias.numbers, numbers, slopes ? heads : heads * static_cast<int>(columns), 0.0f);
        return static_cast<int>(model_.biases.size() - 1);
    }

    void read_weights(Weights& weights, const Block& block, const embedrt_block& numbers, const std::string& name) {
        const Looks& looks = block.looks;
        const int hidden = model_.hidden;
        const embedrt_norm& head_norm = numbers.attention.head_norm;
        const bool normed = head_norm.kind != EMBEDRT_NO_NORM;
        const float factor = query_factor(numbers.attention.scale);
        packer_.matrix(weights.qkv, hidden, qkv_sources(name, looks, normed ? 1.0f : factor), CENTRE, float_kind());
        read_norm(weights.query_norm, name + "query_norm", head_norm, looks.head_size, factor);
        read_norm(weights.key_norm, name + "key_norm", head_norm, looks.head_size);
        single(weights.output, name + "attention_output", looks.queries(), hidden, CENTRE);
        read_ffn(weights, block, numbers.feed_forward, name);
        if (numbers.norm.kind == EMBEDRT_NO_NORM) throw Refusal("a block has no norms");
        if (numbers.norms == EMBEDRT_POST || numbers.attention_is_normed != 0)
            read_norm(weights.attention_norm, name + "attention_norm", numbers.norm, hidden);
        read_norm(weights.ffn_norm, name + "ffn_norm", numbers.norm, hidden);
        if (numbers.norms != EMBEDRT_SANDWICH) return;
        read_norm(weights.attention_after_norm, name + "attention_after_norm", numbers.norm, hidden);
        read_norm(weights.ffn_after_norm, name + "ffn_after_norm", numbers.norm, hidden);
    }

    // Q, K and V, each of its own tensors, or side by side in one.
    std::vector<Source> qkv_sources(const std::string& name, const Looks& looks, float factor) const {
        const int hidden = model_.hidden, width = looks.width();
        const struct {
            const char* name;
            int first, columns;
            float factor;
        } parts[] = {{"query", 0, looks.queries(), factor},
                     {"key", looks.queries(), looks.keys(), 1.0f},
                     {"value", looks.queries() + looks.keys(), looks.keys(), 1.0f}};
        const bool one_bias = tensors_.find(name + "qkv.bias") != nullptr;
        const bool one_weight = tensors_.find(name + "qkv.weight") != nullptr;
        const float* biases = one_bias ? tensors_.floats(name + "qkv.bias", 1, width) : nullptr;
        const float* weight = one_weight ? tensors_.floats(name + "qkv.weight", hidden, width) : nullptr;
        std::vector<Source> sources;
        for (const auto& part : parts) {
            const float* bias = one_bias ? biases + part.first
                                         : tensors_.floats(name + part.name + ".bias", 1, part.columns, true);
            sources.push_back(one_weight ? Source{weight + part.first, nullptr, bias, part.columns, part.factor, width}
                                         : source(name + part.name, hidden, part.columns, bias, part.factor));
        }
        return same_kind(std::move(sources));
    }

    // What products become that the file has in float32: half the work in bfloat16, and far nearer than 8 bits.
    Kind float_kind() const { return kernels_.product_bf16 ? Kind::bfloat16 : Kind::float32; }

    void read_ffn(Weights& weights, const Block& block, const embedrt_feed_forward& numbers, const std::string& name) {
        const int hidden = model_.hidden;
        const int main = multiple_of_16("the FFN's width (" + name + "ffn_up)",
                                        tensors_.get(name + "ffn_up.weight").columns);
        const std::string outlying = name + "ffn_up_outlier";
        int count = 0;
        if (const embedrt_tensor* weight = tensors_.find(outlying + ".weight")) {
            count = multiple_of_16("the number of outlying neurons (" + outlying + ")", weight->columns);
            const float* few = tensors_.floats(name + "ffn_down_outlier.weight", count, hidden);
            const float* bias = tensors_.floats(name + "ffn_down.bias", 1, hidden, true);
            packer_.matrix(weights.few, count, {Source{few, nullptr, bias, hidden, 1.0f}}, 0);
        }
        if (main + count != numbers.size)
            throw Refusal("tensor " + name + "ffn_up.weight has " + std::to_string(main) + " columns, wanted " +
                          std::to_string(numbers.size - count));
        const auto neurons = [&](const std::string& what) {
            std::vector<Source> sources = {with_bias(name + what, hidden, main)};
            if (count > 0) sources.push_back(with_bias(name + what + "_outlier", hidden, count));
            return sources;
        };
        std::vector<Source> up = neurons("ffn_up"), gate = numbers.gated != 0 ? neurons("ffn_gate") : std::vector<Source>();
        for (const auto* sources : {&up, &gate})
            for (const Source& one : *sources)
                if ((one.scale == nullptr) != (up.front().scale == nullptr)) refuse_mixture();
        packer_.matrix(weights.up, hidden, std::move(up), CENTRE, float_kind(), std::move(gate));
        single(weights.down, name + "ffn_down", main, hidden, block.down_zero);
    }

    Source source(const std::string& name, int k, int n, const float* bias, float factor = 1.0f) const {
        const embedrt_tensor& weight = tensors_.get(name + ".weight");
        const float* scale = tensors_.floats(name + ".scale", 1, n, true);
        Tensors::check(weight, scale ? EMBEDRT_INT8 : EMBEDRT_FLOAT32, k, n);
        return {weight.data, scale, bias, n, factor};
    }
    Source with_bias(const std::string& name, int k, int n) const {
        return source(name, k, n, tensors_.floats(name + ".bias", 1, n, true));
    }
    void single(Matrix& matrix, const std::string& name, int k, int n, int zero) {
        packer_.matrix(matrix, k, {with_bias(name, k, n)}, zero, float_kind());
    }
    [[noreturn]] static void refuse_mixture() {
        throw Refusal("weights that read the same rows are partly int8 and partly float32");
    }
    static std::vector<Source> same_kind(std::vector<Source> sources) {
        for (const Source& one : sources)
            if ((one.scale == nullptr) != (sources.front().scale == nullptr)) refuse_mixture();
        return sources;
    }
    void read_norm(Norm& norm, const std::string& name, const embedrt_norm& numbers, int width, float factor = 1.0f) {
        norm.kind = numbers.kind;
        norm.epsilon = numbers.epsilon;
        norm.width = width;
        if (!norm) return;
        if (norm.kind < 0 || norm.kind > EMBEDRT_RMS_NORM) throw Refusal("there is no such norm for " + name);
        packer_.vector(norm.gamma, tensors_.floats(name + ".gamma", 1, width), width, 1.0f, factor);
        packer_.vector(norm.beta, tensors_.floats(name + ".beta", 1, width, true), width, 0.0f, factor);
        packer_.vector(norm.restore, tensors_.floats(name + ".restore", 1, width, true), width, 1.0f);
    }

    const embedrt_config& config_;
    const Tensors& tensors_;
    PackedBefore before_;
    const Kernels& kernels_;
    Packer packer_;
    Pool& pool_;
    Model model_;
};

}  // namespace

float DistanceBias::at(int head, int distance) const {
    if (kind == EMBEDRT_SLOPES) return -LOG2_E * numbers[head] * static_cast<float>(std::abs(distance));
    const int near = distance < -reach ? -reach : distance > reach ? reach : distance;
    return LOG2_E * numbers[static_cast<size_t>(head) * static_cast<size_t>(2 * reach + 1) + static_cast<size_t>(near + reach)];
}

Model load_model(const embedrt_config& config, const embedrt_tensor* tensors, size_t num_tensors, PackedBefore before,
                 const Kernels& kernels, Pool& pool) {
    const Tensors by_name(tensors, num_tensors);
    return Loader(config, by_name, before, kernels, pool).load();
}

}  // namespace embedrt
