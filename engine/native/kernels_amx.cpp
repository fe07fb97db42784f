// AMX (tiles of int8 and bfloat16) beside AVX512-VNNI and AVX512-BF16. Weights are packed as for those, K to a multiple of
// 64 bytes: 16 columns of a panel are a tile as they lie there. Sums of int8 are exact, so rows get the bits that
// avx512bf16 gives them but for attention; sums of bfloat16 are added by 32 k at a time, whatever the number of rows.
#include "avx512_headers.h"
#include "kernels.h"

namespace embedrt {
namespace {

constexpr int PANEL_VECTORS = 2;  // two tiles
constexpr bool QUOTIENTS_BY_RECIPROCAL = true;

#include "avx512.h"
#include "kernels_body.h"
#include "amx_tiles.h"

constexpr int QUERIES = Tiles::MOST_ROWS, PAIRS_UNIT = 16, VALUES_UNIT = 32;

#include "attention_bf16.h"

constexpr int N = Int8::COLUMNS;
// The tiles are through a layer's weights so fast that the third cache could not bring them for fewer rows (30 GB/s).
constexpr int BLOCK_ROWS = 128;
// With so few rows two threads that read all weights each wait for memory longer than they multiply.
constexpr int FAR_ROWS = 264;
constexpr size_t STEP = static_cast<size_t>(N) * 4 * TILE_ROWS;  // bytes of a panel that meet 64 bytes of a row

struct ProductI8 {
    using Weight = PackedI8;
    using Kind = TileBytes;
    static int steps(const PackedI8& w) { return w.depth / TILE_BYTES; }

    // What the sums of a panel's columns are finished with.
    struct Columns {
        __m512i start[2];
        F scale[2];
        const float* row_scale;
        inline void take(const PackedI8& w, const Product& p, int column) {
            for (int j = 0; j < 2; j++) {
                start[j] = _mm512_loadu_si512(w.start + column + j * W);
                scale[j] = V::load(w.scale + column + j * W);
            }
            row_scale = p.row_scale;
        }
        inline F value(int row, int j, const uint32_t* sums) const {
            const F sum = from_integers(_mm512_add_epi32(_mm512_load_si512(sums + j * W), start[j]));
            return V::mul(V::mul(sum, scale[j]), V::set1(row_scale[row]));
        }
    };
};

struct ProductBf16 {
    using Weight = PackedBf16;
    using Kind = TilePairs;
    static int steps(const PackedBf16& w) { return w.depth * 2 / TILE_BYTES; }

    struct Columns {
        inline void take(const PackedBf16&, const Product&, int) {}
        inline F value(int, int j, const uint32_t* sums) const { return _mm512_castsi512_ps(_mm512_load_si512(sums + j * W)); }
    };
};

// Of a panel and up to 32 rows; or of two panels and up to 16 rows of each.
using Sums = uint32_t[2][TILE_ROWS][N];

// The sums of a panel's strip on their way out, row by row, while the tiles multiply the next: what Finish (products.h) does,
// with all that a panel's rows share in registers.
template <class P, Epilogue E>
struct Leaving {
    static constexpr bool PAIRED = E == Epilogue::gate;
    static constexpr int VECTORS = PAIRED ? 1 : 2;  // of a panel's columns as they leave it
    static constexpr int TOGETHER = 4;

    const typename P::Weight& w;
    const Product& p;
    const uint32_t* sums = nullptr;  // of the strip's first row
    int row = 0, end = 0, credit = 0, vectors = 0;  // the next row, behind the last one, and how many columns there are
    float* to[2] = {};
    uint16_t* narrow = nullptr;
    size_t stride[2] = {};
    F bias[2] = {}, restore[2] = {};
    typename P::Columns columns = {};

