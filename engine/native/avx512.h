// AVX512-VNNI: the vectors and the tiles of every table of kernels that has it. Included before kernels_body.h, in the
// same anonymous namespace, after two constants: PANEL_VECTORS of columns in a panel of weights, and whether
// QUOTIENTS_BY_RECIPROCAL are faster, which they are where tiles leave the vectors nothing to wait for.

#if defined(EMBEDRT_SIMDE)

// What SIMDe 0.7 lacks.
inline __m512 from_integers(__m512i a) {
    int32_t in[16];
    float out[16];
    memcpy(in, &a, sizeof in);
    for (int i = 0; i < 16; i++) out[i] = static_cast<float>(in[i]);
    return _mm512_loadu_ps(out);
}
inline __m512i to_integers(__m512 a) {
    float in[16];
    int32_t out[16];
    memcpy(in, &a, sizeof in);
    for (int i = 0; i < 16; i++) out[i] = _mm_cvtss_si32(_mm_set_ss(in[i]));
    return _mm512_loadu_si512(out);
}
inline __m128i to_bytes(__m512i a) {
    uint32_t in[16];
    uint8_t out[16];
    memcpy(in, &a, sizeof in);
    for (int i = 0; i < 16; i++) out[i] = static_cast<uint8_t>(in[i] < 255 ? in[i] : 255);
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(out));
}
inline __m512 from_bytes(const int8_t* p) {
    float out[16];
    for (int i = 0; i < 16; i++) out[i] = static_cast<float>(p[i]);
    return _mm512_loadu_ps(out);
}
inline void add_products(__m512i& sum, __m512i rows, __m512i weights) {
    sum = _mm512_dpbusd_epi32(sum, rows, weights);
}

#else

inline __m512 from_integers(__m512i a) { return _mm512_cvtepi32_ps(a); }
inline __m512i to_integers(__m512 a) { return _mm512_cvtps_epi32(a); }
inline __m128i to_bytes(__m512i a) { return _mm512_cvtusepi32_epi8(a); }
inline __m512 from_bytes(const int8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
// In assembly, because gcc 12 copies the sums of the intrinsic back and forth, or spills them.
inline void add_products(__m512i& sum, __m512i rows, __m512i weights) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(rows), "v"(weights));
}

#endif

static inline __m512i broadcast(const uint8_t* four) {
    int32_t value;
    __builtin_memcpy(&value, four, sizeof value);
    return _mm512_set1_epi32(value);
}

// Sixteen vectors of sixteen 32-bit lanes, rows to columns.
static inline void transpose_lanes(__m512i (&r)[16]) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int j = 0; j < 4; j++) {
        const __m512i even = _mm512_shuffle_i32x4(r[j], r[4 + j], 0x88);
        const __m512i more_even = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0x88);
        const __m512i odd = _mm512_shuffle_i32x4(r[j], r[4 + j], 0xdd);
        const __m512i more_odd = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0xdd);
        t[j] = _mm512_shuffle_i32x4(even, more_even, 0x88);
        t[4 + j] = _mm512_shuffle_i32x4(odd, more_odd, 0x88);
        t[8 + j] = _mm512_shuffle_i32x4(even, more_even, 0xdd);
        t[12 + j] = _mm512_shuffle_i32x4(odd, more_odd, 0xdd);
    }
    for (int i = 0; i < 16; i++) r[i] = t[i];
}

#define EMBEDRT_LOOKS_UP 1  // V::look_up, for activations.h

struct V {
#if defined(__AVX512BF16__)
    static constexpr bool BF16 = true;
    static inline __m256i to_bf16(__m512 a) { return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(a)); }
    static inline void store_bf16(uint16_t* p, __m512 a) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), to_bf16(a));
    }
#else
    static constexpr bool BF16 = false;
    static void store_bf16(uint16_t*, __m512);
