// AVX512-VNNI and AVX512-BF16: attention in bfloat16, and products of bfloat16 weights; sums are float32.
#include "avx512_headers.h"
#include "kernels.h"

namespace embedrt {
namespace {

#include "avx512.h"
#include "kernels_body.h"

constexpr int QUERIES = 6;
constexpr int KEYS = 64;  // per panel of transposed keys

// Products of bfloat16 by pairs.
struct PairProducts {
    static inline void add(__m512i& sum, __m512i rows, __m512i columns) {
        __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(rows), "v"(columns));
    }
};

// What a task packs, `count` keys from `base` on, and the rows of one tile of queries; `padded` keys are whole panels.
struct Packed {
    const Attention& a;
    int base, count;
    size_t padded, pairs, row_bytes;  // pairs: of the head size; row_bytes: between the text's rows
    uint32_t* keys;                   // pairs of K: [padded / KEYS][pairs][KEYS]
    uint32_t* values;                 // V of two keys: [keys / 2][head size]
    float* scores;                    // (QUERIES, padded)
    uint16_t* weights;                // (QUERIES, padded)

    explicit Packed(const Attention& attention)
        : a(attention), base(a.base()), count(a.end() - base), padded(pad(count)), pairs(static_cast<size_t>(a.head_size) / 2), row_bytes(2 * a.stride),
          keys(reinterpret_cast<uint32_t*>(a.scratch)), values(keys + padded * pairs),
          scores(reinterpret_cast<float*>(values + padded * pairs)),
          weights(reinterpret_cast<uint16_t*>(scores + QUERIES * padded)) {}