    // Rows [fresh, rows) of the strip that begins with row `first`.
    inline void take(const uint32_t* of, int panel, int first, int fresh, int rows) {
        const int n = panel * VECTORS * W;
        sums = of + fresh * N, row = first + fresh, end = first + rows, credit = 0;
        vectors = min_int(VECTORS, (w.n - n) / W);
        columns.take(w, p, panel * N);
        for (int j = 0; j < 2; j++) bias[j] = V::load(w.bias + panel * N + j * W);
        for (int j = 0; j < vectors; j++) {
            const int column = n + j * W;
            const bool few = (E == Epilogue::activate || PAIRED) && column >= p.main;
            stride[j] = few ? p.few_stride : p.out_stride;
            if constexpr (E == Epilogue::narrow) {
                narrow = p.out_bf16 + static_cast<size_t>(row) * p.out_stride + n;
            } else {
                to[j] = (few ? p.few - p.main : p.out) + static_cast<size_t>(row) * stride[j] + column;
            }
            if constexpr (E == Epilogue::residual) restore[j] = V::load(p.restore + column);
        }
    }
    // One of so many steps: rows leave by fours, which share the activation's constants.
    inline void advance(int steps, int rows) {
        for (credit += rows; credit >= TOGETHER * steps && row < end; credit -= TOGETHER * steps)
            leave(min_int(TOGETHER, end - row));
    }
    inline void finish() {
        if (row < end) leave(end - row);
    }
    inline void leave(int count) {
        if (E == Epilogue::activate || PAIRED) {
            with_activation(p.activation, [&](auto kind) {
                for (int i = 0; i < count; i++) put<static_cast<Activation>(kind.value)>();
            });
        } else {
            for (int i = 0; i < count; i++) put<Activation::relu>();
        }
    }
    template <Activation A>
    inline void put() {
        for (int j = 0; j < VECTORS && j < vectors; j++) {
            F v = columns.value(row, j, sums);
            if constexpr (E != Epilogue::accumulate) v = V::add(v, bias[j]);
            if constexpr (E == Epilogue::residual) v = V::fma(V::load(to[j]), restore[j], v);
            if constexpr (E == Epilogue::accumulate) v = V::add(v, V::load(to[j]));
            if constexpr (E == Epilogue::activate || PAIRED) v = activate<A>(v);
            if constexpr (PAIRED) v = V::mul(v, V::add(columns.value(row, 1, sums), bias[1]));
            if constexpr (E == Epilogue::narrow) {
                V::store_bf16(narrow + j * W, v);
            } else {
                V::store(to[j], v);
                to[j] += stride[j];
            }
        }
        if constexpr (E == Epilogue::narrow) narrow += p.out_stride;
        row++;
        sums += N;
    }
};

// Lines of what is multiplied next into the second cache.
struct Fetch {
    const char* next;
    size_t share;
    inline void step() {
        for (size_t i = 0; i < share; i += 64) __builtin_prefetch(next + i, 0, 2);
        next += share;
    }
};

// What two panels are multiplied with two steps later, into the first cache: rows so few wait for memory and nothing else.
inline void fetch_soon(const char* weights, size_t panel_bytes) {
    for (size_t i = 0; i < STEP; i += 64) {
        __builtin_prefetch(weights + 2 * STEP + i, 0, 3);
        __builtin_prefetch(weights + panel_bytes + 2 * STEP + i, 0, 3);
    }
}

// Strips of over 16 rows, panel by panel: a panel stays in a near cache while all rows pass it.
template <class P, Epilogue E>
void sweep_strips(const typename P::Weight& w, const Product& p, const Strips& strips) {
    alignas(64) Sums sums[2];
    Leaving<P, E> leaving{w, p};
    const int steps = P::steps(w), upper = Tiles::upper(strips.rows);
    const size_t panel_bytes = STEP * static_cast<size_t>(steps);
    int turn = 0;
    for (int panel = p.first_panel; panel < p.last_panel; panel++) {
        const char* weights = reinterpret_cast<const char*>(w.data) + static_cast<size_t>(panel) * panel_bytes;
        Fetch fetch{weights + panel_bytes, panel_bytes / static_cast<size_t>(steps * strips.count)};
        for (int strip = 0; strip < strips.count; strip++, turn ^= 1) {
            const int first = strips.first(strip);
            const TileOperands operands{row_of(p.rows, first, p.row_stride), p.row_stride, weights, N * 4, steps};
            uint32_t* const out = &sums[turn][0][0][0];
            tile_zero<0>(), tile_zero<1>(), tile_zero<2>(), tile_zero<3>();
            multiply_square_of_tiles<typename P::Kind, 2>(operands, upper, [&](int) {
                fetch.step();
                leaving.advance(steps, strips.rows);
            });
            tile_store<0>(out, N * 4), tile_store<1>(out + 16, N * 4);
            tile_store<2>(out + upper * N, N * 4), tile_store<3>(out + upper * N + 16, N * 4);
            leaving.finish();
            leaving.take(out, panel, first, strips.fresh(strip), strips.rows);
        }
    }
    leaving.finish();
}

// Up to 16 rows: two panels at once, so that there are four sums to hide each other's latency.
template <class P, Epilogue E>
void sweep_pairs(const typename P::Weight& w, const Product& p) {
    alignas(64) Sums sums[2];
    Leaving<P, E> one{w, p}, other{w, p};
    const int steps = P::steps(w);
    const size_t panel_bytes = STEP * static_cast<size_t>(steps);
    int turn = 0;
    for (int panel = p.first_panel, count; panel < p.last_panel; panel += count, turn ^= 1) {
        count = min_int(2, p.last_panel - panel);
        const char* weights = reinterpret_cast<const char*>(w.data) + static_cast<size_t>(panel) * panel_bytes;
        const TileOperands operands{static_cast<const char*>(p.rows), p.row_stride, weights, N * 4, steps};
        const auto beside = [&](int step) {
            fetch_soon(weights + static_cast<size_t>(step) * STEP, panel_bytes);
            one.advance(steps, p.num_rows);
            other.advance(steps, p.num_rows);
        };
        uint32_t (&out)[2][TILE_ROWS][N] = sums[turn];
        tile_zero<0>(), tile_zero<1>(), tile_zero<2>(), tile_zero<3>();
        with_number<2>(count, [&](auto n) {
            multiply_row_of_tiles<typename P::Kind, 2 * n.value>(operands, panel_bytes, beside);
        });
        tile_store<0>(out[0][0], N * 4), tile_store<1>(out[0][0] + 16, N * 4);
        if (count > 1) tile_store<2>(out[1][0], N * 4), tile_store<3>(out[1][0] + 16, N * 4);
        one.finish();
        other.finish();
        one.take(out[0][0], panel, 0, 0, p.num_rows);
        if (count > 1) other.take(out[1][0], panel + 1, 0, 0, p.num_rows);
    }
    one.finish();
    other.finish();
}

template <class P, Epilogue E>
void sweep_tiles(const typename P::Weight& w, const Product& p) {
    const Strips strips(p.num_rows);
    const Tiles tiles(strips.rows);
    strips.rows > TILE_ROWS ? sweep_strips<P, E>(w, p, strips) : sweep_pairs<P, E>(w, p);
}

template <class P>
void product_tiles(const typename P::Weight& w, const Product& p) {
    switch (p.epilogue) {
        case Epilogue::store: return sweep_tiles<P, Epilogue::store>(w, p);
        case Epilogue::activate: return sweep_tiles<P, Epilogue::activate>(w, p);
        case Epilogue::gate: return sweep_tiles<P, Epilogue::gate>(w, p);
        case Epilogue::residual: return sweep_tiles<P, Epilogue::residual>(w, p);
        case Epilogue::accumulate: return sweep_tiles<P, Epilogue::accumulate>(w, p);
        case Epilogue::narrow: return sweep_tiles<P, Epilogue::narrow>(w, p);
    }
}

constexpr auto nothing = [](int) {};

// Scores of a strip of queries and all keys of the tile. Where the head size is no multiple of 32, what follows on it in the
// queries' rows meets zeros.
void score(const Packed& h, const Tile& tile, int rows, int end) {
    const char* queries = row_of(h.a.query, tile.query, h.row_bytes) + 2 * tile.head * h.a.head_size;
    const int upper = Tiles::upper(rows), most = rows > TILE_ROWS ? 2 : 4, steps = static_cast<int>(h.pairs) / 16;
    const size_t bytes = h.stride * sizeof(float);
    for (int key = tile.from, n; key < end; key += 16 * n) {
        n = min_int(min_int(most, (end - key + 15) / 16), 4 - key % KEYS / 16);
        const auto* keys = reinterpret_cast<const char*>(h.keys + static_cast<size_t>(key / KEYS * KEYS) * h.pairs + key % KEYS);
        const TileOperands o{queries, h.row_bytes, keys, KEYS * sizeof(uint32_t), steps};
        float *out = h.scores + key, *lower = out + static_cast<size_t>(upper) * h.stride;
        tile_zero<0>(), tile_zero<1>(), tile_zero<2>(), tile_zero<3>();
        if (most == 4) {
            with_number<4>(n, [&](auto count) { multiply_row_of_tiles<TilePairs, count.value>(o, 2 * TILE_BYTES, nothing); });
            tile_store<0>(out, bytes);
            if (n > 1) tile_store<1>(out + 16, bytes);
            if (n > 2) tile_store<2>(out + 32, bytes);
            if (n > 3) tile_store<3>(out + 48, bytes);
        } else {
            with_number<2>(n, [&](auto count) { multiply_square_of_tiles<TilePairs, count.value>(o, upper, nothing); });
            tile_store<0>(out, bytes), tile_store<2>(lower, bytes);
            if (n > 1) tile_store<1>(out + 16, bytes), tile_store<3>(lower + 16, bytes);
        }
    }
}

// The strip's rows of the output: weights times V, divided by their sums.
void mix(const Packed& h, const Tile& tile, int rows, const float* sums) {
    const auto size = static_cast<size_t>(h.a.head_size);
    const int upper = Tiles::upper(rows), most = rows > TILE_ROWS ? 2 : 4;
    const int steps = (tile.end - tile.from) / VALUES_UNIT;
    float* out = h.a.out + static_cast<size_t>(tile.query - h.a.first_query) * h.a.out_stride + static_cast<size_t>(tile.head) * size;
    alignas(64) float totals[Tiles::MOST_ROWS][4 * W];
    for (int column = 0, n; column < h.a.head_size; column += 16 * n) {
        n = min_int(most, (h.a.head_size - column) / 16);
        const auto* values = reinterpret_cast<const char*>(h.values + static_cast<size_t>(tile.from / 2) * size + column);
        const TileOperands o{reinterpret_cast<const char*>(h.weights + tile.from), h.stride * sizeof(uint16_t), values,
                             size * sizeof(uint32_t), steps};
        tile_zero<0>(), tile_zero<1>(), tile_zero<2>(), tile_zero<3>();
        if (most == 4) {
            with_number<4>(n, [&](auto count) { multiply_row_of_tiles<TilePairs, count.value>(o, 2 * TILE_BYTES, nothing); });
            tile_store<0>(totals[0], sizeof totals[0]);
            if (n > 1) tile_store<1>(totals[0] + 16, sizeof totals[0]);
            if (n > 2) tile_store<2>(totals[0] + 32, sizeof totals[0]);
            if (n > 3) tile_store<3>(totals[0] + 48, sizeof totals[0]);
        } else {
            with_number<2>(n, [&](auto count) { multiply_square_of_tiles<TilePairs, count.value>(o, upper, nothing); });
            tile_store<0>(totals[0], sizeof totals[0]), tile_store<2>(totals[upper], sizeof totals[0]);
            if (n > 1) tile_store<1>(totals[0] + 16, sizeof totals[0]), tile_store<3>(totals[upper] + 16, sizeof totals[0]);
        }
        for (int r = 0; r < rows; r++) {
            const F inverse = V::set1(1.0f / sums[r]);
            for (int j = 0; j < n; j++)
                V::store(out + static_cast<size_t>(r) * h.a.out_stride + column + j * W, V::mul(V::load(totals[r] + j * W), inverse));
        }
    }
}

// Keys by whole tiles from a multiple of 32 on, wherever the queries' strips begin, so that a query's bits do not depend on
// those beside it: what it does not see has weight 0, and adds nothing.
void attend(const Attention& a) {
    const Packed h(a);
    pack_keys(h);
    pack_values(h);
    tile_sees_memory();
    const Strips strips(a.last_query - a.first_query);
    const Tiles tiles(strips.rows);
    for (int head = 0; head < a.num_heads; head++)
        for (int strip = 0; strip < strips.count; strip++) {
            const int query = a.first_query + strips.first(strip), end = a.end_key(query + strips.rows - 1) - h.base;
            const Tile tile{head, query, (a.first_key(query) - h.base) / VALUES_UNIT * VALUES_UNIT, round_up(end, VALUES_UNIT)};
            score(h, tile, strips.rows, end);
            float sums[QUERIES];
            for (int r = 0; r < strips.rows; r++) {
                Softmax row;
                row.begin(adjust(h, tile, r));
                for (int i = tile.from; i < tile.end; i += W) weigh(h, r, i, row);
                sums[r] = V::reduce_add(row.sum);
            }
            tile_sees_memory();
            mix(h, tile, strips.rows, sums);
        }
}

void narrow_row(const float* x, int width, uint16_t* out) {
    for (int i = 0; i < width; i += W) V::store_bf16(out + i, V::load(x + i));
}

// Whole lines, an odd number of them, so that equal places of many rows are not in one set of the first cache.
size_t row_bytes(int width) { return static_cast<size_t>(round_up(width, TILE_BYTES) / TILE_BYTES | 1) * TILE_BYTES; }

}  // namespace

constinit const Kernels amx_kernels = []() constexpr {
    Kernels kernels = make_kernels("amx", {attend, Packed::floats, true});
    kernels.depth_bytes = TILE_BYTES;
    kernels.block_rows = BLOCK_ROWS;
    kernels.far_rows = FAR_ROWS;
    kernels.row_bytes = row_bytes;
    kernels.product_i8 = product_tiles<ProductI8>;
    kernels.product_bf16 = product_tiles<ProductBf16>;
    kernels.narrow_row = narrow_row;
    kernels.bf16_bytes = [](int width) { return row_bytes(2 * width); };
    return kernels;
}();

}  // namespace embedrt
