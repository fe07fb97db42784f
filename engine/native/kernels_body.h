// The kernels over a vector type V that the including file defines, in its anonymous namespace.
//
// Included once per instruction set, after `struct V` (float vectors of V::W lanes) and `struct Int8` (the int8 tile).
// Nothing of the standard library is used here: its inline functions would be compiled with this file's instruction
// set and might be the copies that the linker keeps for everyone.

using F = V::F;

constexpr int W = V::W;

static inline int min_int(int a, int b) { return a < b ? a : b; }

// 2^x for x <= 0: nearest integer and a polynomial of degree 5 on [-0.5, 0.5], relative error 2e-7.
static inline F exp2_nonpositive(F x) {
    x = V::max_nan(V::set1(-126.0f), x);
    const F whole = V::round(x);
    const F f = V::sub(x, whole);
    F p = V::set1(1.3276471e-3f);
    p = V::fma(p, f, V::set1(9.6755419e-3f));
    p = V::fma(p, f, V::set1(5.5507131e-2f));
    p = V::fma(p, f, V::set1(2.4022120e-1f));
    p = V::fma(p, f, V::set1(6.9314694e-1f));
    p = V::fma(p, f, V::set1(1.0000001f));
    return V::scale_by_power(p, whole);
}

// erf(z) = z P(z^2) / Q(z^2) with |z| clamped to where erf is 1 in float32; fitted, within 2e-8 before rounding.
static inline F gelu_erf(F x) {
    const F z = V::max(V::min(V::mul(x, V::set1(0.70710678f)), V::set1(3.95f)), V::set1(-3.95f));
    const F s = V::mul(z, z);
    F p = V::set1(2.0117470e-6f);
    p = V::fma(p, s, V::set1(2.8760103e-4f));
    p = V::fma(p, s, V::set1(3.9173169e-3f));
    p = V::fma(p, s, V::set1(5.3207055e-2f));
    p = V::fma(p, s, V::set1(1.9403562e-1f));
    p = V::fma(p, s, V::set1(1.1283790f));
    F q = V::set1(3.7839782e-5f);
    q = V::fma(q, s, V::set1(1.1982016e-3f));
    q = V::fma(q, s, V::set1(1.5270699e-2f));
    q = V::fma(q, s, V::set1(1.1559073e-1f));
    q = V::fma(q, s, V::set1(5.0529104e-1f));
    q = V::fma(q, s, V::set1(1.0f));
    const F half = V::mul(x, V::set1(0.5f));
    return V::fma(half, V::div(V::mul(z, p), q), half);
}

// 0.5 x (1 + tanh(u)) = x / (1 + e^(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3).
static inline F gelu_tanh(F x) {
    const F square = V::mul(x, x);
    const F u = V::mul(x, V::fma(square, V::set1(0.044715f * 0.79788456f), V::set1(0.79788456f)));
    const F magnitude = V::max(u, V::sub(V::set1(0.0f), u));
    const F e = exp2_nonpositive(V::mul(magnitude, V::set1(-2.0f * 1.44269504f)));  // e^(-2|u|)
    const F denominator = V::add(V::set1(1.0f), e);
    const F positive = V::div(V::set1(1.0f), denominator);
    const F negative = V::div(e, denominator);
    return V::mul(x, V::select_negative(u, negative, positive));
}

template <Activation A>
static inline F activate(F x) {
    if constexpr (A == Activation::gelu_erf) return gelu_erf(x);
    if constexpr (A == Activation::gelu_tanh) return gelu_tanh(x);
    return V::max_nan(V::set1(0.0f), x);
}

// One row's `vectors` vectors of a tile, from column `n` on.
template <Epilogue E, Activation A, class Value>
static inline void finish(const Product& p, int row, int n, int columns, const float* bias, Value value) {
    float* out = p.out + static_cast<size_t>(row) * p.out_stride + n;
    for (int j = 0; j * W < columns; j++) {
        F v = value(j);
        if constexpr (E != Epilogue::accumulate) v = V::add(v, V::load(bias + n + j * W));
        if constexpr (E == Epilogue::activate) v = activate<A>(v);
        if constexpr (E == Epilogue::residual) v = V::fma(V::load(out + j * W), V::load(p.restore + n + j * W), v);
        if constexpr (E == Epilogue::accumulate) v = V::add(v, V::load(out + j * W));
        if constexpr (E == Epilogue::activate) {
            const int column = n + j * W;
            if (column >= p.main) {
                V::store(p.rest + static_cast<size_t>(row) * p.rest_stride + (column - p.main), v);
                continue;
            }
        }
        V::store(out + j * W, v);
    }
}

