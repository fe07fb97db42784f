// AVX2 and FMA: the vectors of the tables of kernels that have no wider ones. Included before kernels_body.h, in the same
// anonymous namespace, after <immintrin.h>.

struct V {
    static constexpr int W = 8;
    static constexpr int F32_VECTORS = 2;
    using F = __m256;
    using Bits = __m256i;

    static inline F load(const float* p) { return _mm256_loadu_ps(p); }
    static inline F load_i8(const int8_t* p) {
        return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
    }
    static constexpr bool BF16 = false;
    static void store_bf16(uint16_t*, F);
    static inline void store(float* p, F a) { _mm256_storeu_ps(p, a); }
    static inline F set1(float x) { return _mm256_set1_ps(x); }
    static inline F add(F a, F b) { return _mm256_add_ps(a, b); }
    static inline F sub(F a, F b) { return _mm256_sub_ps(a, b); }
    static inline F mul(F a, F b) { return _mm256_mul_ps(a, b); }
    static inline F div(F a, F b) { return _mm256_div_ps(a, b); }
    static inline F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
    static inline F fnma(F a, F b, F c) { return _mm256_fnmadd_ps(a, b, c); }
    static inline F min(F a, F b) { return _mm256_min_ps(a, b); }
    static inline F max(F a, F b) { return _mm256_max_ps(a, b); }
    // maxps gives its second operand where either is NaN
    static inline F max_nan(F a, F b) { return _mm256_max_ps(a, b); }
    static inline F select_negative(F sign, F negative, F otherwise) {
        return _mm256_blendv_ps(otherwise, negative, sign);
    }
    static inline F round(F a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
    static inline F scale_by_power(F a, F whole) {
        const __m256i power = _mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127));
        return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(power, 23)));
    }
    static inline float reduce_add(F a) {
        __m128 sum = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
        sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
        return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
    }
    static inline float reduce_max(F a) {
        __m128 top = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
        top = _mm_max_ps(top, _mm_movehl_ps(top, top));
        return _mm_cvtss_f32(_mm_max_ss(top, _mm_movehdup_ps(top)));
    }
    static inline Bits zero_bits() { return _mm256_setzero_si256(); }
    static inline Bits max_magnitude(Bits bits, F a) {
        return _mm256_max_epi32(bits, _mm256_and_si256(_mm256_castps_si256(a), _mm256_set1_epi32(0x7fffffff)));
    }
    static inline float as_float(Bits bits) {
        __m128i top = _mm_max_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
        top = _mm_max_epi32(top, _mm_shuffle_epi32(top, 0x4e));
        top = _mm_max_epi32(top, _mm_shuffle_epi32(top, 0xb1));
        return _mm_cvtss_f32(_mm_castsi128_ps(top));
    }
    static inline void transpose(const float* in, size_t stride, int rows, float* out, size_t out_stride) {
        F r[8];
        for (int j = 0; j < 8; j++) r[j] = j < rows ? load(in + static_cast<size_t>(j) * stride) : set1(0.0f);
        F t[8];
        for (int j = 0; j < 8; j += 2) {
            t[j] = _mm256_unpacklo_ps(r[j], r[j + 1]);
            t[j + 1] = _mm256_unpackhi_ps(r[j], r[j + 1]);
        }
        for (int j = 0; j < 8; j += 4) {
            r[j] = _mm256_shuffle_ps(t[j], t[j + 2], 0x44);
            r[j + 1] = _mm256_shuffle_ps(t[j], t[j + 2], 0xee);
            r[j + 2] = _mm256_shuffle_ps(t[j + 1], t[j + 3], 0x44);
            r[j + 3] = _mm256_shuffle_ps(t[j + 1], t[j + 3], 0xee);
        }
        for (int j = 0; j < 4; j++) {
            store(out + static_cast<size_t>(j) * out_stride, _mm256_permute2f128_ps(r[j], r[j + 4], 0x20));
            store(out + static_cast<size_t>(j + 4) * out_stride, _mm256_permute2f128_ps(r[j], r[j + 4], 0x31));
        }
    }
};
