// Vector type of the ARM64 sets, and rows in 8 bits as both of them read them. Included in their anonymous namespaces.

struct V {
    static constexpr bool BF16 = false;
    static void store_bf16(uint16_t*, float32x4_t);
    static constexpr int W = 4;
    static constexpr int F32_VECTORS = 4;
    using F = float32x4_t;
    using Bits = int32x4_t;

    static inline F load(const float* p) { return vld1q_f32(p); }
    static inline F load_i8(const int8_t* p) {
        int32_t four;
        __builtin_memcpy(&four, p, sizeof four);
        const int8x8_t bytes = vreinterpret_s8_s32(vdup_n_s32(four));
        return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))));
    }
    static inline void store(float* p, F a) { vst1q_f32(p, a); }
    static inline F set1(float x) { return vdupq_n_f32(x); }
    static inline F add(F a, F b) { return vaddq_f32(a, b); }
    static inline F sub(F a, F b) { return vsubq_f32(a, b); }
    static inline F mul(F a, F b) { return vmulq_f32(a, b); }
    static inline F div(F a, F b) { return vdivq_f32(a, b); }
    static inline F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
    static inline F fnma(F a, F b, F c) { return vfmsq_f32(c, a, b); }
    static inline F min(F a, F b) { return vminq_f32(a, b); }
    static inline F max(F a, F b) { return vmaxq_f32(a, b); }
    // NaN where either is
    static inline F max_nan(F a, F b) { return vmaxq_f32(a, b); }
    static inline F select_negative(F sign, F negative, F otherwise) {
        const int32x4_t mask = vshrq_n_s32(vreinterpretq_s32_f32(sign), 31);
        return vbslq_f32(vreinterpretq_u32_s32(mask), negative, otherwise);
    }
    static inline F round(F a) { return vrndnq_f32(a); }
    // NaN's integer is 0, and NaN times 1 is NaN
    static inline F scale_by_power(F a, F whole) {
        const int32x4_t power = vaddq_s32(vcvtnq_s32_f32(whole), vdupq_n_s32(127));
        return vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32(power, 23)));
    }
    static inline float reduce_add(F a) { return vaddvq_f32(a); }
    static inline float reduce_max(F a) { return vmaxvq_f32(a); }
    static inline Bits zero_bits() { return vdupq_n_s32(0); }
    static inline Bits max_magnitude(Bits bits, F a) {
        return vmaxq_s32(bits, vandq_s32(vreinterpretq_s32_f32(a), vdupq_n_s32(0x7fffffff)));
    }
    static inline float as_float(Bits bits) {
        const int32_t top = vmaxvq_s32(bits);
        float out;
        __builtin_memcpy(&out, &top, sizeof out);
        return out;
    }
    static inline void transpose(const float* in, size_t stride, int rows, float* out, size_t out_stride) {
        F r[4];
        for (int j = 0; j < 4; j++) r[j] = j < rows ? load(in + static_cast<size_t>(j) * stride) : set1(0.0f);
        const float64x2_t a = vreinterpretq_f64_f32(vtrn1q_f32(r[0], r[1])), b = vreinterpretq_f64_f32(vtrn2q_f32(r[0], r[1]));
        const float64x2_t c = vreinterpretq_f64_f32(vtrn1q_f32(r[2], r[3])), d = vreinterpretq_f64_f32(vtrn2q_f32(r[2], r[3]));
        store(out, vreinterpretq_f32_f64(vtrn1q_f64(a, c)));
        store(out + out_stride, vreinterpretq_f32_f64(vtrn1q_f64(b, d)));
        store(out + 2 * out_stride, vreinterpretq_f32_f64(vtrn2q_f64(a, c)));
        store(out + 3 * out_stride, vreinterpretq_f32_f64(vtrn2q_f64(b, d)));
    }
};

// A byte for each element: with its zero point it has no sign, so it is kept 128 lower.
struct SignedRow {
    static constexpr int VECTORS = 4;
    int8_t* out;
    int zero;

    inline SignedRow(void* to, int, int zero_point) : out(static_cast<int8_t*>(to)), zero(zero_point) {}
    inline void put(int i, const float32x4_t (&a)[VECTORS]) {
        // rint, and saturation to what a byte holds
        const int32x4_t shift = vdupq_n_s32(zero - 128);
        const auto integers = [&](int j) { return vqmovn_s32(vaddq_s32(vcvtnq_s32_f32(a[j]), shift)); };
        const int8x8_t low = vqmovn_s16(vcombine_s16(integers(0), integers(1)));
        const int8x8_t high = vqmovn_s16(vcombine_s16(integers(2), integers(3)));
        vst1q_s8(out + i, vcombine_s8(low, high));
    }
    inline void finish() {}

    static size_t bytes(int width) { return static_cast<size_t>(width); }
    static void read(const void* row, int width, int zero, float* out) {
        for (int i = 0; i < width; i++) out[i] = static_cast<float>(static_cast<const int8_t*>(row)[i] + 128 - zero);
    }
};