template <int R, Epilogue E, Activation A>
static inline void tile_i8(const PackedI8& w, const Product& p, int row, int panel) {
    constexpr int N = Int8::COLUMNS;
    const int n = panel * N;
    const int columns = min_int(N, w.n - n);
    Int8::Tile<R> tile;
    tile.run(static_cast<const uint8_t*>(p.rows) + static_cast<size_t>(row) * p.row_stride, p.row_stride,
             w.data + static_cast<size_t>(panel) * N * w.k, w.start ? w.start + n : nullptr, w.k);
    for (int r = 0; r < R; r++) {
        const F scale = V::set1(p.row_scale[row + r]);
        finish<E, A>(p, row + r, n, columns, w.bias,
                     [&](int j) { return V::mul(V::mul(tile.value(r, j), V::load(w.scale + n + j * W)), scale); });
    }
}

// R rows times `VECTORS` vectors of columns, float32; b has its rows `ldb` floats apart.
template <int R, int VECTORS>
static inline void tile_f32(const float* a, size_t lda, const float* b, size_t ldb, int k, F (&sum)[R][VECTORS]) {
    for (int r = 0; r < R; r++)
        for (int j = 0; j < VECTORS; j++) sum[r][j] = V::set1(0.0f);
    for (int i = 0; i < k; i++) {
        F column[VECTORS];
        for (int j = 0; j < VECTORS; j++) column[j] = V::load(b + j * W);
        for (int r = 0; r < R; r++) {
            const F x = V::set1(a[static_cast<size_t>(r) * lda + i]);
            for (int j = 0; j < VECTORS; j++) sum[r][j] = V::fma(x, column[j], sum[r][j]);
        }
        b += ldb;
    }
}

template <int R, Epilogue E, Activation A>
static inline void tile_product_f32(const PackedF32& w, const Product& p, int row, int panel) {
    constexpr int N = V::F32_VECTORS * W;
    const int n = panel * N;
    F sum[R][V::F32_VECTORS];
    const float* a = static_cast<const float*>(p.rows) + static_cast<size_t>(row) * (p.row_stride / sizeof(float));
    tile_f32<R, V::F32_VECTORS>(a, p.row_stride / sizeof(float), w.data + static_cast<size_t>(panel) * N * w.k, N, w.k,
                                sum);
    for (int r = 0; r < R; r++)
        finish<E, A>(p, row + r, n, min_int(N, w.n - n), w.bias, [&](int j) { return sum[r][j]; });
}

struct TileI8 {
    using Weight = PackedI8;
    static constexpr int ROWS = Int8::ROWS;
    template <int R, Epilogue E, Activation A>
    static void run(const PackedI8& w, const Product& p, int row, int panel) {
        tile_i8<R, E, A>(w, p, row, panel);
    }
};

struct TileF32 {
    using Weight = PackedF32;
    static constexpr int ROWS = 6;
    template <int R, Epilogue E, Activation A>
    static void run(const PackedF32& w, const Product& p, int row, int panel) {
        tile_product_f32<R, E, A>(w, p, row, panel);
    }
};

template <class T, Epilogue E, Activation A, int R>
static inline void last_rows(const typename T::Weight& w, const Product& p, int row, int panel) {
    if constexpr (R > 0) {
        if (p.num_rows - row == R) {
            T::template run<R, E, A>(w, p, row, panel);
            return;
        }
        last_rows<T, E, A, R - 1>(w, p, row, panel);
    }
}

// A panel stays in the first cache while all rows pass it.
template <class T, Epilogue E, Activation A>
static void sweep(const typename T::Weight& w, const Product& p) {
    for (int panel = p.first_panel; panel < p.last_panel; panel++) {
        int row = 0;
        for (; row + T::ROWS <= p.num_rows; row += T::ROWS) T::template run<T::ROWS, E, A>(w, p, row, panel);
        last_rows<T, E, A, T::ROWS - 1>(w, p, row, panel);
    }
}

template <class T>
static void product(const typename T::Weight& w, const Product& p) {
    switch (p.epilogue) {
        case Epilogue::store: return sweep<T, Epilogue::store, Activation::relu>(w, p);
        case Epilogue::residual: return sweep<T, Epilogue::residual, Activation::relu>(w, p);
        case Epilogue::accumulate: return sweep<T, Epilogue::accumulate, Activation::relu>(w, p);
        case Epilogue::activate: break;
    }
    switch (p.activation) {
        case Activation::gelu_erf: return sweep<T, Epilogue::activate, Activation::gelu_erf>(w, p);
        case Activation::gelu_tanh: return sweep<T, Epilogue::activate, Activation::gelu_tanh>(w, p);
        case Activation::relu: return sweep<T, Epilogue::activate, Activation::relu>(w, p);
    }
}

