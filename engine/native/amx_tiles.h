// AMX's tiles: the five instructions, and which shape their eight registers have. Or, where EMBEDRT_EMULATE_AMX is
// defined, the same in plain C++, so that kernels can be tested without the processor (make emulate). To be included in
// an anonymous namespace, after <stddef.h>, <stdint.h>.
//
// In assembly, because gcc 12's intrinsics are wrong about memory: it drops what was written to the configuration, all but
// its first eight bytes.

// Rows of the registers: A * B is added to C. A has 64 bytes in each row, B 16 rows of 64 bytes, by fours of k: B's row i,
// bytes 4 n to 4 n + 3 are for column n and k of 4 i to 4 i + 3; of bfloat16, pairs.
struct TileConfig {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t bytes[16] = {};  // in each row
    uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

constexpr int TILE_ROWS = 16, TILE_BYTES = 64, TILES = 8;

#if defined(EMBEDRT_EMULATE_AMX)

struct EmulatedTile {
    uint8_t data[TILE_ROWS][TILE_BYTES];
};
thread_local EmulatedTile emulated[TILES];
thread_local TileConfig emulated_config;

static inline void tile_configure(const TileConfig& config) {
    emulated_config = config;
    for (EmulatedTile& tile : emulated) tile = EmulatedTile();
}
static inline void tile_release() { tile_configure(TileConfig()); }
template <int T>
static inline void tile_zero() {
    emulated[T] = EmulatedTile();
}
template <int T>
static inline void tile_load(const void* from, size_t stride) {
    emulated[T] = EmulatedTile();
    for (size_t r = 0; r < emulated_config.rows[T]; r++)
        __builtin_memcpy(emulated[T].data[r], static_cast<const char*>(from) + r * stride, emulated_config.bytes[T]);
}
template <int T>
static inline void tile_store(void* to, size_t stride) {
    for (size_t r = 0; r < emulated_config.rows[T]; r++)
        __builtin_memcpy(static_cast<char*>(to) + r * stride, emulated[T].data[r], emulated_config.bytes[T]);
}
template <int C, int A, int B>
static inline void tile_multiply_bytes() {
    for (int r = 0; r < emulated_config.rows[C]; r++)
        for (int n = 0; n < TILE_BYTES / 4; n++) {
            int32_t sum;
            __builtin_memcpy(&sum, emulated[C].data[r] + 4 * n, sizeof sum);
            for (int k = 0; k < TILE_BYTES; k++)
                sum += emulated[A].data[r][k] * static_cast<int8_t>(emulated[B].data[k / 4][4 * n + k % 4]);
            __builtin_memcpy(emulated[C].data[r] + 4 * n, &sum, sizeof sum);
        }
}
// Numbers too small to be normal are zero, before and after.
static inline float normal_or_zero(float x) { return __builtin_fabsf(x) < 1.17549435e-38f ? 0.0f : x; }
static inline float emulated_bf16(const uint8_t* from) {
    uint16_t half;
    __builtin_memcpy(&half, from, sizeof half);
    const uint32_t bits = static_cast<uint32_t>(half) << 16;
    float out;
    __builtin_memcpy(&out, &bits, sizeof out);
    return normal_or_zero(out);
}
// The even products in one chain and the odd ones in another, each from zero; then their sum is added to C.
template <int C, int A, int B>
static inline void tile_multiply_pairs() {
    for (int r = 0; r < emulated_config.rows[C]; r++)
        for (int n = 0; n < TILE_BYTES / 4; n++) {
            float chains[2] = {};
            for (int k = 0; k < TILE_BYTES / 2; k++) {
                const float a = emulated_bf16(emulated[A].data[r] + 2 * k);
                const float b = emulated_bf16(emulated[B].data[k / 2] + 4 * n + 2 * (k % 2));
                chains[k % 2] = normal_or_zero(__builtin_fmaf(a, b, chains[k % 2]));
            }
            float sum;
            __builtin_memcpy(&sum, emulated[C].data[r] + 4 * n, sizeof sum);
            sum = normal_or_zero(normal_or_zero(sum) + normal_or_zero(chains[0] + chains[1]));
            __builtin_memcpy(emulated[C].data[r] + 4 * n, &sum, sizeof sum);
        }
}
static inline void tile_sees_memory() {}

#else

static inline void tile_configure(const TileConfig& config) { __asm__ volatile("ldtilecfg %0" : : "m"(config)); }
static inline void tile_release() { __asm__ volatile("tilerelease"); }
template <int T>
static inline void tile_zero() {
    __asm__ volatile("tilezero %%tmm%c0" : : "i"(T));
}
// Of memory that was written in the same function, after tile_sees_memory.
template <int T>
static inline void tile_load(const void* from, size_t stride) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(T));
}
template <int T>
static inline void tile_store(void* to, size_t stride) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(T) : "memory");
}
template <int C, int A, int B>
static inline void tile_multiply_bytes() {
    __asm__ volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
}
template <int C, int A, int B>
static inline void tile_multiply_pairs() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
}
static inline void tile_sees_memory() { __asm__ volatile("" : : : "memory"); }