    static size_t pad(int num_keys) { return static_cast<size_t>((num_keys + KEYS - 1) / KEYS * KEYS); }
    static size_t floats(int num_keys, int head_size) {
        return pad(num_keys) * (static_cast<size_t>(head_size) + QUERIES + QUERIES / 2);
    }
};

inline const char* row_of(const void* rows, int row, size_t row_bytes) {
    return static_cast<const char*>(rows) + static_cast<size_t>(row) * row_bytes;
}

inline __mmask16 first_lanes(int count) {
    return static_cast<__mmask16>(count >= 16 ? 0xffff : (1u << count) - 1u);
}

// Keys that do not exist are zero to the next multiple of 16, and nothing behind it: no score is computed there.
void pack_keys(const Packed& h) {
    const int pairs = static_cast<int>(h.pairs);
    const char* keys = row_of(h.a.key, h.base, h.row_bytes);
    for (int key = 0; key < h.count; key += 16) {
        for (int c = 0; c < pairs; c += 16) {
            const __mmask16 columns = first_lanes(pairs - c);
            __m512i r[16];
            for (int i = 0; i < 16; i++)
                r[i] = key + i < h.count ? _mm512_maskz_loadu_epi32(columns, row_of(keys, key + i, h.row_bytes) + 4 * c)
                                         : _mm512_setzero_si512();
            transpose_lanes(r);
            const size_t panel = static_cast<size_t>(key / KEYS) * h.pairs + static_cast<size_t>(c);
            uint32_t* out = h.keys + panel * KEYS + key % KEYS;
            for (int i = 0; i < 16 && c + i < pairs; i++) _mm512_storeu_si512(out + i * KEYS, r[i]);
        }
    }
}

void pack_values(const Packed& h) {
    uint32_t* out = h.values;
    const char* values = row_of(h.a.value, h.base, h.row_bytes);
    for (int key = 0; key < h.count; key += 2)
        for (int c = 0; c < h.a.head_size; c += 16, out += 16) {
            const auto load = [&](int row) {
                if (row >= h.count) return _mm512_setzero_si512();
                const char* from = row_of(values, row, h.row_bytes) + 2 * c;
                return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
            };
            _mm512_storeu_si512(out, _mm512_or_si512(load(key), _mm512_slli_epi32(load(key + 1), 16)));
        }
}

// A tile of queries of one head, and the packed keys that one of them sees: [from, end), from a multiple of 16 on.
struct Tile {
    int head, query, from, end;
};

// Scores of R queries and the N vectors of keys from `first` on, in one panel, and the largest so far; from `end` on: -inf.
template <int R, int N>
void score(const Packed& h, const Tile& tile, int first, F (&largest)[QUERIES]) {
    const __m512i zero[N] = {};
    const __mmask16 last = first_lanes(tile.end - first - 16 * (N - 1));
    const size_t panel = static_cast<size_t>(first / KEYS * KEYS) * h.pairs + static_cast<size_t>(first % KEYS);
    multiply_tile<PairProducts, false, R, N>(
        row_of(h.a.query, tile.query, h.row_bytes) + 2 * tile.head * h.a.head_size, h.row_bytes, h.keys + panel,
        KEYS * sizeof(uint32_t), static_cast<int>(h.pairs), zero, {}, [&](int r, int j, __m512i sum) {
            F s = _mm512_castsi512_ps(sum);
            if (j + 1 == N) s = _mm512_mask_mov_ps(V::set1(-__builtin_inff()), last, s);
            largest[r] = V::max_nan(largest[r], s);
            V::store(h.scores + static_cast<size_t>(r) * h.padded + first + 16 * j, s);
        });
}

// Row `r` of scores with its biases, and -inf for the keys that it does not see; the largest.
inline F adjust(const Packed& h, const Tile& tile, int r) {
    float* scores = h.scores + static_cast<size_t>(r) * h.padded;
    const int query = tile.query + r;
    if (h.a.bias) {
        const float* bias = h.a.bias + static_cast<size_t>(tile.head) * h.a.bias_stride + h.base - query;
        for (int i = tile.from; i < tile.end; i += W) V::store(scores + i, V::add(V::load(scores + i), V::load(bias + i)));
    }
    for (int i = tile.from; i < h.a.first_key(query) - h.base; i++) scores[i] = -__builtin_inff();
    for (int i = h.a.end_key(query) - h.base; i < tile.end; i++) scores[i] = -__builtin_inff();
    F largest = V::set1(-__builtin_inff());
    for (int i = tile.from; i < tile.end; i += W) largest = V::max_nan(largest, V::load(scores + i));
    return largest;
}

// 2^x for x <= 0 and -inf: a polynomial of degree 3 on [0, 1), relative error 1e-4, a twentieth of what rounding to
// bfloat16 costs behind it.
inline F exp2_bf16(F x) {
    const F f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    F p = V::set1(7.802451e-2f);
    p = V::fma(p, f, V::set1(0.22606720f));
    p = V::fma(p, f, V::set1(0.69583351f));
    p = V::fma(p, f, V::set1(0.99992522f));
    return _mm512_scalef_ps(p, x);
}

// Row `r` of scores to weights; their sum.
inline float weigh(const Packed& h, const Tile& tile, int r, F largest) {
    const float* scores = h.scores + static_cast<size_t>(r) * h.padded;
    uint16_t* weights = h.weights + static_cast<size_t>(r) * h.padded;
    const F top = V::set1(V::reduce_max(largest));
    F sum = V::set1(0.0f);
    for (int i = tile.from; i < tile.end; i += W) {
        const F e = exp2_bf16(V::sub(V::load(scores + i), top));
        sum = V::add(sum, e);
        V::store_bf16(weights + i, e);
    }
    return V::reduce_add(sum);
}

// Columns [column, column + 16 N) of R output rows.
template <int R, int N>
void mix(const Packed& h, const Tile& tile, int column, const float (&sums)[R]) {
    const __m512i zero[N] = {};
    const auto size = static_cast<size_t>(h.a.head_size);
    float* out = h.a.out + static_cast<size_t>(tile.query - h.a.first_query) * h.a.out_stride +
                 static_cast<size_t>(tile.head) * size + column;
    multiply_tile<PairProducts, false, R, N>(
        h.weights + tile.from, h.padded * sizeof(uint16_t), h.values + static_cast<size_t>(tile.from / 2) * size + column,
        size * sizeof(uint32_t), (tile.end - tile.from + 1) / 2, zero, {}, [&](int r, int j, __m512i total) {
            const F inverse = V::set1(1.0f / sums[r]);
            V::store(out + static_cast<size_t>(r) * h.a.out_stride + 16 * j,
                     V::mul(_mm512_castsi512_ps(total), inverse));
        });
}

// body(first vector, number as a constant) for vectors [from, end), by fours that lie in one panel.
template <class Body>
inline void by_fours(int from, int end, Body body) {
    for (int i = from, n; i < end; i += n) {
        n = min_int(4 - i % 4, end - i);
        with_number<4>(n, [&](auto number) { body(i, number); });
    }
}

template <int R>
void attend_rows(const Packed& h, int head, int query) {
    const Tile tile{head, query, (h.a.first_key(query) - h.base) / 16 * 16, h.a.end_key(query + R - 1) - h.base};
    const bool plain = h.a.sees_all() && h.a.bias == nullptr;
    F largest[QUERIES];
    for (F& one : largest) one = V::set1(-__builtin_inff());
    by_fours(tile.from / 16, (tile.end + 15) / 16, [&](int i, auto n) { score<R, n.value>(h, tile, 16 * i, largest); });
    float sums[R];
    for (int r = 0; r < R; r++) sums[r] = weigh(h, tile, r, plain ? largest[r] : adjust(h, tile, r));
    by_fours(0, h.a.head_size / 16, [&](int i, auto n) { mix<R, n.value>(h, tile, 16 * i, sums); });
}

void attend(const Attention& a) {
    const Packed h(a);
    pack_keys(h);
    pack_values(h);
    for (int head = 0; head < a.num_heads; head++)
        each_tile<QUERIES>(a.last_query - a.first_query, [&](int, int, int row, auto rows) {
            attend_rows<rows.value>(h, head, a.first_query + row);
        });
}

struct TileBf16 {
    using Weight = PackedBf16;
    static constexpr int ROWS = 6;
    template <int R, Epilogue E>
    static void run(const PackedBf16& w, const Product& p, const Place& at) {
        constexpr int N = Int8::COLUMNS, STEP = N * 4;
        const int steps = w.k / 2;
        const Finish<E> finish(p, w.bias, at.panel);
        const __m512i zero[4] = {};
        F sums[R][4];
        multiply_tile<PairProducts, true, R, 4>(
            row_of(p.rows, at.row, p.row_stride), p.row_stride,
            w.data + static_cast<size_t>(at.panel) * N * static_cast<size_t>(w.k), STEP, steps, zero,
            fetch_ahead<STEP>(w.data, steps, at), [&](int r, int j, __m512i sum) { sums[r][j] = _mm512_castsi512_ps(sum); });
        finish.template rows<R>(at.row, min_int(N, w.n - finish.n), [&](int r, int j) { return sums[r][j]; });
    }
};

void narrow_row(const float* x, int width, uint16_t* out) {
    for (int i = 0; i < width; i += W) V::store_bf16(out + i, V::load(x + i));
}

constexpr AttentionKernel attention_bf16 = {attend, Packed::floats, true};

}  // namespace

constinit const Kernels avx512bf16_kernels = []() constexpr {
    Kernels kernels = make_kernels("avx512bf16", attention_bf16);
    kernels.product_bf16 = product<TileBf16>;
    kernels.narrow_row = narrow_row;
    return kernels;
}();

}  // namespace embedrt