#endif
    static constexpr int W = 16;
    static constexpr int F32_VECTORS = PANEL_VECTORS;
    using F = __m512;
    using Bits = __m512i;

    static inline F load(const float* p) { return _mm512_loadu_ps(p); }
    static inline F load_i8(const int8_t* p) { return from_bytes(p); }
    static inline void store(float* p, F a) { _mm512_storeu_ps(p, a); }
    static inline F set1(float x) { return _mm512_set1_ps(x); }
    static inline F add(F a, F b) { return _mm512_add_ps(a, b); }
    static inline F sub(F a, F b) { return _mm512_sub_ps(a, b); }
    static inline F mul(F a, F b) { return _mm512_mul_ps(a, b); }
    // By the reciprocal: 6 instructions where the divider takes 16 cycles, and the same quotients for every float32 that an
    // activation is given (all tried, but for the sign of zero).
    static inline F div(F a, F b) {
#if !defined(EMBEDRT_SIMDE)
        if constexpr (QUOTIENTS_BY_RECIPROCAL) {
            const F near = _mm512_rcp14_ps(b), inverse = fma(near, fnma(near, b, set1(1.0f)), near);
            const F quotient = mul(a, inverse);
            return fma(fnma(quotient, b, a), inverse, quotient);
        }
#endif
        return _mm512_div_ps(a, b);
    }
    static inline F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
    static inline F fnma(F a, F b, F c) { return _mm512_fnmadd_ps(a, b, c); }
    static inline F min(F a, F b) { return _mm512_min_ps(a, b); }
    static inline F max(F a, F b) { return _mm512_max_ps(a, b); }
    static inline F magnitude(F a) { return _mm512_abs_ps(a); }
    // Of sixteen numbers the one whose number the lowest four bits are.
    static inline F look_up(const float (&table)[16], F bits) {
        return _mm512_permutexvar_ps(_mm512_castps_si512(bits), _mm512_load_ps(table));
    }
    // maxps gives its second operand where either is NaN
    static inline F max_nan(F a, F b) { return _mm512_max_ps(a, b); }
    static inline F select_negative(F sign, F negative, F otherwise) {
        return _mm512_mask_blend_ps(_mm512_movepi32_mask(_mm512_castps_si512(sign)), otherwise, negative);
    }
    static inline F round(F a) { return _mm512_roundscale_ps(a, 8); }
    static inline F scale_by_power(F a, F whole) {
        const __m512i power = _mm512_add_epi32(to_integers(whole), _mm512_set1_epi32(127));
        return _mm512_mul_ps(a, _mm512_castsi512_ps(_mm512_slli_epi32(power, 23)));
    }
    static inline __m256 half(F a, int which) {
        const __m512d d = _mm512_castps_pd(a);
        return _mm256_castpd_ps(which ? _mm512_extractf64x4_pd(d, 1) : _mm512_extractf64x4_pd(d, 0));
    }
    static inline float reduce_add(F a) {
        const __m256 both = _mm256_add_ps(half(a, 0), half(a, 1));
        __m128 sum = _mm_add_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps(both, 1));
        sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
        return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
    }
    static inline float reduce_max(F a) {
        const __m256 both = _mm256_max_ps(half(a, 0), half(a, 1));
        __m128 top = _mm_max_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps(both, 1));
        top = _mm_max_ps(top, _mm_movehl_ps(top, top));
        return _mm_cvtss_f32(_mm_max_ss(top, _mm_movehdup_ps(top)));
    }
    static inline Bits zero_bits() { return _mm512_setzero_si512(); }
    static inline Bits max_magnitude(Bits bits, F a) {
        return _mm512_max_epi32(bits, _mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(0x7fffffff)));
    }
    static inline float as_float(Bits bits) {
        const __m256i both = _mm256_max_epi32(_mm512_extracti64x4_epi64(bits, 0), _mm512_extracti64x4_epi64(bits, 1));
        __m128i top = _mm_max_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
        top = _mm_max_epi32(top, _mm_shuffle_epi32(top, 0x4e));
        top = _mm_max_epi32(top, _mm_shuffle_epi32(top, 0xb1));
        return _mm_cvtss_f32(_mm_castsi128_ps(top));
    }
    static inline void transpose(const float* in, size_t stride, int rows, float* out, size_t out_stride) {
        __m512i r[16];
        for (int j = 0; j < 16; j++)
            r[j] = j < rows ? _mm512_loadu_si512(in + static_cast<size_t>(j) * stride) : _mm512_setzero_si512();
        transpose_lanes(r);
        for (int j = 0; j < 16; j++) _mm512_storeu_si512(out + static_cast<size_t>(j) * out_stride, r[j]);
    }
};

struct Nothing {
    inline void operator()(int) const {}
};

