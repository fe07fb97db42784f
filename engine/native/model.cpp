#include "model.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <stdexcept>

#include "refusal.h"
#include "weights.h"

namespace embedrt {
namespace {

constexpr int LEAST_HEAD = 32, MOST_HEAD = 256;

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
        : config_(config), tensors_(tensors), before_(before), kernels_(kernels), packer_(kernels), pool_(pool),
          weights_(tensors, kernels, packer_, multiple_of_16("the hidden size", config.hidden_size)) {
        model_.hidden = config.hidden_size;
    }

    Model load() {
        read_config();
        read_embeddings();
        read_blocks();
        weights_.norm(model_.final_norm, "final_norm", config_.final_norm, model_.hidden);
        if (config_.num_blocks > 0 && tensors_.find("output_norm.gamma") != nullptr)
            weights_.norm(model_.output_norm, "output_norm", config_.blocks[config_.num_blocks - 1].norm, model_.hidden);
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

    bool is_table() const {
        const embedrt_embeddings& numbers = config_.embeddings;
        return config_.patches.size == 0 && numbers.size == config_.hidden_size && numbers.num_positions == 0 &&
               numbers.has_token_types == 0 && numbers.norm.kind == EMBEDRT_NO_NORM &&
               config_.final_norm.kind == EMBEDRT_NO_NORM;
    }

    void read_config() {
        if (config_.num_blocks < 0 || config_.num_blocks > 1000) throw Refusal("it has too many layers");
        if (config_.num_blocks == 0 && !is_table()) throw Refusal("there are no layers behind more than a table of tokens");
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
        if (config_.patches.size > 0)
            read_patches(config_.patches, numbers);
        else
            read_token_table(size);
        if (model_.num_positions > 0)
            model_.position = tensors_.floats("embeddings.position", model_.num_positions, size);
        if (numbers.has_token_types != 0) {
            const embedrt_tensor& type = tensors_.get("embeddings.token_type");
            if (type.rows < 1) throw Refusal("the table of token types is empty");
            Tensors::check(type, EMBEDRT_FLOAT32, type.rows, size);
            model_.type = static_cast<const float*>(type.data);
            model_.num_types = static_cast<int>(std::min<int64_t>(type.rows, 2));
        }
        weights_.norm(model_.embeddings_norm, "embeddings.norm", numbers.norm, size);
        if (size == model_.hidden) return;
        weights_.product(model_.projection, "embeddings.projection", size, model_.hidden, CENTRE);
        const float* restore = tensors_.floats("embeddings.projection.restore", 1, model_.hidden, true);
        packer_.vector(model_.projection_restore, restore, model_.hidden, 1.0f);
    }

    // Positions are a row for each of a picture's, and whatever all pictures have in common is in them.
    void read_patches(const embedrt_patches& patches, const embedrt_embeddings& numbers) {
        const bool plain = numbers.pad_position < 0 && numbers.has_token_types == 0 && numbers.size == model_.hidden;
        if (!plain || patches.rows < 1 || numbers.num_positions != patches.rows)
            throw Refusal("the embeddings of pictures are positions alone, one for each row");
        model_.patch_rows = patches.rows;
        const int size = multiple_of_16("a patch's numbers", patches.size);
        weights_.product(model_.patch, "embeddings.patch", size, model_.hidden, CENTRE);
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
                weights_.block(mine, model_.blocks[i], numbers, "layers." + std::to_string(numbers.weights) + ".");
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

    const embedrt_config& config_;
    const Tensors& tensors_;
    PackedBefore before_;
    const Kernels& kernels_;
    Packer packer_;
    Pool& pool_;
    WeightReader weights_;
    Model model_;
};

}  // namespace

float DistanceBias::at(int head, int distance) const {
    if (kind == EMBEDRT_SLOPES) return -LOG2_E * numbers[head] * static_cast<float>(std::abs(distance));
    const int near = distance < -reach ? -reach : distance > reach ? reach : distance;
    return LOG2_E * numbers[static_cast<size_t>(head) * static_cast<size_t>(2 * reach + 1) + static_cast<size_t>(near + reach)];
}

Embedding Model::word(size_t id) const {
    const auto size = static_cast<size_t>(embedding_size);
    Embedding e;
    e.scale = embedding_scale;
    if (word_i8) {
        e.word_i8 = word_i8 + id * size;
        e.scale *= word_scale[id];
    } else {
        e.word_f32 = word_f32 + id * size;
    }
    if (rest && rest_row[id] > 0) {
        const auto row = static_cast<size_t>(rest_row[id]);
        e.rest = rest + row * size;
        e.rest_scale = rest_scale[row] * embedding_scale;
    }
    return e;
}

Model load_model(const embedrt_config& config, const embedrt_tensor* tensors, size_t num_tensors, PackedBefore before,
                 const Kernels& kernels, Pool& pool) {
    const Tensors by_name(tensors, num_tensors);
    return Loader(config, by_name, before, kernels, pool).load();
}

}  // namespace embedrt
