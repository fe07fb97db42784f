// AMX (tiles of int8 and bfloat16) beside AVX512-VNNI and AVX512-BF16. Weights are packed as for those, K to a multiple of
// 64 bytes: 16 columns of a panel are a tile as they lie there. Sums of int8 are exact, so rows get the bits that
// avx512bf16 gives them but for attention; sums of bfloat16 are added by 32 k at a time, whatever the number of rows.
#include "avx512_headers.h"
#include "kernels.h"

namespace embedrt {
namespace {

#include "avx512.h"
#include "kernels_body.h"
#include "amx_tiles.h"

constexpr int QUERIES = Tiles::MOST_ROWS, PAIRS_UNIT = 16, VALUES_UNIT = 32;

#include "attention_bf16.h"

constexpr int N = Int8::COLUMNS;
constexpr size_t STEP = static_cast<size_t>(N) * 4 * TILE_ROWS;  // bytes of a panel that meet 64 bytes of a row

struct ProductI8 {
    using Weight = PackedI8;
    using Kind = TileBytes;
    static int steps(const PackedI8& w) { return w.depth / TILE_BYTES; }

    // Sums begin at the column's start in every row.
    template <int C>
    static inline void begin(const PackedI8& w, int column) {
        tile_load<C>(w.start + column, 0);
    }
    static inline F value(const PackedI8& w, const Product& p, int column, int row, const uint32_t* sums) {
        const F sum = from_integers(_mm512_load_si512(sums));
        return V::mul(V::mul(sum, V::load(w.scale + column)), V::set1(p.row_scale[row]));
    }
};

struct ProductBf16 {
    using Weight = PackedBf16;
    using Kind = TilePairs;
    static int steps(const PackedBf16& w) { return w.depth * 2 / TILE_BYTES; }

    template <int C>
    static inline void begin(const PackedBf16&, int) {
        tile_zero<C>();
    }
    static inline F value(const PackedBf16&, const Product&, int, int, const uint32_t* sums) {
        return _mm512_castsi512_ps(_mm512_load_si512(sums));
    }
};

using Sums = uint32_t[Tiles::MOST_ROWS][N];

// The sums of a panel's strip on their way out, row by row, while the tiles multiply the next.
template <class P, Epilogue E>
struct Leaving {
    const typename P::Weight& w;
    const Product& p;
    const Sums* sums = nullptr;
    int panel = 0, first = 0, next = 0, end = 0, credit = 0;

