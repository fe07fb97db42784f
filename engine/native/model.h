// The weights of an encoder, checked and packed for one set of kernels.
#pragma once

#include <string>
#include <vector>

#include "embedrt_native.h"
#include "kernels.h"
#include "memory.h"
#include "pool.h"

namespace embedrt {

enum class Kind { int8, float32, bfloat16 };

// One product's weight: int8, float32 where the bundle keeps it wide, or bfloat16 where float32 is to be rounded.
struct Matrix {
    Kind kind = Kind::int8;
    PackedI8 i8;
    PackedF32 f32;
    PackedBf16 bf16;
    int k() const { return i8.k; }  // all three have the same
    int n() const { return i8.n; }
    // Bytes of a row as this product reads it.
    size_t row_bytes(const Kernels& kernels) const {
        if (kind == Kind::int8) return kernels.row_bytes(k());
        return static_cast<size_t>(k()) * (kind == Kind::float32 ? sizeof(float) : sizeof(uint16_t));
    }
};

struct Norm {
    const float* gamma = nullptr;
    const float* beta = nullptr;
    const float* restore = nullptr;  // ones where the file has none
};

struct Layer {
    Matrix qkv;     // Q | K | V; Q times log2(e) / sqrt(head size)
    Matrix output;  // of the attention
    Matrix up;      // the main neurons, then the outlying ones
    Matrix down;    // of the main neurons
    Matrix rest;    // of the outlying ones, wide; k = 0 where there are none
    Norm attention_norm, ffn_norm;
};

struct Model {
    int hidden = 0, heads = 0, head_size = 0, intermediate = 0, vocabulary = 0, max_positions = 0, pad_position = -1;
    float epsilon = 0;
    int activation_zero = 0;
    bool first_value_twice = false;  // whether V of each text's first token has a second row
    Activation activation = Activation::gelu_erf;
    const int8_t* word_i8 = nullptr;  // (V, H), the file's own rows, with word_scale (V,)
    const float* word_f32 = nullptr;
    const float* word_scale = nullptr;
    const float* position = nullptr;  // (max_positions, H)
    const float* type = nullptr;      // row 0, or null
    Norm embeddings_norm;
    std::vector<Layer> layers;
    Array<char> packed;  // what the layers point into, where this process packed it
    size_t packed_size = 0;
    const char* packed_data = nullptr;

    int first_position() const { return pad_position < 0 ? 0 : pad_position + 1; }
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
Matrix pack_matrix(const Kernels& kernels, int k, int n, int zero, const void* weight, const float* scale,
                   const float* bias, Array<char>& storage);

}  // namespace embedrt
