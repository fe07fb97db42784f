// AVX512-VNNI and AVX512-BF16: attention in bfloat16, and products of bfloat16 weights; sums are float32.
#include "avx512_headers.h"
#include "kernels.h"

namespace embedrt {
namespace {

constexpr int PANEL_VECTORS = 4;
constexpr bool QUOTIENTS_BY_RECIPROCAL = false;

#include "avx512.h"
#include "kernels_body.h"
#include "overlapped.h"

constexpr int QUERIES = 6, PAIRS_UNIT = 1, VALUES_UNIT = 2;

#include "attention_bf16.h"

// Products of bfloat16 by pairs.
struct PairProducts {
    static inline void add(__m512i& sum, __m512i rows, __m512i columns) {
        __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(rows), "v"(columns));
    }
};

// Scores of R queries and the N vectors of keys from `first` on, in one panel, and the largest so far; from `end` on: -inf.
template <int R, int N>
void score(const Packed& h, const Tile& tile, int first, F (&largest)[QUERIES]) {
    const __m512i zero[N] = {};
    const __mmask16 last = first_lanes(tile.end - first - 16 * (N - 1));
    const size_t panel = static_cast<size_t>(first / KEYS * KEYS) * h.pairs + static_cast<size_t>(first % KEYS);
    float* scores = h.scores + first;
    // The row's largest so far is in a register: for all that the compiler knows, stores to `scores` change what is not.
    multiply_tile<PairProducts, false, R, N>(
        row_of(h.a.query, tile.query, h.row_bytes) + 2 * tile.head * h.a.head_size, h.row_bytes, h.keys + panel,
        KEYS * sizeof(uint32_t), static_cast<int>(h.pairs), zero, {},
        [=, &largest, stride = h.stride, top = F()](int r, int j, __m512i sum) mutable {
            F s = _mm512_castsi512_ps(sum);
            if (j + 1 == N) s = _mm512_mask_mov_ps(V::set1(-__builtin_inff()), last, s);
            top = V::max_nan(j == 0 ? largest[r] : top, s);
            if (j + 1 == N) largest[r] = top;
            V::store(scores + static_cast<size_t>(r) * stride + 16 * j, s);
        });
}

// Columns [column, column + 16 N) of R output rows. With WEIGH, scores become weights sixteen keys before they are multiplied,
// one row in each step: exponentials take their time on ports that the products leave alone.
template <int R, int N, bool WEIGH>
void mix(const Packed& h, const Tile& tile, int column, Softmax (&rows)[R]) {
    constexpr int STEPS = W / 2;  // through the pairs of a vector of weights
    static_assert(R <= STEPS);
    const __m512i zero[N] = {};
    const auto size = static_cast<size_t>(h.a.head_size);
    float* out = h.a.out + static_cast<size_t>(tile.query - h.a.first_query) * h.a.out_stride +
                 static_cast<size_t>(tile.head) * size + column;
    if constexpr (WEIGH)
        for (int r = 0; r < R; r++) weigh(h, r, tile.from, rows[r]);
    multiply_tile<PairProducts, false, R, N>(
        h.weights + tile.from, h.stride * sizeof(uint16_t), h.values + static_cast<size_t>(tile.from / 2) * size + column,
        size * sizeof(uint32_t), (tile.end - tile.from + 1) / 2, zero, {},
        [&](int r, int j, __m512i total) {
            if (WEIGH && j == 0) rows[r].inverse = V::set1(1.0f / V::reduce_add(rows[r].sum));
            V::store(out + static_cast<size_t>(r) * h.a.out_stride + 16 * j,
                     V::mul(_mm512_castsi512_ps(total), rows[r].inverse));
        },
        [&](int i) {
            const int r = i % STEPS, key = tile.from + 2 * (i - r + STEPS);
            if (WEIGH && r < R && key < tile.end) weigh(h, r, key, rows[r]);
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
    Softmax rows[R];
    for (int r = 0; r < R; r++) rows[r].begin(plain ? largest[r] : adjust(h, tile, r));
    by_fours(0, h.a.head_size / 16, [&](int i, auto n) {
        i == 0 ? mix<R, n.value, true>(h, tile, 16 * i, rows) : mix<R, n.value, false>(h, tile, 16 * i, rows);
    });
}

// What a task reads and writes, into a near cache while the `tiles` of another are done, some rows with each. The processor does
// not see these lines coming, as they are thousands of bytes apart; and a store whose line is not there yet holds up all
// stores behind it.
struct Fetch {
    const Attention& a;
    int base, keys, queries, keys_each, queries_each;

    Fetch(const Attention& attention, int tiles)
        : a(attention), base(a.base()), keys(a.end() - base), queries(a.last_query - a.first_query),
          keys_each((keys + tiles - 1) / tiles), queries_each((queries + tiles - 1) / tiles) {}

    template <class Line>
    static inline void rows(const void* from, size_t row_bytes, int first, int last, int bytes, Line line) {
        for (int row = first; row < last; row++)
            for (int i = 0; i < bytes; i += 64) line(row_of(from, row, row_bytes) + i);
    }

    inline void beside(int tile) const {
        const auto read = [](const char* line) { __builtin_prefetch(line, 0, 2); };
        const auto write = [](const char* line) { __asm__ volatile("prefetchw %0" : : "m"(*line)); };
        const size_t row_bytes = 2 * a.stride;
        const int size = 2 * a.head_size, heads = size * a.num_heads;
        const int key = tile * keys_each, end_key = min_int(key + keys_each, keys);
        const int query = tile * queries_each, end_query = min_int(query + queries_each, queries);
        rows(a.key, row_bytes, base + key, base + end_key, size, read);
        rows(a.value, row_bytes, base + key, base + end_key, size, read);
        rows(a.query, row_bytes, a.first_query + query, a.first_query + end_query, heads, read);
        rows(a.out, a.out_stride * sizeof(float), query, end_query, 2 * heads, write);
    }
};

void attend(const Attention& a) {
    const Packed h(a);
    pack_keys(h);
    pack_values(h);
    const int tiles = (a.last_query - a.first_query + QUERIES - 1) / QUERIES;
    const Fetch next(a.next ? *a.next : a, tiles * a.num_heads);
    for (int head = 0; head < a.num_heads; head++)
        each_tile<QUERIES>(a.last_query - a.first_query, [&](int tile, int, int row, auto rows) {
            if (a.next) next.beside(head * tiles + tile);
            attend_rows<rows.value>(h, head, a.first_query + row);
        });
}

// Products of bfloat16, for overlapped.h.
struct PairsTile {
    using Weight = PackedBf16;
    using Multiply = PairProducts;
    static constexpr int UNIT = 2;

    static inline __m512i start(const PackedBf16&, int) { return _mm512_setzero_si512(); }

    static inline F scaled(const PackedBf16&, const Product&, int, int, __m512i sum) { return _mm512_castsi512_ps(sum); }
};

void narrow_row(const float* x, int width, uint16_t* out) {
    for (int i = 0; i < width; i += W) V::store_bf16(out + i, V::load(x + i));
}

constexpr AttentionKernel attention_bf16 = {attend, Packed::floats, true};

}  // namespace

constinit const Kernels avx512bf16_kernels = []() constexpr {
    Kernels kernels = make_kernels("avx512bf16", attention_bf16);
    kernels.product_i8 = product_overlapped<BytesTile>;
    kernels.product_bf16 = product_overlapped<PairsTile>;
    kernels.narrow_row = narrow_row;
    kernels.bf16_bytes = [](int width) { return 2 * static_cast<size_t>(width); };
    return kernels;
}();

}  // namespace embedrt
