// Products whose tiles leave beside the next one: sums go to memory as they are, and vector by vector through the epilogue while
// the next tile is multiplied, so that only what takes a multiplier adds to its time. Over avx512.h and kernels_body.h.

// Products of int8: what a step multiplies, what the sums begin with, and what they mean.
struct BytesTile {
    using Weight = PackedI8;
    using Multiply = ByteProducts;
    static constexpr int UNIT = 4;  // k of a step

    static inline __m512i start(const PackedI8& w, int column) { return _mm512_loadu_si512(w.start + column); }

    static inline F scaled(const PackedI8& w, const Product& p, int row, int column, __m512i sum) {
        return V::mul(V::mul(from_integers(sum), V::load(w.scale + column)), V::set1(p.row_scale[row]));
    }
};

// The tiles of a product, one after the other; finish() behind the last one.
template <class T, Epilogue E, Activation A>
class Overlapped {
   public:
    Overlapped(const typename T::Weight& weight, const Product& product) : w_(weight), p_(product) {}

    template <int R>
    inline void multiply(const Place& at) {
        constexpr size_t STEP = size_t{COLUMNS} * T::UNIT * sizeof(*w_.data);
        const int steps = w_.k / T::UNIT, every = min_int(MOST_APART, steps / (Int8::ROWS * VECTORS));
        if (every == 0) finish();
        const Finish<E> to(p_, w_.bias, at.panel);
        __m512i from[PANEL_VECTORS];
        for (int j = 0; j < PANEL_VECTORS; j++) from[j] = T::start(w_, at.panel * COLUMNS + j * W);
        multiply_tile<typename T::Multiply, true, R, PANEL_VECTORS>(
            static_cast<const char*>(p_.rows) + static_cast<size_t>(at.row) * p_.row_stride, p_.row_stride,
            w_.data + static_cast<size_t>(at.panel) * COLUMNS * static_cast<size_t>(w_.depth), STEP, steps, from,
            fetch_ahead<STEP>(w_.data, w_.depth / T::UNIT, at),
            [&](int r, int j, __m512i sum) { _mm512_store_si512(sums_ + r * PANEL_VECTORS + j, sum); },
            [&, vector = 0, next = 0](int i) mutable {
                if (i != next) return;
                if (vector < R * VECTORS) to.fetch(at.row + vector / VECTORS, vector % VECTORS);
                if (vector < left_) leave(vector);
                next = ++vector < Int8::ROWS * VECTORS ? next + every : -1;
            });
        panel_ = at.panel, row_ = at.row, left_ = R * VECTORS;
        to_.emplace(to);
    }

    inline void finish() {
        for (int vector = 0; vector < left_; vector++) leave(vector);
        left_ = 0;
    }

   private:
    static constexpr int COLUMNS = Int8::COLUMNS, VECTORS = Finish<E>::VECTORS;
    static constexpr int MOST_APART = 4;  // steps between two vectors: further, and the branch is mispredicted

    // A vector of columns of the tile that lies in the sums, of row vector / VECTORS.
    inline void leave(int vector) const {
        const int row = vector / VECTORS, j = vector % VECTORS;
        if ((panel_ * VECTORS + j) * W >= w_.n) return;
        const auto value = [&](int of_panel) {
            return T::scaled(w_, p_, row_ + row, panel_ * COLUMNS + of_panel * W,
                             _mm512_load_si512(sums_ + row * PANEL_VECTORS + of_panel));
        };
        if constexpr (Finish<E>::ACTIVATES)
            to_->template activated<A>(row_ + row, j, value);
        else
            (*to_)(row_ + row, j, value(j));
    }

    const typename T::Weight& w_;
    const Product& p_;
    int panel_ = 0, row_ = 0, left_ = 0;  // of the tile that lies in the sums
    std::optional<Finish<E>> to_;         // where it goes
    alignas(64) __m512i sums_[Int8::ROWS * PANEL_VECTORS];
};

template <class T, Epilogue E, Activation A = Activation::relu>
static void sweep_overlapped(const typename T::Weight& w, const Product& p) {
    Overlapped<T, E, A> tiles_of(w, p);
    for (int panel = p.first_panel; panel < p.last_panel; panel++)
        each_tile<Int8::ROWS>(p.num_rows, [&](int tile, int tiles, int row, auto rows) {
            tiles_of.template multiply<rows.value>({panel, tile, tiles, row});
        });
    tiles_of.finish();
}

template <class T>
static void product_overlapped(const typename T::Weight& w, const Product& p) {
    switch (p.epilogue) {
        case Epilogue::store: return sweep_overlapped<T, Epilogue::store>(w, p);
        case Epilogue::residual: return sweep_overlapped<T, Epilogue::residual>(w, p);
        case Epilogue::accumulate: return sweep_overlapped<T, Epilogue::accumulate>(w, p);
        case Epilogue::narrow:
            if constexpr (V::BF16) sweep_overlapped<T, Epilogue::narrow>(w, p);
            return;
        case Epilogue::activate:
            return with_activation(p.activation, [&](auto kind) {
                sweep_overlapped<T, Epilogue::activate, static_cast<Activation>(kind.value)>(w, p);
            });
        case Epilogue::gate:
            return with_activation(p.activation, [&](auto kind) {
                sweep_overlapped<T, Epilogue::gate, static_cast<Activation>(kind.value)>(w, p);
            });
    }
}
