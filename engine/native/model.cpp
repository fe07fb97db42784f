#include "model.h"

#include <cmath>
#include <cstdint>
#include <map>
#include <stdexcept>

#include "pack.h"
#include "refusal.h"

namespace embedrt {
namespace {

constexpr int MAX_WIDTH = 32768;                   // 255 * 128 * K must fit in 31 bits

// The tensors by name, each fetched with the type and shape that it must have.
class Tensors {
   public:
    Tensors(const embedrt_tensor* tensors, size_t count) {
        for (size_t i = 0; i < count; i++)
            if (!by_name_.insert({tensors[i].name, {&tensors[i]}}).second)
                throw Refusal(std::string("the bundle has two tensors called ") + tensors[i].name);
    }
    const embedrt_tensor* find(const std::string& name) const {
        const auto found = by_name_.find(name);
        if (found == by_name_.end()) return nullptr;
        found->second.read = true;
        return found->second.tensor;
    }
    // A weight that nothing reads means that the model is another one than its numbers say: fewer layers, say.
    void check_all_read() const {
        std::string names;
        size_t count = 0;
        for (const auto& [name, known] : by_name_)
            if (!known.read && ++count <= NAMED) names += (count > 1 ? ", " : "") + name;
        if (count == 0) return;
        if (count > NAMED) names += " and " + std::to_string(count - NAMED) + " more";
        throw Refusal("nothing reads these tensors of the bundle: " + names);
    }
    const embedrt_tensor& get(const std::string& name) const {
        const embedrt_tensor* found = find(name);
        if (found == nullptr) throw Refusal("the bundle has no tensor " + name);
        return *found;
    }
    // float32 of this shape; null if it is not there and may be missing.
    const float* floats(const std::string& name, int64_t rows, int64_t columns, bool optional = false) const {
        const embedrt_tensor* found = optional ? find(name) : &get(name);
        if (found == nullptr) return nullptr;
        check(*found, EMBEDRT_FLOAT32, rows, columns);
        return static_cast<const float*>(found->data);
    }
    static void check(const embedrt_tensor& tensor, int dtype, int64_t rows, int64_t columns) {
        if (tensor.dtype == dtype && tensor.rows == rows && tensor.columns == columns) return;
        const auto shape = [](int64_t r, int64_t c) { return std::to_string(r) + " x " + std::to_string(c); };
        const auto type = [](int d) { return d == EMBEDRT_INT8 ? " int8" : " float32"; };
        throw Refusal(std::string("tensor ") + tensor.name + " is " + shape(tensor.rows, tensor.columns) +
                      type(tensor.dtype) + ", wanted " + shape(rows, columns) + type(dtype));
    }

   private:
    static constexpr size_t NAMED = 4;  // in a message
    struct Known {
        const embedrt_tensor* tensor;
        mutable bool read = false;
    };
    std::map<std::string, Known> by_name_;
};

int multiple_of_16(const std::string& what, int64_t value) {
    if (value < 16 || value > MAX_WIDTH || value % 16 != 0)
        throw Refusal(what + " is " + std::to_string(value) + ", the kernels take multiples of 16 up to " +
                      std::to_string(MAX_WIDTH));
    return static_cast<int>(value);
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
        model_.layers.resize(static_cast<size_t>(config_.num_layers));
        for (int i = 0; i < config_.num_layers; i++)
            read_layer(model_.layers[static_cast<size_t>(i)], "layers." + std::to_string(i) + ".");
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
        if (config_.num_layers < 1 || config_.num_layers > 1000) throw Refusal("there are no layers");
        if (config_.num_heads < 1 || model_.hidden % config_.num_heads != 0)
            throw Refusal("the heads do not divide the hidden size");
        model_.heads = config_.num_heads;
        model_.head_size = model_.hidden / model_.heads;
        if (model_.head_size < 32 || model_.head_size > 128 || model_.head_size % 16 != 0)
            throw Refusal("heads are " + std::to_string(model_.head_size) +
                          " wide, the kernels take multiples of 16 from 32 to 128");
        if (config_.activation < EMBEDRT_GELU_ERF || config_.activation > EMBEDRT_RELU)
            throw Refusal("the activation is not one of gelu (erf or tanh) and relu");
        model_.activation = static_cast<Activation>(config_.activation);
        model_.epsilon = config_.layer_norm_epsilon;
        if (config_.bfloat16 != 0 && kernels_.product_bf16 == nullptr)
            throw Refusal(std::string("products in bfloat16 need a processor with AVX512-BF16; this is ") + kernels_.name);
        model_.first_value_twice = config_.first_value_twice != 0;
        model_.activation_zero = config_.activation_zero;
        model_.max_positions = config_.max_positions;
        model_.pad_position = config_.pad_position;
        if (model_.max_positions <= model_.first_position() || model_.pad_position < -1)
            throw Refusal("the positions do not fit their table");
    }

