// AVX512-VNNI.
#include "kernels.h"

#if defined(EMBEDRT_SIMDE)
// Tests of this file on machines without the instructions: https://github.com/simd-everywhere/simde
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx2.h>
#include <simde/x86/avx512.h>
#include <simde/x86/fma.h>
#include <string.h>
#else
#include <immintrin.h>
#endif

namespace embedrt {
namespace {

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

struct V {
    static constexpr int W = 16;
    static constexpr int F32_VECTORS = 4;
    using F = __m512;
    using Bits = __m512i;

    static inline F load(const float* p) { return _mm512_loadu_ps(p); }
    static inline F load_i8(const int8_t* p) { return from_bytes(p); }
    static inline void store(float* p, F a) { _mm512_storeu_ps(p, a); }
    static inline F set1(float x) { return _mm512_set1_ps(x); }
    static inline F add(F a, F b) { return _mm512_add_ps(a, b); }
    static inline F sub(F a, F b) { return _mm512_sub_ps(a, b); }
    static inline F mul(F a, F b) { return _mm512_mul_ps(a, b); }
    static inline F div(F a, F b) { return _mm512_div_ps(a, b); }
    static inline F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
    static inline F fnma(F a, F b, F c) { return _mm512_fnmadd_ps(a, b, c); }
    static inline F min(F a, F b) { return _mm512_min_ps(a, b); }
    static inline F max(F a, F b) { return _mm512_max_ps(a, b); }
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
    static inline void store_quantized(void* out, int i, F a, int zero) {
        const __m512i q = _mm512_add_epi32(to_integers(a), _mm512_set1_epi32(zero));
        const __m128i bytes = to_bytes(_mm512_max_epi32(q, _mm512_setzero_si512()));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(static_cast<uint8_t*>(out) + i), bytes);
    }
    static inline void transpose(const float* in, size_t stride, int rows, float* out, size_t out_stride) {
        for (int j = 0; j < W; j++)
            for (int c = 0; c < W; c++)
                out[static_cast<size_t>(c) * out_stride + static_cast<size_t>(j)] =
                    j < rows ? in[static_cast<size_t>(j) * stride + static_cast<size_t>(c)] : 0.0f;
    }
};

struct Int8 {
    static constexpr int ROWS = 6, COLUMNS = 64, K_UNIT = 4, ROW_BYTES = 1;

    template <int R>
    struct Tile {
        __m512i sum[R][4];

        inline void run(const uint8_t* rows, size_t stride, const int8_t* panel, const int32_t* start, int k) {
            if constexpr (R == ROWS) return run_full(rows, stride, panel, start, k);
            for (int r = 0; r < R; r++)
                for (int j = 0; j < 4; j++) sum[r][j] = _mm512_loadu_si512(start + 16 * j);
            for (int i = 0; i < k; i += 4, panel += 256, rows += 4) {
                __m512i w[4];
                for (int j = 0; j < 4; j++) w[j] = _mm512_loadu_si512(panel + 64 * j);
                for (int r = 0; r < R; r++) {
                    const __m512i x = broadcast(rows + static_cast<size_t>(r) * stride);
                    for (int j = 0; j < 4; j++) add_products(sum[r][j], x, w[j]);
                }
            }
        }
        inline V::F value(int r, int j) const { return from_integers(sum[r][j]); }

        // The same with a name for each sum, because gcc 12 keeps an array of 24 registers in memory.
        inline void run_full(const uint8_t* rows, size_t stride, const int8_t* panel, const int32_t* start, int k) {
            const uint8_t* lower = rows + 3 * stride;
#define SIX(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5)
#define DECLARE(r) __m512i s##r##0 = c0, s##r##1 = c1, s##r##2 = c2, s##r##3 = c3;
#define ADD(r, base)                                                                            \
    x = broadcast((base) + static_cast<size_t>(r % 3) * stride);                                \
    add_products(s##r##0, x, c0);                                                               \
    add_products(s##r##1, x, c1);                                                               \
    add_products(s##r##2, x, c2);                                                               \
    add_products(s##r##3, x, c3);
#define SAVE(r) sum[r][0] = s##r##0, sum[r][1] = s##r##1, sum[r][2] = s##r##2, sum[r][3] = s##r##3;
            __m512i c0 = _mm512_loadu_si512(start), c1 = _mm512_loadu_si512(start + 16);
            __m512i c2 = _mm512_loadu_si512(start + 32), c3 = _mm512_loadu_si512(start + 48), x;
            SIX(DECLARE)
            for (int i = 0; i < k; i += 4, panel += 256, rows += 4, lower += 4) {
                c0 = _mm512_loadu_si512(panel), c1 = _mm512_loadu_si512(panel + 64);
                c2 = _mm512_loadu_si512(panel + 128), c3 = _mm512_loadu_si512(panel + 192);
                __builtin_prefetch(panel + 2048), __builtin_prefetch(panel + 2112);
                __builtin_prefetch(panel + 2176), __builtin_prefetch(panel + 2240);
                ADD(0, rows) ADD(1, rows) ADD(2, rows) ADD(3, lower) ADD(4, lower) ADD(5, lower)
            }
            SIX(SAVE)
#undef SIX
#undef DECLARE
#undef ADD
#undef SAVE
        }
    };

    static inline __m512i broadcast(const uint8_t* four) {
        int32_t value;
        __builtin_memcpy(&value, four, sizeof value);
        return _mm512_set1_epi32(value);
    }
};

#include "kernels_body.h"

}  // namespace

const Kernels avx512_kernels = make_kernels("avx512vnni");

}  // namespace embedrt
