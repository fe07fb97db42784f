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

// x / (1 + 2^(factor * u)), for a factor under zero.
static inline F times_sigmoid(F x, F u, float factor) {
    const F magnitude = V::max(u, V::sub(V::set1(0.0f), u));
    const F e = exp2_nonpositive(V::mul(magnitude, V::set1(factor)));
    const F denominator = V::add(V::set1(1.0f), e);
    const F positive = V::div(V::set1(1.0f), denominator);
    const F negative = V::div(e, denominator);
    return V::mul(x, V::select_negative(u, negative, positive));
}

// 0.5 x (1 + tanh(u)) = x / (1 + e^(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3).
static inline F gelu_tanh(F x) {
    const F square = V::mul(x, x);
    const F u = V::mul(x, V::fma(square, V::set1(0.044715f * 0.79788456f), V::set1(0.79788456f)));
    return times_sigmoid(x, u, -2.0f * 1.44269504f);
}

template <Activation A>
static inline F activate(F x) {
    if constexpr (A == Activation::gelu_erf) return gelu_erf(x);
    if constexpr (A == Activation::gelu_tanh) return gelu_tanh(x);
    if constexpr (A == Activation::silu) return times_sigmoid(x, x, -1.44269504f);
    if constexpr (A == Activation::quick_gelu) return times_sigmoid(x, x, -1.702f * 1.44269504f);
    return V::max_nan(V::set1(0.0f), x);
}

// body(the activation as a constant).
template <class Body>
static inline void with_activation(Activation activation, Body body) {
    switch (activation) {
        case Activation::gelu_erf: return body(Number<static_cast<int>(Activation::gelu_erf)>{});
        case Activation::gelu_tanh: return body(Number<static_cast<int>(Activation::gelu_tanh)>{});
        case Activation::relu: return body(Number<static_cast<int>(Activation::relu)>{});
        case Activation::silu: return body(Number<static_cast<int>(Activation::silu)>{});
        case Activation::quick_gelu: return body(Number<static_cast<int>(Activation::quick_gelu)>{});
    }
}

// What a product does with the sums of one panel, vector by vector.
template <Epilogue E>
struct Finish {
    static constexpr bool PAIRED = E == Epilogue::gate;
    static constexpr int VECTORS = Int8::COLUMNS / W / (PAIRED ? 2 : 1);  // of a panel's columns as they leave it
    static constexpr bool ACTIVATES = E == Epilogue::activate || PAIRED;

    const Product& p;
    int n;  // the panel's first column as it leaves it
    const float *bias, *restore;
    float *out, *few;
    uint16_t* out_bf16;

    Finish(const Product& product, const float* biases, int panel)
        : p(product), n(panel * VECTORS * W), bias(biases + panel * Int8::COLUMNS), restore(moved(p.restore, n)),
          out(moved(p.out, n)), few(moved(p.few, n - p.main)), out_bf16(moved(p.out_bf16, n)) {}

    // Null stays null.
    template <class T>
    static T* moved(T* from, int by) {
        return from ? from + by : nullptr;
    }

    // All vectors of R rows from `first` on, of `columns` columns: value(row of the tile, vector of the panel).
    template <int R, class Value>
    inline void rows(int first, int columns, Value value) const {
        if constexpr (ACTIVATES) {
            with_activation(p.activation, [&](auto kind) {
                constexpr auto A = static_cast<Activation>(kind.value);
                for (int r = 0; r < R; r++)
                    for (int j = 0; j < VECTORS && j * W < columns; j++) {
                        F v = activate<A>(V::add(value(r, j), V::load(bias + j * W)));
                        if constexpr (PAIRED) {
                            const int up = VECTORS + j;
                            v = V::mul(v, V::add(value(r, up), V::load(bias + up * W)));
                        }
                        put_activated(first + r, j, v);
                    }
            });
        } else {
            for (int r = 0; r < R; r++)
                for (int j = 0; j * W < columns; j++) (*this)(first + r, j, value(r, j));
        }
    }

    inline void put_activated(int row, int j, F v) const {
        if (n + j * W >= p.main) return V::store(few + static_cast<size_t>(row) * p.few_stride + j * W, v);
        V::store(out + static_cast<size_t>(row) * p.out_stride + static_cast<size_t>(j * W), v);
    }

    inline void operator()(int row, int j, F v) const {
        const size_t at = static_cast<size_t>(row) * p.out_stride + static_cast<size_t>(j * W);
        if constexpr (E != Epilogue::accumulate) v = V::add(v, V::load(bias + j * W));
        if constexpr (E == Epilogue::residual) v = V::fma(V::load(out + at), V::load(restore + j * W), v);
        if constexpr (E == Epilogue::accumulate) v = V::add(v, V::load(out + at));
        if constexpr (E == Epilogue::narrow) return V::store_bf16(out_bf16 + at, v);
        V::store(out + at, v);
    }
};

