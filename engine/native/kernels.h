// What one instruction set gives the encoder: a table of functions over plain arrays.
//
// Every function computes each row by itself and in an order that does not depend on how many rows or columns it was
// given, so that a row's bits do not depend on its batch or on how the work was split over threads.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace embedrt {

constexpr int CENTRE = 128;  // zero point of rows of both signs; an activation's are around a smaller one

enum class Activation : int { gelu_erf = 0, gelu_tanh = 1, relu = 2, silu = 3, quick_gelu = 4 };

// What happens to `value = rows @ weight` (N columns, scaled) before it leaves the registers.
enum class Epilogue : int {
    store = 0,       // out = value + bias
    activate = 1,    // out = activation(value + bias); columns from `main` on go to `few`
    residual = 2,    // out = value + bias + out * restore
    accumulate = 3,  // out = value + out
    narrow = 4,      // out_bf16 = value + bias, rounded; only where attention is in bfloat16
    gate = 5,        // out = activation(gate + its bias) * (up + its bias), of a paired weight; `few` as above
};

// Which bytes of an int8 product have no sign.
enum class Operands {
    neither,           // rows in 16 bits without their zero point, weights s8
    unsigned_rows,     // rows u8 with their zero point; the sums start at minus the zero point times the column's sum
    unsigned_weights,  // weights u8, 128 more than they are; rows s8 without their zero point
    signed_rows,       // as unsigned_rows, but 128 less, s8: the sums start at 128 minus the zero point times that sum
};

// int8 weight (K, N) in panels of `panel_columns`: data[panel][k / k_unit][column][k % k_unit]. The arrays reach to the
// end of the last panel; columns that do not exist are zero. A paired weight, a gate and what it lets through, has half a
// panel of the one and then half a panel of the other, and N is the columns of each.
struct PackedI8 {
    int k = 0, n = 0, depth = 0;  // depth: k as packed, with zeros to a multiple of what a tile takes
    const int8_t* data = nullptr;
    const float* scale = nullptr;
    const float* bias = nullptr;
    const int32_t* start = nullptr;  // what the sums begin with, of rows with their zero point
};

// float32 weight (K, N) in panels of `panel_columns`: data[panel][k][column].
struct PackedF32 {
    int k = 0, n = 0;
    const float* data = nullptr;
    const float* bias = nullptr;
};

// bfloat16 weight (K, N) in panels of 64: data[panel][k / 2][column][k % 2].
struct PackedBf16 {
    int k = 0, n = 0, depth = 0;
    const uint16_t* data = nullptr;
    const float* bias = nullptr;
};

// Bytes to fetch into the second cache with every step of a tile: at `data` and `second` behind it, then `step` on.
struct Ahead {
    const char* data;
    size_t second, step;
};

// Where a product's rows come from and go to; pointers are to the first of `num_rows` rows.
struct Product {
    const void* rows = nullptr;         // quantized rows, float32 or bfloat16
    size_t row_stride = 0;              // bytes
    const float* row_scale = nullptr;   // (num_rows,), int8 only
    int num_rows = 0;
    int first_panel = 0, last_panel = 0;  // panels [first, last)
    Epilogue epilogue = Epilogue::store;
    Activation activation = Activation::gelu_erf;
    float* out = nullptr;
    uint16_t* out_bf16 = nullptr;
    size_t out_stride = 0;  // elements
    float* few = nullptr;  // activated columns from `main` on
    size_t few_stride = 0;
    int main = 0;
    const float* restore = nullptr;  // (N,)
};

// Attention of `num_heads` heads that share their keys and values, over one text of `num_keys` tokens, for its query rows
// [first_query, last_query). Q, K and V are float32, or bfloat16 where the kernel says so; Q is scaled by log2(e) and the
// attention's scale, so that the softmax is in powers of two.
struct Attention {
    const void *query = nullptr, *key = nullptr, *value = nullptr;  // row 0 of the text, first column of the first head
    size_t stride = 0;                                              // elements between rows
    int num_keys = 0, head_size = 0, first_query = 0, last_query = 0;
    int num_heads = 1;
    int before = 1 << 30, after = 1 << 30;  // keys that a query sees on either side of its own
    // What the scores get by distance (key minus query), times log2(e): bias[h * bias_stride + distance], for all
    // distances of the text and ALIGNED more on either side; null: nothing.
    const float* bias = nullptr;
    size_t bias_stride = 0;
    float* out = nullptr;  // the row of `first_query`
    size_t out_stride = 0;
    float* scratch = nullptr;  // AttentionKernel::scratch(most_keys(...), head_size) floats
    const Attention* next = nullptr;  // what this thread probably does then: a kernel may fetch its rows meanwhile

