// Products of rows with packed weights, over the vector type V and the int8 tile. Included by kernels_body.h.

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

    // Fetches the lines that R rows from `first` on will be written to, as the product is made: they come from far, the
    // processor does not see them coming, and stores that wait for theirs would hold up the next tile's.
    template <int R>
    inline void fetch(int first) const {
        for (int r = 0; r < R; r++)
            for (int j = 0; j < VECTORS; j++) fetch(first + r, j);
    }

    // One vector's line, where it is not that of the vector before it.
    inline void fetch(int row, int j) const {
        const size_t at = static_cast<size_t>(row) * p.out_stride + static_cast<size_t>(j * W);
        constexpr int LINE = 64;
        if constexpr (E == Epilogue::narrow) {
            if (j * W % (LINE / static_cast<int>(sizeof(uint16_t))) == 0) __builtin_prefetch(out_bf16 + at);
        } else {
            if (j * W % (LINE / static_cast<int>(sizeof(float))) == 0) __builtin_prefetch(out + at);
        }
    }

    // All vectors of R rows from `first` on, of `columns` columns: value(row of the tile, vector of the panel).
    template <int R, class Value>
    inline void rows(int first, int columns, Value value) const {
        if constexpr (ACTIVATES) {
            with_activation(p.activation, [&](auto kind) {
                constexpr auto A = static_cast<Activation>(kind.value);
                for (int r = 0; r < R; r++)
                    for (int j = 0; j < VECTORS && j * W < columns; j++)
                        activated<A>(first + r, j, [&](int vector) { return value(r, vector); });
            });
        } else {
            for (int r = 0; r < R; r++)
                for (int j = 0; j * W < columns; j++) (*this)(first + r, j, value(r, j));
        }
    }

    // One vector through the activation: value(vector of the panel), of a gate both halves'.
    template <Activation A, class Value>
    inline void activated(int row, int j, Value value) const {
        F v = activate<A>(V::add(value(j), V::load(bias + j * W)));
        if constexpr (PAIRED) v = V::mul(v, V::add(value(VECTORS + j), V::load(bias + (VECTORS + j) * W)));
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
    finish.template fetch<R>(at.row);
    const int columns = w.n - finish.n;
    const float *scale = w.scale + n, *row_scale = p.row_scale + at.row;
    const auto scaled = [&](int r, int j, F sum) {
        return V::mul(V::mul(sum, V::load(scale + j * W)), V::set1(row_scale[r]));
    };
    const auto multiply = [&](auto emit) {
        Int8::multiply<R>(static_cast<const uint8_t*>(p.rows) + static_cast<size_t>(at.row) * p.row_stride,
                          p.row_stride, w.data + static_cast<size_t>(n) * static_cast<size_t>(w.depth),
                          w.start ? w.start + n : nullptr, w.k,
                          fetch_ahead<N * Int8::K_STEP>(w.data, w.depth / Int8::K_STEP, at), emit);
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
    const Finish<E> finish(p, w.bias, at.panel);
    finish.template fetch<R>(at.row);
    const float* a = static_cast<const float*>(p.rows) + static_cast<size_t>(at.row) * (p.row_stride / sizeof(float));
    tile_f32<R, V::F32_VECTORS>(a, p.row_stride / sizeof(float), w.data + static_cast<size_t>(at.panel) * N * w.k, N,
                                w.k, sum);
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