// R rows times N vectors of columns: every step multiplies the next four bytes of a row with 64 of each vector; all rows
// begin with the sums in `start`, and emit(row, vector, sum) takes them where they are, row by row. Work that needs little of
// the multipliers costs next to nothing while they are busy: beside(i) does some of it in step i. A name for each sum, because
// gcc 12 keeps an array of them on the stack.
template <class Multiply, bool FETCH, int R, int N, class Emit, class Beside = Nothing>
static inline void multiply_tile(const void* rows_from, size_t stride, const void* panel_from, size_t panel_stride,
                                 int steps, const __m512i (&start)[N], Ahead ahead, Emit emit, Beside beside = {}) {
    const auto* rows = static_cast<const uint8_t*>(rows_from);
    const auto* lower = rows + 3 * stride;
    const auto* panel = static_cast<const uint8_t*>(panel_from);
    const char* next = ahead.data;
    [[maybe_unused]] __m512i c0 = start[0], c1 = start[N > 1 ? 1 : 0], c2 = start[N > 2 ? 2 : 0], c3 = start[N > 3 ? 3 : 0];
#define EACH_ROW(DO) DO(0, rows) DO(1, rows) DO(2, rows) DO(3, lower) DO(4, lower) DO(5, lower)
#define DECLARE(r, base) [[maybe_unused]] __m512i s##r##0 = c0, s##r##1 = c1, s##r##2 = c2, s##r##3 = c3;
#define ADD(r, base)                                                               \
    if constexpr (R > r) {                                                         \
        const __m512i x = broadcast((base) + static_cast<size_t>(r % 3) * stride); \
        Multiply::add(s##r##0, x, c0);                                             \
        if constexpr (N > 1) Multiply::add(s##r##1, x, c1);                        \
        if constexpr (N > 2) Multiply::add(s##r##2, x, c2);                        \
        if constexpr (N > 3) Multiply::add(s##r##3, x, c3);                        \
    }
#define EMIT(r, base)                              \
    if constexpr (R > r) {                         \
        emit(r, 0, s##r##0);                       \
        if constexpr (N > 1) emit(r, 1, s##r##1);  \
        if constexpr (N > 2) emit(r, 2, s##r##2);  \
        if constexpr (N > 3) emit(r, 3, s##r##3);  \
    }
    EACH_ROW(DECLARE)
    for (int i = 0; i < steps; i++, panel += panel_stride, rows += 4, lower += 4) {
        beside(i);
        c0 = _mm512_loadu_si512(panel);
        if constexpr (N > 1) c1 = _mm512_loadu_si512(panel + 64);
        if constexpr (N > 2) c2 = _mm512_loadu_si512(panel + 128);
        if constexpr (N > 3) c3 = _mm512_loadu_si512(panel + 192);
        if constexpr (FETCH) {
            __builtin_prefetch(next, 0, 2), __builtin_prefetch(next + ahead.second, 0, 2);
            next += ahead.step;
        }
        EACH_ROW(ADD)
    }
    EACH_ROW(EMIT)
#undef EACH_ROW
#undef DECLARE
#undef ADD
#undef EMIT
}

// Products of unsigned and signed bytes, by fours.
struct ByteProducts {
    static inline void add(__m512i& sum, __m512i rows, __m512i weights) { add_products(sum, rows, weights); }
};

struct Int8 {
    static constexpr int ROWS = 6, COLUMNS = 16 * PANEL_VECTORS, K_UNIT = 4, K_STEP = 4;
    static Operands operands(int) { return Operands::unsigned_rows; }

    struct Row {
        static constexpr int VECTORS = 1;
        uint8_t* out;
        int zero;

        inline Row(void* to, int, int zero_point) : out(static_cast<uint8_t*>(to)), zero(zero_point) {}
        inline void put(int i, const __m512 (&a)[1]) {
            const __m512i q = _mm512_add_epi32(to_integers(a[0]), _mm512_set1_epi32(zero));
            const __m128i bytes = to_bytes(_mm512_max_epi32(q, _mm512_setzero_si512()));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), bytes);
        }
        inline void finish() {}

        static size_t bytes(int width) { return static_cast<size_t>(width); }
        static void read(const void* row, int width, int zero, float* out) {
            for (int i = 0; i < width; i++) out[i] = static_cast<float>(static_cast<const uint8_t*>(row)[i] - zero);
        }
    };

    template <int R, class Emit>
    static inline void multiply(const uint8_t* rows, size_t stride, const int8_t* panel, const int32_t* start, int k,
                                Ahead ahead, Emit emit) {
        __m512i from[PANEL_VECTORS];
        for (int j = 0; j < PANEL_VECTORS; j++) from[j] = _mm512_loadu_si512(start + 16 * j);
        multiply_tile<ByteProducts, true, R, PANEL_VECTORS>(rows, stride, panel, COLUMNS * K_UNIT, k / K_UNIT, from, ahead,
                                                [&](int r, int j, __m512i sum) { emit(r, j, from_integers(sum)); });
    }
};
