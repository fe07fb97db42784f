// Attention in bfloat16, but for its products: what is packed, biases and masks, and the softmax. Over avx512.h, which is
// included before it; the including file says what its tiles take:
//   QUERIES      rows of a tile
//   PAIRS_UNIT   the head size is packed to a multiple of so many pairs
//   VALUES_UNIT  keys that lie together in V; a tile's keys are whole ones of these

constexpr int KEYS = 64;  // per panel of transposed keys

static inline int round_up(int value, int unit) { return (value + unit - 1) / unit * unit; }

// What a task packs, `count` keys from `base` on, and the rows of one tile of queries; `padded` keys are whole panels.
struct Packed {
    const Attention& a;
    int base, count;
    size_t padded, pairs, row_bytes;  // pairs: of the head size, as packed; row_bytes: between the text's rows
    size_t stride;                    // of scores and weights: so that equal places of rows are not in one set of the cache
    uint32_t* keys;                   // pairs of K: [padded / KEYS][pairs][KEYS]
    uint32_t* values;                 // V of two keys: [keys / 2][head size]
    float* scores;                    // (QUERIES, stride)
    uint16_t* weights;                // (QUERIES, stride)

    explicit Packed(const Attention& attention)
        : a(attention), base(a.base()), count(a.end() - base), padded(pad(count)), pairs(pairs_of(a.head_size)),
          row_bytes(2 * a.stride), stride(padded + GAP), keys(reinterpret_cast<uint32_t*>(a.scratch)),
          values(keys + padded * pairs),
          scores(reinterpret_cast<float*>(values + padded / 2 * static_cast<size_t>(a.head_size))),
          weights(reinterpret_cast<uint16_t*>(scores + QUERIES * stride)) {}

    static constexpr size_t GAP = 32;
    static size_t pad(int num_keys) { return static_cast<size_t>(round_up(num_keys, KEYS)); }
    static size_t pairs_of(int head_size) { return static_cast<size_t>(round_up(head_size / 2, PAIRS_UNIT)); }
    static size_t floats(int num_keys, int head_size) {
        const size_t keys = pad(num_keys), values = static_cast<size_t>(head_size) / 2;
        return keys * (pairs_of(head_size) + values) + (keys + GAP) * (QUERIES + QUERIES / 2);
    }
};

inline const char* row_of(const void* rows, int row, size_t row_bytes) {
    return static_cast<const char*>(rows) + static_cast<size_t>(row) * row_bytes;
}

inline __mmask16 first_lanes(int count) {
    return static_cast<__mmask16>(count >= 16 ? 0xffff : (1u << count) - 1u);
}

// Keys that do not exist are zero to the next multiple of 16, and nothing behind it: no score is computed there. Pairs that
// do not exist are zero.
void pack_keys(const Packed& h) {
    const int pairs = static_cast<int>(h.pairs), real = h.a.head_size / 2;
    const char* keys = row_of(h.a.key, h.base, h.row_bytes);
    for (int key = 0; key < h.count; key += 16) {
        for (int c = 0; c < pairs; c += 16) {
            const __mmask16 columns = first_lanes(real - c);
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

// Keys that do not exist are zero.
void pack_values(const Packed& h) {
    uint32_t* out = h.values;
    const char* values = row_of(h.a.value, h.base, h.row_bytes);
    for (int key = 0; key < round_up(h.count, VALUES_UNIT); key += 2)
        for (int c = 0; c < h.a.head_size; c += 16, out += 16) {
            const auto load = [&](int row) {
                if (row >= h.count) return _mm512_setzero_si512();
                const char* from = row_of(values, row, h.row_bytes) + 2 * c;
                return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
            };
            _mm512_storeu_si512(out, _mm512_or_si512(load(key), _mm512_slli_epi32(load(key + 1), 16)));
        }
}

// A tile of queries of one head, and the packed keys that one of them sees: [from, end), from a multiple of 16 on. Both may
// reach further: what a query does not see gets weight 0.
struct Tile {
    int head, query, from, end;
};

// Row `r` of scores with its biases, and -inf for the keys that it does not see; the largest.
inline F adjust(const Packed& h, const Tile& tile, int r) {
    float* scores = h.scores + static_cast<size_t>(r) * h.stride;
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
// bfloat16 costs behind it. 0 under -126, where 2^x would be no normal number: the product behind it takes such a one for 0,
// and Intel's processors make it in microcode, slowly. NaN stays NaN.
inline F exp2_bf16(F x) {
    const F f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    F p = V::set1(7.802451e-2f);
    p = V::fma(p, f, V::set1(0.22606720f));
    p = V::fma(p, f, V::set1(0.69583351f));
    p = V::fma(p, f, V::set1(0.99992522f));
    return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, V::set1(-126.0f), _CMP_NLT_UQ), p, x);
}

// What is taken off a row of scores, the sum of its weights so far, lane by lane, and in the end what they are multiplied by.
struct Softmax {
    F top, sum, inverse;
    inline void begin(F largest) { top = V::set1(V::reduce_max(largest)), sum = V::set1(0.0f); }
};

// Row `r` of scores to weights, the sixteen keys from `i` on.
inline void weigh(const Packed& h, int r, int i, Softmax& row) {
    const size_t at = static_cast<size_t>(r) * h.stride + static_cast<size_t>(i);
    const F e = exp2_bf16(V::sub(V::load(h.scores + at), row.top));
    row.sum = V::add(row.sum, e);
    V::store_bf16(h.weights + at, e);
}