    static constexpr int ALIGNED = 64;  // keys are packed from a multiple of this on, so that their lanes are their own

    int first_key(int query_row) const { return query_row > before ? query_row - before : 0; }
    int end_key(int query_row) const { return query_row < num_keys - 1 - after ? query_row + after + 1 : num_keys; }
    // The keys that these queries need are [base, end).
    int base() const { return first_key(first_query) / ALIGNED * ALIGNED; }
    int end() const { return end_key(last_query - 1); }
    bool sees_all() const { return before >= num_keys - 1 && after >= num_keys - 1; }
    // The most keys that `queries` of them need.
    static int most_keys(int num_keys, int queries, int before, int after) {
        const int64_t most = int64_t{queries} + before + after + ALIGNED;
        return most < num_keys ? static_cast<int>(most) : num_keys;
    }
};

struct AttentionKernel {
    void (*run)(const Attention&);
    size_t (*scratch)(int num_keys, int head_size);
    bool bfloat16;
};

// One token: word * scale, and what that leaves, rest * rest_scale, and its position and type; null where there is none.
struct Embedding {
    const int8_t* word_i8 = nullptr;  // or float32
    const float* word_f32 = nullptr;
    float scale = 1;
    const int8_t* rest = nullptr;
    float rest_scale = 0;
    const float *position = nullptr, *type = nullptr;
};

struct Kernels {
    const char* name;
    int panel_columns;  // of weights, int8 and float32
    int k_unit;         // consecutive k that lie together
    int depth_bytes;    // to a multiple of so many bytes of k reach the weights of int8 and bfloat16, and rows, with zeros
    int block_rows;     // rows that go through a list of steps together, half more or less
    int far_rows;       // of a batch, under which threads share columns if no cache holds the weights
    Operands (*operands)(int zero);  // of products with rows of this zero point
    size_t (*row_bytes)(int width);  // of a quantized row
    AttentionKernel attention;
    void (*product_i8)(const PackedI8&, const Product&);
    void (*product_f32)(const PackedF32&, const Product&);
    // rows8 (zero 128) or rows8_activation (another zero) of one row; `out` holds row_bytes(width).
    void (*quantize)(const float* x, int width, int zero, void* out, float* scale);
    // The integers of such a row, without their zero point.
    void (*read_row)(const void* row, int width, int zero, float* out);
    // What a row of both signs in 8 bits leaves of x.
    void (*remainder)(const float* x, int width, const void* row, float scale, float* out);
    // Of one row; `out` may be x.
    void (*layer_norm)(const float* x, int width, const float* gamma, const float* beta, float epsilon, float* out);
    void (*rms_norm)(const float* x, int width, const float* gamma, const float* beta, float epsilon, float* out);
    // x turned: pairs (j, j + pairs), or (2 j, 2 j + 1) if interleaved; `turn` has as many cosines, then sines.
    void (*rotate)(float* x, int pairs, bool interleaved, const float* turn);
    void (*add)(const float* x, const float* restore, int width, float* out);  // out = out * restore + x
    void (*embed)(const Embedding&, int width, float* out);
    // Null where there is no bfloat16: the product, a row rounded to it, and the bytes of such a row as the product reads it,
    // those behind its numbers being zero.
    void (*product_bf16)(const PackedBf16&, const Product&);
    void (*narrow_row)(const float* x, int width, uint16_t* out);
    size_t (*bf16_bytes)(int width);

    size_t qkv_bytes() const { return attention.bfloat16 ? 2 : 4; }  // of one element
};

extern const Kernels portable_kernels;
#if defined(EMBEDRT_ARM64)
extern const Kernels dotprod_kernels;
extern const Kernels i8mm_kernels;
#endif
#if defined(EMBEDRT_X86)
extern const Kernels avx2_kernels;
#if defined(EMBEDRT_AVXVNNI)
extern const Kernels avxvnni_kernels;
#endif
extern const Kernels avx512vnni_kernels;
extern const Kernels avx512bf16_kernels;
#if defined(EMBEDRT_AMX)
extern const Kernels amx_kernels;
#endif
#endif

}  // namespace embedrt
