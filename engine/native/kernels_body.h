// The kernels over a vector type V that the including file defines, in its anonymous namespace.
//
// Included once per instruction set, after `struct V` (float vectors of V::W lanes) and `struct Int8` (the int8 tile).
// Nothing of the standard library is used here: its inline functions would be compiled with this file's instruction
// set and might be the copies that the linker keeps for everyone.

using F = V::F;

constexpr int W = V::W;

static inline int min_int(int a, int b) { return a < b ? a : b; }

template <int N>
struct Number {
    static constexpr int value = N;
};

// body(n as a constant), for n of 1 to MOST.
template <int MOST, class Body>
static inline void with_number(int n, Body body) {
    if constexpr (MOST > 1) {
        if (n < MOST) return with_number<MOST - 1>(n, body);
    }
    body(Number<MOST>{});
}

// body(tile, tiles, first row, number of rows as a constant), for tiles of at most MOST rows, as even as they come.
template <int MOST, class Body>
static inline void each_tile(int num_rows, Body body) {
    const int tiles = (num_rows + MOST - 1) / MOST;
    for (int tile = 0, row = 0; tile < tiles; tile++) {
        const int rows = (num_rows - row) / (tiles - tile);
        with_number<MOST>(rows, [&](auto count) { body(tile, tiles, row, count); });
        row += rows;
    }
}

#include "activations.h"
#include "products.h"

// The largest magnitude as bits: integers compare NaN above infinity, so that one NaN makes the whole row NaN.
// Of an activation, which is over -0.17, the largest magnitude and the largest value only differ under the floor.
static void quantize(const float* x, int width, int zero, void* out, float* scale) {
    V::Bits bits = V::zero_bits();
    for (int i = 0; i < width; i += W) bits = V::max_magnitude(bits, V::load(x + i));
    const float least = zero == CENTRE ? 1e-30f : 0.17f / static_cast<float>(zero) * static_cast<float>(255 - zero);
    float largest = V::as_float(bits);
    if (largest < least) largest = least;
    const float step = largest * (1.0f / static_cast<float>(255 - zero));
    *scale = step;
    const F inverse = V::set1(1.0f / step);
    const F divisor = V::set1(step);
    Int8::Row row(out, width, zero);
    for (int i = 0; i < width; i += Int8::Row::VECTORS * W) {
        F quotient[Int8::Row::VECTORS];
        for (int j = 0; j < Int8::Row::VECTORS; j++) {
            // x / step to the last bit: one that rounds to the other integer costs a whole step, and more behind it
            const F value = V::load(x + i + j * W);
            const F near = V::mul(value, inverse);
            quotient[j] = V::fma(V::fnma(near, divisor, value), inverse, near);
        }
        row.put(i, quotient);
    }
    row.finish();
}

static void remainder(const float* x, int width, const void* row, float scale, float* out) {
    Int8::Row::read(row, width, CENTRE, out);
    for (int i = 0; i < width; i++) out[i] = x[i] - scale * out[i];
}

static void layer_norm(const float* x, int width, const float* gamma, const float* beta, float epsilon, float* out) {
    const float share = 1.0f / static_cast<float>(width);
    F sum = V::set1(0.0f);
    for (int i = 0; i < width; i += W) sum = V::add(sum, V::load(x + i));
    const F mean = V::set1(V::reduce_add(sum) * share);
    F squares = V::set1(0.0f);
    for (int i = 0; i < width; i += W) {
        const F d = V::sub(V::load(x + i), mean);
        squares = V::fma(d, d, squares);
    }
    const F inverse = V::set1(1.0f / __builtin_sqrtf(V::reduce_add(squares) * share + epsilon));
    for (int i = 0; i < width; i += W) {
        const F d = V::mul(V::sub(V::load(x + i), mean), inverse);
        V::store(out + i, V::fma(d, V::load(gamma + i), V::load(beta + i)));
    }
}

static void rms_norm(const float* x, int width, const float* gamma, const float* beta, float epsilon, float* out) {
    F squares = V::set1(0.0f);
    for (int i = 0; i < width; i += W) {
        const F v = V::load(x + i);
        squares = V::fma(v, v, squares);
    }
    const float mean = V::reduce_add(squares) * (1.0f / static_cast<float>(width));
    const F inverse = V::set1(1.0f / __builtin_sqrtf(mean + epsilon));
    for (int i = 0; i < width; i += W)
        V::store(out + i, V::fma(V::mul(V::load(x + i), inverse), V::load(gamma + i), V::load(beta + i)));
}

// Each number by itself, so that the rounding is the same however many a vector holds.
static void rotate(float* x, int pairs, bool interleaved, const float* turn) {
    const float *cosine = turn, *sine = turn + pairs;
    const int step = interleaved ? 2 : 1;
    float *first = x, *second = interleaved ? x + 1 : x + pairs;
    int j = 0;
    for (; !interleaved && j + W <= pairs; j += W) {
        const F a = V::load(first + j), b = V::load(second + j), c = V::load(cosine + j), s = V::load(sine + j);
        V::store(first + j, V::sub(V::mul(a, c), V::mul(b, s)));
        V::store(second + j, V::add(V::mul(b, c), V::mul(a, s)));
    }
    for (; j < pairs; j++) {
        const float a = first[j * step], b = second[j * step];
        first[j * step] = a * cosine[j] - b * sine[j];
        second[j * step] = b * cosine[j] + a * sine[j];
    }
}

static void add(const float* x, const float* restore, int width, float* out) {
    for (int i = 0; i < width; i += W)
        V::store(out + i, V::fma(V::load(out + i), V::load(restore + i), V::load(x + i)));
}

static void embed(const Embedding& e, int width, float* out) {
    const F scale = V::set1(e.scale), rest_scale = V::set1(e.rest_scale);
    for (int i = 0; i < width; i += W) {
        F v = V::mul(e.word_i8 ? V::load_i8(e.word_i8 + i) : V::load(e.word_f32 + i), scale);
        if (e.rest) v = V::add(v, V::mul(V::load_i8(e.rest + i), rest_scale));
        if (e.type) v = V::add(v, V::load(e.type + i));
        if (e.position) v = V::add(v, V::load(e.position + i));
        V::store(out + i, v);
    }
}

static constexpr Kernels make_kernels(const char* name, AttentionKernel attention) {
    static_assert(Int8::COLUMNS == V::F32_VECTORS * W, "int8 and float32 weights have panels of one width");
    return {name, Int8::COLUMNS, Int8::K_UNIT, 1, 48, 0, Int8::operands, Int8::Row::bytes, attention, product<TileI8>,
            product<TileF32>, quantize, Int8::Row::read, remainder, layer_norm, rms_norm, rotate, add, embed, nullptr,
            nullptr, nullptr};
}
