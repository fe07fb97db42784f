// Attention in float32, over the vector type and tile_f32 of kernels_body.h.

constexpr int KEYS = V::F32_VECTORS * W;  // keys per panel of transposed keys
constexpr int QUERIES = 6;

static size_t attention_f32_scratch(int num_keys, int head_size) {
    const size_t keys = static_cast<size_t>((num_keys + KEYS - 1) / KEYS * KEYS);
    return 2 * keys * static_cast<size_t>(head_size) + QUERIES * keys;
}

// K as panels [keys / KEYS][head size][KEYS]; keys that do not exist are zero.
static void transpose_keys(const Attention& a, float* out) {
    for (int first = 0; first < a.num_keys; first += KEYS) {
        const int count = min_int(KEYS, a.num_keys - first);
        const float* key = static_cast<const float*>(a.key) + static_cast<size_t>(first) * a.stride;
        for (int j = 0; j < KEYS; j += W)
            for (int c = 0; c < a.head_size; c += W)
                V::transpose(key + static_cast<size_t>(j) * a.stride + c, a.stride, count - j, out + c * KEYS + j, KEYS);
        out += static_cast<size_t>(a.head_size) * KEYS;
    }
}

// V's rows end to end. In the matrix of Q, K and V they are 12 bytes times the width apart, at 1024 a multiple of 4096: in so
// few sets of the caches that one tile of queries evicts them before the next.
static void gather_values(const Attention& a, float* out) {
    const auto* value = static_cast<const float*>(a.value);
    for (int i = 0; i < a.num_keys; i++, value += a.stride, out += a.head_size)
        for (int c = 0; c < a.head_size; c += W) V::store(out + c, V::load(value + c));
}

// Scores of a row to weights 2^(score - largest); their sum. Slots past the last key get weight 0.
static inline float softmax(float* scores, int num_keys, int padded) {
    for (int i = num_keys; i < padded; i++) scores[i] = -__builtin_inff();
    F largest = V::load(scores);
    for (int i = W; i < padded; i += W) largest = V::max_nan(largest, V::load(scores + i));
    const F top = V::set1(V::reduce_max(largest));
    F sum = V::set1(0.0f);
    for (int i = 0; i < padded; i += W) {
        const F e = exp2_nonpositive(V::sub(V::load(scores + i), top));
        V::store(scores + i, e);
    }
    for (int i = num_keys; i < padded; i++) scores[i] = 0.0f;
    for (int i = 0; i < padded; i += W) sum = V::add(sum, V::load(scores + i));
    return V::reduce_add(sum);
}

template <int R, int VECTORS>
static inline void weigh_values(const Attention& a, const float* values, const float* scores, int padded,
                                const float* sums, float* out, int column) {
    F total[R][VECTORS];
    tile_f32<R, VECTORS>(scores, static_cast<size_t>(padded), values + column, static_cast<size_t>(a.head_size),
                         a.num_keys, total);
    for (int r = 0; r < R; r++) {
        const F inverse = V::set1(1.0f / sums[r]);
        for (int j = 0; j < VECTORS; j++)
            V::store(out + static_cast<size_t>(r) * a.out_stride + column + j * W, V::mul(total[r][j], inverse));
    }
}

template <int R>
static void attend_rows(const Attention& a, const float* keys, const float* values, float* scores, int padded,
                        int query) {
    const float* q = static_cast<const float*>(a.query) + static_cast<size_t>(query) * a.stride;
    for (int first = 0; first < padded; first += KEYS) {
        F sum[R][V::F32_VECTORS];
        tile_f32<R, V::F32_VECTORS>(q, a.stride, keys + static_cast<size_t>(first) * static_cast<size_t>(a.head_size),
                                    KEYS, a.head_size, sum);
        for (int r = 0; r < R; r++)
            for (int j = 0; j < V::F32_VECTORS; j++)
                V::store(scores + static_cast<size_t>(r) * static_cast<size_t>(padded) + first + j * W, sum[r][j]);
    }
    float sums[R];
    for (int r = 0; r < R; r++)
        sums[r] = softmax(scores + static_cast<size_t>(r) * static_cast<size_t>(padded), a.num_keys, padded);
    float* out = a.out + static_cast<size_t>(query - a.first_query) * a.out_stride;
    int column = 0;
    for (; column + V::F32_VECTORS * W <= a.head_size; column += V::F32_VECTORS * W)
        weigh_values<R, V::F32_VECTORS>(a, values, scores, padded, sums, out, column);
    for (; column < a.head_size; column += W) weigh_values<R, 1>(a, values, scores, padded, sums, out, column);
}

static void run_attention_f32(const Attention& a) {
    const int padded = (a.num_keys + KEYS - 1) / KEYS * KEYS;
    const size_t size = static_cast<size_t>(padded) * static_cast<size_t>(a.head_size);
    float *keys = a.scratch, *values = keys + size, *scores = values + size;
    transpose_keys(a, keys);
    gather_values(a, values);
    each_tile<QUERIES>(a.last_query - a.first_query, [&](int, int, int row, auto rows) {
        attend_rows<rows.value>(a, keys, values, scores, padded, a.first_query + row);
    });
}

constexpr AttentionKernel attention_f32 = {run_attention_f32, attention_f32_scratch, false};