    // Rows [fresh, end) of the strip that begins with row `first_row`.
    inline void take(const Sums& of, int of_panel, int first_row, int fresh, int rows) {
        sums = &of, panel = of_panel, first = first_row, next = fresh, end = rows, credit = 0;
    }
    // One of so many steps.
    inline void advance(int steps) {
        for (credit += end; credit >= steps && next < end; credit -= steps) row();
    }
    inline void finish() {
        while (next < end) row();
    }
    inline void row() {
        const Finish<E> finish(p, w.bias, panel);
        const int at = first + next;
        const uint32_t* from = (*sums)[next++];
        finish.template rows<1>(at, min_int(N, w.n - finish.n), [&](int, int j) {
            return P::value(w, p, panel * N + j * W, at, from + j * W);
        });
    }
};

// Lines of the next panel into the second cache, every other one: the processor fetches their neighbours.
struct Fetch {
    const char* next;
    size_t share;
    inline void step() {
        for (size_t i = 0; i < share; i += 128) __builtin_prefetch(next + i, 0, 2);
        next += share;
    }
};

// A strip's rows times columns [column, column + 16 COUNT) of a panel, into `sums`.
template <class P, int COUNT, class Beside>
inline void multiply_row(const typename P::Weight& w, TileOperands o, int panel, Sums& sums, Beside beside) {
    const int column = panel * N;
    P::template begin<0>(w, column);
    if constexpr (COUNT > 1) P::template begin<1>(w, column + 16);
    if constexpr (COUNT > 2) P::template begin<2>(w, column + 32);
    if constexpr (COUNT > 3) P::template begin<3>(w, column + 48);
    multiply_row_of_tiles<typename P::Kind, COUNT>(o, beside);
    tile_store<0>(sums[0], sizeof sums[0]);
    if constexpr (COUNT > 1) tile_store<1>(sums[0] + 16, sizeof sums[0]);
    if constexpr (COUNT > 2) tile_store<2>(sums[0] + 32, sizeof sums[0]);
    if constexpr (COUNT > 3) tile_store<3>(sums[0] + 48, sizeof sums[0]);
}

template <class P, int COUNT, class Beside>
inline void multiply_square(const typename P::Weight& w, TileOperands o, int panel, int column, int upper, Sums& sums,
                            Beside beside) {
    P::template begin<0>(w, panel * N + column);
    P::template begin<2>(w, panel * N + column);
    if constexpr (COUNT > 1) P::template begin<1>(w, panel * N + column + 16);
    if constexpr (COUNT > 1) P::template begin<3>(w, panel * N + column + 16);
    o.b += column * 4;
    multiply_square_of_tiles<typename P::Kind, COUNT>(o, upper, beside);
    tile_store<0>(sums[0] + column, sizeof sums[0]);
    tile_store<2>(sums[upper] + column, sizeof sums[0]);
    if constexpr (COUNT > 1) tile_store<1>(sums[0] + column + 16, sizeof sums[0]);
    if constexpr (COUNT > 1) tile_store<3>(sums[upper] + column + 16, sizeof sums[0]);
}

// Of a paired weight both halves of a panel are needed, else the columns that there are.
template <class P, Epilogue E, class Beside>
inline void multiply_strip(const typename P::Weight& w, const TileOperands& o, int panel, int rows, Sums& sums,
                           Beside beside) {
    const int tiles = Finish<E>::PAIRED ? 4 : (min_int(N, w.n - panel * N) + 15) / 16;
    if (rows <= TILE_ROWS)
        return with_number<4>(tiles, [&](auto n) { multiply_row<P, n.value>(w, o, panel, sums, beside); });
    const int upper = Tiles::upper(rows);
    for (int tile = 0; tile < tiles; tile += 2)
        with_number<2>(min_int(2, tiles - tile), [&](auto n) {
            multiply_square<P, n.value>(w, o, panel, 16 * tile, upper, sums, beside);
        });
}

template <class P, Epilogue E>
void sweep_tiles(const typename P::Weight& w, const Product& p) {
    const Strips strips(p.num_rows);
    const Tiles tiles(strips.rows);
    alignas(64) Sums sums[2];
    Leaving<P, E> leaving{w, p};
    const int steps = P::steps(w), turns = strips.rows > TILE_ROWS ? 2 * steps : steps;
    const size_t panel_bytes = STEP * static_cast<size_t>(steps);
    int turn = 0;
    for (int panel = p.first_panel; panel < p.last_panel; panel++) {
        const char* weights = reinterpret_cast<const char*>(w.data) + static_cast<size_t>(panel) * panel_bytes;
        Fetch fetch{weights + panel_bytes, panel_bytes / static_cast<size_t>(turns * strips.count)};
        for (int strip = 0; strip < strips.count; strip++, turn ^= 1) {
            const int first = strips.first(strip);
            const TileOperands operands{row_of(p.rows, first, p.row_stride), p.row_stride, weights, N * 4, steps};
            multiply_strip<P, E>(w, operands, panel, strips.rows, sums[turn], [&](int) {
                fetch.step();
                leaving.advance(turns);
            });
            leaving.finish();
            leaving.take(sums[turn], panel, first, strips.fresh(strip), strips.rows);
        }
    }
    leaving.finish();
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
            with_number<4>(n, [&](auto count) { multiply_row_of_tiles<TilePairs, count.value>(o, nothing); });
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
    alignas(64) float totals[Tiles::MOST_ROWS][N];
    for (int column = 0, n; column < h.a.head_size; column += 16 * n) {
        n = min_int(most, (h.a.head_size - column) / 16);
        const auto* values = reinterpret_cast<const char*>(h.values + static_cast<size_t>(tile.from / 2) * size + column);
        const TileOperands o{reinterpret_cast<const char*>(h.weights + tile.from), h.stride * sizeof(uint16_t), values,
                             size * sizeof(uint32_t), steps};
        tile_zero<0>(), tile_zero<1>(), tile_zero<2>(), tile_zero<3>();
        if (most == 4) {
            with_number<4>(n, [&](auto count) { multiply_row_of_tiles<TilePairs, count.value>(o, nothing); });
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
            for (int r = 0; r < strips.rows; r++) sums[r] = weigh(h, tile, r, adjust(h, tile, r));
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
    kernels.row_bytes = row_bytes;
    kernels.product_i8 = product_tiles<ProductI8>;
    kernels.product_bf16 = product_tiles<ProductBf16>;
    kernels.narrow_row = narrow_row;
    kernels.bf16_bytes = [](int width) { return row_bytes(2 * width); };
    return kernels;
}();

}  // namespace embedrt