#endif

// The registers as products use them, for as long as this lives; behind it they are empty, so that a thread that is not
// ours keeps no state of them.
//
//   over 16 rows                 up to 16 rows
//   C0 C1   rows 0 to upper - 1  C0 C1 C2 C3
//   C2 C3   the others
//   A4 A5, B6 B7                 A4, B5 B6 B7
class Tiles {
   public:
    explicit Tiles(int rows) { shape(rows); }
    ~Tiles() { tile_release(); }
    Tiles(const Tiles&) = delete;
    Tiles& operator=(const Tiles&) = delete;

    static constexpr int MOST_ROWS = 2 * TILE_ROWS;
    static constexpr int upper(int rows) { return rows > TILE_ROWS ? (rows + 1) / 2 : rows; }

   private:
    static void shape(int rows) {
        TileConfig config;
        const bool two = rows > TILE_ROWS;
        const auto first = static_cast<uint8_t>(upper(rows)), second = static_cast<uint8_t>(two ? rows - first : first);
        const uint8_t all[TILES] = {first, first, second, second, first, two ? second : uint8_t{TILE_ROWS}, TILE_ROWS, TILE_ROWS};
        for (int i = 0; i < TILES; i++) {
            config.bytes[i] = TILE_BYTES;
            config.rows[i] = all[i];
        }
        tile_configure(config);
    }
};

// Rows in tiles of one number of rows: of the last ones some may be done a second time, so that no tile needs another shape.
struct Strips {
    int count, rows, total;
    explicit Strips(int num_rows)
        : count((num_rows + Tiles::MOST_ROWS - 1) / Tiles::MOST_ROWS), rows((num_rows + count - 1) / count), total(num_rows) {}
    int first(int strip) const { return min_int(strip * rows, total - rows); }
    int fresh(int strip) const { return strip * rows - first(strip); }  // rows of it that were done before
};

struct TileBytes {
    template <int C, int A, int B>
    static inline void multiply() {
        tile_multiply_bytes<C, A, B>();
    }
};
struct TilePairs {
    template <int C, int A, int B>
    static inline void multiply() {
        tile_multiply_pairs<C, A, B>();
    }
};

// What tiles multiply: A's rows `a_stride` bytes apart, the next 64 bytes of k in each step behind those before; B's rows
// of four columns' tiles side by side, `b_stride` apart, the next step's 16 rows on.
struct TileOperands {
    const char* a;
    size_t a_stride;
    const char* b;
    size_t b_stride;
    int steps;
};

// Up to four tiles of columns, of up to 16 rows, into C0 to C3, the third and fourth `pair` bytes behind the first two;
// beside(step) is what else to do in every step.
template <class Kind, int COLUMNS, class Beside>
static inline void multiply_row_of_tiles(const TileOperands& o, size_t pair, Beside beside) {
    const char *a = o.a, *b = o.b;
    for (int i = 0; i < o.steps; i++, a += TILE_BYTES, b += TILE_ROWS * o.b_stride) {
        tile_load<4>(a, o.a_stride);
        tile_load<5>(b, o.b_stride);
        Kind::template multiply<0, 4, 5>();
        if constexpr (COLUMNS > 1) {
            tile_load<6>(b + TILE_BYTES, o.b_stride);
            Kind::template multiply<1, 4, 6>();
        }
        if constexpr (COLUMNS > 2) {
            tile_load<7>(b + pair, o.b_stride);
            Kind::template multiply<2, 4, 7>();
        }
        if constexpr (COLUMNS > 3) {
            tile_load<5>(b + pair + TILE_BYTES, o.b_stride);
            Kind::template multiply<3, 4, 5>();
        }
        beside(i);
    }
}

// One or two tiles of columns, of over 16 rows, into C0 to C3.
template <class Kind, int COLUMNS, class Beside>
static inline void multiply_square_of_tiles(const TileOperands& o, int upper, Beside beside) {
    const char *a = o.a, *lower = o.a + static_cast<size_t>(upper) * o.a_stride, *b = o.b;
    for (int i = 0; i < o.steps; i++, a += TILE_BYTES, lower += TILE_BYTES, b += TILE_ROWS * o.b_stride) {
        tile_load<6>(b, o.b_stride);
        tile_load<4>(a, o.a_stride);
        Kind::template multiply<0, 4, 6>();
        if constexpr (COLUMNS > 1) {
            tile_load<7>(b + TILE_BYTES, o.b_stride);
            Kind::template multiply<1, 4, 7>();
        }
        tile_load<5>(lower, o.a_stride);
        Kind::template multiply<2, 5, 6>();
        if constexpr (COLUMNS > 1) Kind::template multiply<3, 5, 7>();
        beside(i);
    }
}