// The largest magnitude as bits: integers compare NaN above infinity, so that one NaN makes the whole row NaN.
// Of an activation, which is over -0.17, the largest magnitude and the largest value only differ under the floor.
static void quantize(const float* x, int width, int zero, void* out, float* scale) {
    V::Bits bits = V::zero_bits();
    for (int i = 0; i < width; i += W) bits = V::max_magnitude(bits, V::load(x + i));
    const float least = zero == 128 ? 1e-30f : 0.17f / 16.0f * 239.0f;
    float largest = V::as_float(bits);
    if (largest < least) largest = least;
    const float step = largest * (1.0f / static_cast<float>(255 - zero));
    *scale = step;
    const F inverse = V::set1(1.0f / step);
    const F divisor = V::set1(step);
    for (int i = 0; i < width; i += W) {
        // x / step to the last bit: a quotient that rounds to the other integer costs a whole step, and more behind it
        const F value = V::load(x + i);
        const F near = V::mul(value, inverse);
        V::store_quantized(out, i, V::fma(V::fnma(near, divisor, value), inverse, near), zero);
    }
}

static void layer_norm(float* x, int width, const float* gamma, const float* beta, float epsilon) {
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
        V::store(x + i, V::fma(d, V::load(gamma + i), V::load(beta + i)));
    }
}

static void embed(const int8_t* word_i8, const float* word_f32, float word_scale, const float* position,
                  const float* type, int width, float* out) {
    const F scale = V::set1(word_scale);
    for (int i = 0; i < width; i += W) {
        F v = word_i8 ? V::mul(V::load_i8(word_i8 + i), scale) : V::load(word_f32 + i);
        if (type) v = V::add(v, V::load(type + i));
        if (position) v = V::add(v, V::load(position + i));
        V::store(out + i, v);
    }
}

constexpr int KEYS = V::F32_VECTORS * W;  // keys per panel of transposed keys
constexpr int QUERIES = 6;

static size_t attention_scratch(int num_keys, int head_size) {
    const size_t keys = static_cast<size_t>((num_keys + KEYS - 1) / KEYS * KEYS);
    return keys * static_cast<size_t>(head_size) + QUERIES * keys;
}

// K as panels [keys / KEYS][head size][KEYS]; keys that do not exist are zero.
static void transpose_keys(const Attention& a, float* out) {
    for (int first = 0; first < a.num_keys; first += KEYS) {
        const int count = min_int(KEYS, a.num_keys - first);
        const float* key = a.key + static_cast<size_t>(first) * a.stride;
        for (int j = 0; j < KEYS; j += W)
            for (int c = 0; c < a.head_size; c += W)
                V::transpose(key + static_cast<size_t>(j) * a.stride + c, a.stride, count - j, out + c * KEYS + j, KEYS);
        out += static_cast<size_t>(a.head_size) * KEYS;
    }
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
static inline void weigh_values(const Attention& a, const float* scores, int padded, const float* sums, float* out,
                                int column) {
    F total[R][VECTORS];
    tile_f32<R, VECTORS>(scores, static_cast<size_t>(padded), a.value + column, a.stride, a.num_keys, total);
    for (int r = 0; r < R; r++) {
        const F inverse = V::set1(1.0f / sums[r]);
        for (int j = 0; j < VECTORS; j++)
            V::store(out + static_cast<size_t>(r) * a.out_stride + column + j * W, V::mul(total[r][j], inverse));
    }
}

template <int R>
static void attend_rows(const Attention& a, const float* keys, float* scores, int padded, int query) {
    const float* q = a.query + static_cast<size_t>(query) * a.stride;
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
        weigh_values<R, V::F32_VECTORS>(a, scores, padded, sums, out, column);
    for (; column < a.head_size; column += W) weigh_values<R, 1>(a, scores, padded, sums, out, column);
}

template <int R>
static void last_queries(const Attention& a, const float* keys, float* scores, int padded, int query) {
    if constexpr (R > 0) {
        if (a.last_query - query == R) return attend_rows<R>(a, keys, scores, padded, query);
        last_queries<R - 1>(a, keys, scores, padded, query);
    }
}

static void attention(const Attention& a) {
    const int padded = (a.num_keys + KEYS - 1) / KEYS * KEYS;
    float* keys = a.scratch;
    float* scores = keys + static_cast<size_t>(padded) * static_cast<size_t>(a.head_size);
    transpose_keys(a, keys);
    int query = a.first_query;
    for (; query + QUERIES <= a.last_query; query += QUERIES) attend_rows<QUERIES>(a, keys, scores, padded, query);
    last_queries<QUERIES - 1>(a, keys, scores, padded, query);
}

static constexpr Kernels make_kernels(const char* name) {
    static_assert(Int8::COLUMNS == KEYS, "int8 and float32 weights have panels of one width");
    return {name, Int8::COLUMNS, Int8::K_UNIT, Int8::ROW_BYTES, attention, attention_scratch,
            product<TileI8>, product<TileF32>, quantize, layer_norm, embed};
}
