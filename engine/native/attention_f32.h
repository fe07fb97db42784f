// Attention in float32, over the vector type and tile_f32 of kernels_body.h.

constexpr int KEYS = V::F32_VECTORS * W;  // keys per panel of transposed keys
constexpr int QUERIES = 6;

static size_t attention_f32_scratch(int num_keys, int head_size) {
    const size_t keys = static_cast<size_t>((num_keys + KEYS - 1) / KEYS * KEYS);
    return 2 * keys * static_cast<size_t>(head_size) + QUERIES * keys;
}

// What a task has packed: the keys that its queries need, panels of KEYS from a.base() on.
struct Packed {
    int base, count, padded;
    float *keys, *values, *scores;

    explicit Packed(const Attention& a)
        : base(a.base()), count(a.end() - base), padded((count + KEYS - 1) / KEYS * KEYS), keys(a.scratch),
          values(keys + size(a)), scores(values + size(a)) {}
    size_t size(const Attention& a) const { return static_cast<size_t>(padded) * static_cast<size_t>(a.head_size); }
};

// K as panels [keys / KEYS][head size][KEYS]; keys that do not exist are zero.
static void transpose_keys(const Attention& a, const Packed& packed) {
    float* out = packed.keys;
    for (int first = 0; first < packed.count; first += KEYS) {
        const int count = min_int(KEYS, packed.count - first);
        const float* key = static_cast<const float*>(a.key) + static_cast<size_t>(packed.base + first) * a.stride;
        for (int j = 0; j < KEYS; j += W)
            for (int c = 0; c < a.head_size; c += W)
                V::transpose(key + static_cast<size_t>(j) * a.stride + c, a.stride, count - j, out + c * KEYS + j, KEYS);
        out += static_cast<size_t>(a.head_size) * KEYS;
    }
}

// V's rows end to end. In the matrix of Q, K and V they are 12 bytes times the width apart, at 1024 a multiple of 4096: in so
// few sets of the caches that one tile of queries evicts them before the next.
static void gather_values(const Attention& a, const Packed& packed) {
    const auto* value = static_cast<const float*>(a.value) + static_cast<size_t>(packed.base) * a.stride;
    float* out = packed.values;
    for (int i = 0; i < packed.count; i++, value += a.stride, out += a.head_size)
        for (int c = 0; c < a.head_size; c += W) V::store(out + c, V::load(value + c));
}

// Scores [from, padded) of a row to weights 2^(score - largest); their sum. Keys that the row does not see, those before
// `first` and from `end` on, get weight 0: their zeros change no sum.
static inline float softmax(float* scores, int from, int first, int end, int padded, const float* bias) {
    if (bias)
        for (int i = from; i < padded; i += W) V::store(scores + i, V::add(V::load(scores + i), V::load(bias + i)));
    for (int i = from; i < first; i++) scores[i] = -__builtin_inff();
    for (int i = end; i < padded; i++) scores[i] = -__builtin_inff();
    F largest = V::load(scores + from);
    for (int i = from + W; i < padded; i += W) largest = V::max_nan(largest, V::load(scores + i));
    const F top = V::set1(V::reduce_max(largest));
    F sum = V::set1(0.0f);
    for (int i = from; i < padded; i += W) {
        const F e = exp2_nonpositive(V::sub(V::load(scores + i), top));
        V::store(scores + i, e);
    }
    for (int i = from; i < first; i++) scores[i] = 0.0f;
    for (int i = end; i < padded; i++) scores[i] = 0.0f;
    for (int i = from; i < padded; i += W) sum = V::add(sum, V::load(scores + i));
    return V::reduce_add(sum);
}

template <int R, int VECTORS>
static inline void weigh_values(const Attention& a, const float* values, const float* scores, int padded, int count,
                                const float* sums, float* out, int column) {
    F total[R][VECTORS];
    tile_f32<R, VECTORS>(scores, static_cast<size_t>(padded), values + column, static_cast<size_t>(a.head_size), count,
                         total);
    for (int r = 0; r < R; r++) {
        const F inverse = V::set1(1.0f / sums[r]);
        for (int j = 0; j < VECTORS; j++)
            V::store(out + static_cast<size_t>(r) * a.out_stride + column + j * W, V::mul(total[r][j], inverse));
    }
}

// R queries of one head, over the panels of keys that one of them sees.
template <int R>
static void attend_rows(const Attention& a, const Packed& packed, int head, int query) {
    const int d = a.head_size, from = (a.first_key(query) - packed.base) / KEYS * KEYS;
    const int end = a.end_key(query + R - 1) - packed.base, padded = (end + KEYS - 1) / KEYS * KEYS;
    const auto stride = static_cast<size_t>(packed.padded);
    const float* q = static_cast<const float*>(a.query) + static_cast<size_t>(query) * a.stride + head * d;
    for (int first = from; first < padded; first += KEYS) {
        F sum[R][V::F32_VECTORS];
        tile_f32<R, V::F32_VECTORS>(q, a.stride, packed.keys + static_cast<size_t>(first) * static_cast<size_t>(d), KEYS,
                                    d, sum);
        for (int r = 0; r < R; r++)
            for (int j = 0; j < V::F32_VECTORS; j++)
                V::store(packed.scores + static_cast<size_t>(r) * stride + first + j * W, sum[r][j]);
    }
    float sums[R];
    for (int r = 0; r < R; r++) {
        const float* bias = a.bias ? a.bias + static_cast<size_t>(head) * a.bias_stride + packed.base - (query + r) : nullptr;
        sums[r] = softmax(packed.scores + static_cast<size_t>(r) * stride, from, a.first_key(query + r) - packed.base,
                          a.end_key(query + r) - packed.base, padded, bias);
    }
    float* out = a.out + static_cast<size_t>(query - a.first_query) * a.out_stride + head * d;
    const float *values = packed.values + static_cast<size_t>(from) * static_cast<size_t>(d), *scores = packed.scores + from;
    int column = 0;
    for (; column + V::F32_VECTORS * W <= d; column += V::F32_VECTORS * W)
        weigh_values<R, V::F32_VECTORS>(a, values, scores, packed.padded, end - from, sums, out, column);
    for (; column < d; column += W) weigh_values<R, 1>(a, values, scores, packed.padded, end - from, sums, out, column);
}

static void run_attention_f32(const Attention& a) {
    const Packed packed(a);
    transpose_keys(a, packed);
    gather_values(a, packed);
    for (int head = 0; head < a.num_heads; head++)
        each_tile<QUERIES>(a.last_query - a.first_query, [&](int, int, int row, auto rows) {
            attend_rows<rows.value>(a, packed, head, a.first_query + row);
        });
}

constexpr AttentionKernel attention_f32 = {run_attention_f32, attention_f32_scratch, false};
