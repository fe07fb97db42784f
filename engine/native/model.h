// The weights of an encoder, checked and packed for one set of kernels.
#pragma once

#include <string>
#include <vector>

#include "embedrt_native.h"
#include "kernels.h"
#include "memory.h"
#include "pool.h"

namespace embedrt {

constexpr float LOG2_E = 1.44269504f;

// What Q is multiplied with, so that the softmax is in powers of two. From the scale's inverse: that of 1 / sqrt(head size)
// is then the root as float32 has it.
inline float query_factor(double scale) { return LOG2_E / static_cast<float>(1.0 / scale); }

enum class Kind { int8, float32, bfloat16 };

// One product's weight: int8, float32 where the bundle keeps it wide, or bfloat16 where float32 is to be rounded.
struct Matrix {
    Kind kind = Kind::int8;
    bool paired = false;  // with a gate (kernels.h)
    PackedI8 i8;
    PackedF32 f32;
    PackedBf16 bf16;
    int k() const { return i8.k; }  // all three have the same
    int n() const { return i8.n; }
    int panels(const Kernels& kernels) const {
        const int columns = paired ? kernels.panel_columns / 2 : kernels.panel_columns;
        return (n() + columns - 1) / columns;
    }
    size_t bytes() const {
        const size_t each = kind == Kind::int8 ? 1 : kind == Kind::bfloat16 ? 2 : 4;
        return each * static_cast<size_t>(k()) * static_cast<size_t>(paired ? 2 * n() : n());
    }
    // Bytes of a row as this product reads it.
    size_t row_bytes(const Kernels& kernels) const {
        if (kind == Kind::int8) return kernels.row_bytes(k());
        return kind == Kind::bfloat16 ? kernels.bf16_bytes(k()) : static_cast<size_t>(k()) * sizeof(float);
    }
};

struct Norm {
    int kind = EMBEDRT_NO_NORM;
    int width = 0;
    float epsilon = 0;
    const float* gamma = nullptr;
    const float* beta = nullptr;
    const float* restore = nullptr;  // ones where the file has none

    explicit operator bool() const { return kind != EMBEDRT_NO_NORM; }
    void operator()(const Kernels& kernels, const float* x, float* out) const {
        (kind == EMBEDRT_RMS_NORM ? kernels.rms_norm : kernels.layer_norm)(x, width, gamma, beta, epsilon, out);
    }
};

// Of layers.{i}.
struct Weights {
    Matrix qkv;     // Q | K | V; Q times its factor, unless its norm has that
    Matrix output;  // of the attention
    Matrix up;      // the main neurons, then the outlying ones; paired where there is a gate
    Matrix down;    // of the main neurons
    Matrix few;     // of the outlying ones, wide; k = 0 where there are none
    Norm attention_norm, attention_after_norm, ffn_norm, ffn_after_norm, query_norm, key_norm;
};

// How a block's tokens look at each other.
struct Looks {
    int heads = 0, kv_heads = 0, head_size = 0;
    int before = 1 << 30, after = 1 << 30;  // keys that a query sees on either side
    int rotary = -1;                        // index, or none
    bool interleaved = false;
    int bias = -1;  // index, or none

    int queries() const { return heads * head_size; }            // columns
    int keys() const { return kv_heads * head_size; }
    int width() const { return queries() + 2 * keys(); }
    // Whether Q and K are normed or rotated before attention reads them.
    bool is_unfinished(const Weights& weights) const { return rotary >= 0 || weights.query_norm; }
};

struct Block {
    const Weights* weights = nullptr;
    int norms = EMBEDRT_POST;
    Looks looks;
    Activation activation = Activation::gelu_erf;
    int down_zero = CENTRE;  // zero point of the rows that `down` reads
};

struct Rotary {
    std::string name;
    int pairs = 0;
    const float* frequencies = nullptr;
};

// Biases of the scores by distance: a table (heads, 2 reach + 1) from -reach to reach, or slopes (heads,).
struct DistanceBias {
    int kind = EMBEDRT_NO_BIAS, heads = 0, reach = 0;
    const float* numbers = nullptr;
    // of the distance, times log2(e)
    float at(int head, int distance) const;
};

struct Model {
    int hidden = 0, embedding_size = 0, vocabulary = 0, num_positions = 0, pad_position = -1, max_tokens = -1;
    float embedding_scale = 1;
    bool first_value_twice = false;   // whether V of each text's first token has a second row
    const int8_t* word_i8 = nullptr;  // (V, E), the file's own rows, with word_scale (V,)
    const float* word_f32 = nullptr;
    const float* word_scale = nullptr;
    const int8_t* rest = nullptr;  // (R, E), what the first row leaves of some tokens: row rest_row[id], if it is not 0
    const float* rest_scale = nullptr;
    const int32_t* rest_row = nullptr;
    const float* position = nullptr;  // (num_positions, E), or null
    const float* type = nullptr;      // (num_types, E), or null
    int num_types = 0;
    Matrix patch;                     // of an encoder of pictures, which has no table of tokens
    int patch_rows = 0;               // rows of a picture; 0: it reads tokens
    Matrix projection;                // k = 0 where there is none
    Norm embeddings_norm, final_norm;
    Norm output_norm;                          // the last block's second, where its weights are others' too
    const float* projection_restore = nullptr;  // (H,), as a norm's
    const float* ones = nullptr;                // (H,)
    std::vector<Weights> weights;
    std::vector<Block> blocks;
    std::vector<Rotary> rotaries;
    std::vector<DistanceBias> biases;
    Array<char> packed;  // what the above point into, where this process packed it
    size_t packed_size = 0;
    const char* packed_data = nullptr;

    int first_position() const { return pad_position < 0 ? 0 : pad_position + 1; }
    Embedding word(size_t id) const;  // without position and type
};

// Weights that were packed before, to be used where they lie; null: none.
struct PackedBefore {
    const char* data = nullptr;
    size_t size = 0;
};

// Checks names, types and shapes, and packs, or takes what was packed before. Throws Refusal where the model is not of
// this executor's kind, std::invalid_argument where `before` has not the size that packing would give.
Model load_model(const embedrt_config& config, const embedrt_tensor* tensors, size_t num_tensors, PackedBefore before,
                 const Kernels& kernels, Pool& pool);

// One weight packed for `kernels`: int8 if `scale` is given, else float32. `storage` holds what the matrix points to.
// `paired`: the first half of its columns is the gate of the other.
Matrix pack_matrix(const Kernels& kernels, int k, int n, int zero, const void* weight, const float* scale,
                   const float* bias, bool paired, Array<char>& storage, Kind float_kind = Kind::float32);

}  // namespace embedrt