// A tile of a product: rows from `row` on, the tile-th of so many, times one panel.
struct Place {
    int panel, tile, tiles, row;
};

// What this tile fetches of the next panel while it multiplies: the panel's tiles share the work evenly. Where there is
// only one, it touches every second line, and the processor fetches the neighbours. One step reads STEP bytes of a panel.
template <size_t STEP>
static inline Ahead fetch_ahead(const void* weights, int num_steps, const Place& at) {
    const size_t steps = static_cast<size_t>(num_steps), tiles = static_cast<size_t>(at.tiles);
    const size_t share = (STEP + tiles - 1) / tiles;
    const char* next = static_cast<const char*>(weights) + static_cast<size_t>(at.panel + 1) * steps * STEP;
    return {next + static_cast<size_t>(at.tile) * steps * share, share / 2, share};
}

template <int R, Epilogue E>
static inline void tile_i8(const PackedI8& w, const Product& p, const Place& at) {
    constexpr int N = Int8::COLUMNS;
    const int n = at.panel * N;
    const Finish<E> finish(p, w.bias, at.panel);
    const int columns = w.n - finish.n;
    const float *scale = w.scale + n, *row_scale = p.row_scale + at.row;
    const auto scaled = [&](int r, int j, F sum) {
        return V::mul(V::mul(sum, V::load(scale + j * W)), V::set1(row_scale[r]));
    };
    const auto multiply = [&](auto emit) {
        Int8::multiply<R>(static_cast<const uint8_t*>(p.rows) + static_cast<size_t>(at.row) * p.row_stride,
                          p.row_stride, w.data + static_cast<size_t>(n) * static_cast<size_t>(w.k),
                          w.start ? w.start + n : nullptr, w.k,
                          fetch_ahead<N * Int8::K_STEP>(w.data, w.k / Int8::K_STEP, at), emit);
    };
    if constexpr (Finish<E>::ACTIVATES) {
        // through memory: beside the sums there are no registers for the activation's constants
        F sums[R][N / W];
        multiply([&](int r, int j, F sum) { sums[r][j] = sum; });
        finish.template rows<R>(at.row, columns, [&](int r, int j) { return scaled(r, j, sums[r][j]); });
    } else {
        multiply([&](int r, int j, F sum) {
            if (j * W < columns) finish(at.row + r, j, scaled(r, j, sum));
        });
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

template <int R, Epilogue E>
static inline void tile_product_f32(const PackedF32& w, const Product& p, const Place& at) {
    constexpr int N = V::F32_VECTORS * W;
    F sum[R][V::F32_VECTORS];
    const float* a = static_cast<const float*>(p.rows) + static_cast<size_t>(at.row) * (p.row_stride / sizeof(float));
    tile_f32<R, V::F32_VECTORS>(a, p.row_stride / sizeof(float), w.data + static_cast<size_t>(at.panel) * N * w.k, N,
                                w.k, sum);
    const Finish<E> finish(p, w.bias, at.panel);
    finish.template rows<R>(at.row, min_int(N, w.n - finish.n), [&](int r, int j) { return sum[r][j]; });
}

struct TileI8 {
    using Weight = PackedI8;
    static constexpr int ROWS = Int8::ROWS;
    template <int R, Epilogue E>
    static void run(const PackedI8& w, const Product& p, const Place& at) {
        tile_i8<R, E>(w, p, at);
    }
};

struct TileF32 {
    using Weight = PackedF32;
    static constexpr int ROWS = 6;
    template <int R, Epilogue E>
    static void run(const PackedF32& w, const Product& p, const Place& at) {
        tile_product_f32<R, E>(w, p, at);
    }
};

// A panel stays in the second cache while all rows pass it.
template <class T, Epilogue E>
static void sweep(const typename T::Weight& w, const Product& p) {
    for (int panel = p.first_panel; panel < p.last_panel; panel++)
        each_tile<T::ROWS>(p.num_rows, [&](int tile, int tiles, int row, auto rows) {
            T::template run<rows.value, E>(w, p, {panel, tile, tiles, row});
        });
}

template <class T>
static void product(const typename T::Weight& w, const Product& p) {
    switch (p.epilogue) {
        case Epilogue::store: return sweep<T, Epilogue::store>(w, p);
        case Epilogue::activate: return sweep<T, Epilogue::activate>(w, p);
        case Epilogue::gate: return sweep<T, Epilogue::gate>(w, p);
        case Epilogue::residual: return sweep<T, Epilogue::residual>(w, p);
        case Epilogue::accumulate: return sweep<T, Epilogue::accumulate>(w, p);
        case Epilogue::narrow:
            if constexpr (V::BF16) sweep<T, Epilogue::narrow>(w, p);
    }
}

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
    return {name, Int8::COLUMNS, Int8::K_UNIT, Int8::operands, Int8::Row::bytes, attention, product<TileI8>,
            product<TileF32>, quantize, Int8::Row::read, remainder, layer_norm, rms_norm, rotate, add, embed, nullptr,
            nullptr};
}