    void read_embeddings() {
        const embedrt_tensor& word = tensors_.get("embeddings.word");
        if (word.rows < 1 || word.rows > INT32_MAX) throw Refusal("the token table is empty or too long");
        model_.vocabulary = static_cast<int>(word.rows);
        if (tensors_.find("embeddings.word.scale") != nullptr) {
            Tensors::check(word, EMBEDRT_INT8, word.rows, model_.hidden);
            model_.word_i8 = static_cast<const int8_t*>(word.data);
            model_.word_scale = tensors_.floats("embeddings.word.scale", word.rows, 1);
        } else {
            model_.word_f32 = tensors_.floats("embeddings.word", word.rows, model_.hidden);
        }
        model_.position = tensors_.floats("embeddings.position", model_.max_positions, model_.hidden);
        if (const embedrt_tensor* type = tensors_.find("embeddings.token_type")) {
            if (type->rows < 1) throw Refusal("the table of token types is empty");
            Tensors::check(*type, EMBEDRT_FLOAT32, type->rows, model_.hidden);
            model_.type = static_cast<const float*>(type->data);
        }
        read_norm(model_.embeddings_norm, "embeddings.norm");
    }

    void read_layer(Layer& layer, const std::string& name) {
        const int hidden = model_.hidden;
        const float* bias = tensors_.floats(name + "qkv.bias", 1, 3 * hidden);
        const float q_factor = 1.44269504f / std::sqrt(static_cast<float>(model_.head_size));
        packer_.matrix(layer.qkv, hidden, qkv_sources(name, bias, q_factor), CENTRE, float_kind());
        single(layer.output, name + "attention_output", hidden, hidden, CENTRE);
        read_ffn(layer, name);
        read_norm(layer.attention_norm, name + "attention_norm");
        read_norm(layer.ffn_norm, name + "ffn_norm");
    }

    // Q, K and V, each of its own tensor, or side by side in one.
    std::vector<Source> qkv_sources(const std::string& name, const float* bias, float q_factor) const {
        const int hidden = model_.hidden;
        if (tensors_.find(name + "qkv.weight") == nullptr)
            return same_kind({source(name + "query", hidden, hidden, bias, q_factor),
                              source(name + "key", hidden, hidden, bias + hidden),
                              source(name + "value", hidden, hidden, bias + 2 * hidden)});
        const float* weight = tensors_.floats(name + "qkv.weight", hidden, 3 * hidden);
        std::vector<Source> sources;
        for (int part = 0; part < 3; part++)
            sources.push_back({weight + part * hidden, nullptr, bias + part * hidden, hidden,
                               part == 0 ? q_factor : 1.0f, 3 * hidden});
        return sources;
    }

    // What products become that the file has in float32: half the work in bfloat16, and far nearer than 8 bits.
    Kind float_kind() const { return kernels_.product_bf16 ? Kind::bfloat16 : Kind::float32; }

    void read_ffn(Layer& layer, const std::string& name) {
        const int hidden = model_.hidden;
        const int main = multiple_of_16("the FFN's width (" + name + "ffn_up)",
                                        tensors_.get(name + "ffn_up.weight").columns);
        const std::string few = name + "ffn_up_outlier";
        std::vector<Source> up = {with_bias(name + "ffn_up", hidden, main)};
        if (const embedrt_tensor* weight = tensors_.find(few + ".weight")) {
            const int count = multiple_of_16("the number of outlying neurons (" + few + ")", weight->columns);
            up.push_back(with_bias(few, hidden, count));
            const float* rest = tensors_.floats(name + "ffn_down_outlier.weight", count, hidden);
            const float* bias = tensors_.floats(name + "ffn_down.bias", 1, hidden);
            packer_.matrix(layer.rest, count, {Source{rest, nullptr, bias, hidden, 1.0f}}, 0);
        }
        packer_.matrix(layer.up, hidden, same_kind(std::move(up)), CENTRE, float_kind());
        single(layer.down, name + "ffn_down", main, hidden, model_.activation_zero);
        model_.intermediate = layer.up.n() > model_.intermediate ? layer.up.n() : model_.intermediate;
    }

    Source source(const std::string& name, int k, int n, const float* bias, float factor = 1.0f) const {
        const embedrt_tensor& weight = tensors_.get(name + ".weight");
        const float* scale = tensors_.floats(name + ".scale", 1, n, true);
        Tensors::check(weight, scale ? EMBEDRT_INT8 : EMBEDRT_FLOAT32, k, n);
        return {weight.data, scale, bias, n, factor};
    }
    Source with_bias(const std::string& name, int k, int n) const {
        return source(name, k, n, tensors_.floats(name + ".bias", 1, n));
    }
    void single(Matrix& matrix, const std::string& name, int k, int n, int zero) {
        packer_.matrix(matrix, k, {with_bias(name, k, n)}, zero, float_kind());
    }
    static std::vector<Source> same_kind(std::vector<Source> sources) {
        for (const Source& one : sources)
            if ((one.scale == nullptr) != (sources.front().scale == nullptr))
                throw Refusal("weights that read the same rows are partly int8 and partly float32");
        return sources;
    }
    void read_norm(Norm& norm, const std::string& name) {
        packer_.vector(norm.gamma, tensors_.floats(name + ".gamma", 1, model_.hidden), model_.hidden);
        packer_.vector(norm.beta, tensors_.floats(name + ".beta", 1, model_.hidden), model_.hidden);
        packer_.vector(norm.restore, tensors_.floats(name + ".restore", 1, model_.hidden, true), model_.hidden);
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

Model load_model(const embedrt_config& config, const embedrt_tensor* tensors, size_t num_tensors, PackedBefore before,
                 const Kernels& kernels, Pool& pool) {
    const Tensors by_name(tensors, num_tensors);
    return Loader(config, by_name, before, kernels, pool).load();
}

}  // namespace embedrt
