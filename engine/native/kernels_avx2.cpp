// AVX2 and FMA, without VNNI.
//
// vpmaddubsw multiplies unsigned with signed bytes and adds pairs of products in 16 bits, which two large neighbours
// would saturate: 255 * (127 + 127) > 32767. Whether a row's neighbours do is known when it is quantized, for any
// weights. Rows around 128 are the signed operand: where a pair adds up to 128 at most, 128 * 255 is no more than 32767.
// An activation's rows are the unsigned one: up to 256, -128 * 256 is no less than -32768. What a pair has over that is
// multiplied by itself, so that sums are exact.
#include <immintrin.h>

#include "kernels.h"

namespace embedrt {
namespace {

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

// What four elements of a row leave over: four more bytes that meet the same weights.
struct Overflow {
    int32_t four;
    uint8_t left[4];
};

// A quantized row begins with this; a byte for each element follows, then the overflows.
struct alignas(16) RowHead {
    int32_t start;      // of rows around 128: -128 times the row's sum
    int32_t overflows;  // a multiple of OVERFLOWS_AT_ONCE, filled up with zeros
};

struct Int8 {
    static constexpr int ROWS = 6, COLUMNS = 16, K_UNIT = 4, K_STEP = 16, OVERFLOWS_AT_ONCE = 4;
    static constexpr size_t HEAD = sizeof(RowHead);

    static Operands operands(int zero) {
        return zero == CENTRE ? Operands::unsigned_weights : Operands::unsigned_rows;
    }

    class Row {
       public:
        static constexpr int VECTORS = 2;

        inline Row(void* to, int width, int zero)
            : head_(static_cast<RowHead*>(to)), bytes_(static_cast<uint8_t*>(to) + HEAD),
              overflows_(reinterpret_cast<Overflow*>(bytes_ + width)), next_(overflows_), zero_(zero),
              sum_(_mm_setzero_si128()) {}

        inline void put(int i, const __m256 (&a)[2]) {
            // rint, and saturation to what a byte holds
            __m256i wide = _mm256_packs_epi32(_mm256_cvtps_epi32(a[0]), _mm256_cvtps_epi32(a[1]));
            wide = _mm256_permute4x64_epi64(wide, 0xd8);
            __m128i bytes, over;
            if (zero_ == CENTRE) {
                bytes = _mm_packs_epi16(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
                const __m128i pairs = _mm_maddubs_epi16(_mm_set1_epi8(1), bytes);
                sum_ = _mm_add_epi32(sum_, _mm_madd_epi16(pairs, _mm_set1_epi16(1)));
                const __m128i most = _mm_set1_epi16(128), least = _mm_set1_epi16(-128);
                over = _mm_sub_epi16(pairs, _mm_min_epi16(_mm_max_epi16(pairs, least), most));
            } else {
                wide = _mm256_adds_epi16(wide, _mm256_set1_epi16(static_cast<short>(zero_)));
                bytes = _mm_packus_epi16(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
                const __m128i pairs = _mm_maddubs_epi16(bytes, _mm_set1_epi8(1));
                over = _mm_subs_epu16(pairs, _mm_set1_epi16(256));
            }
            // the pair's second byte leaves it over
            const __m128i left = _mm_slli_epi16(over, 8);
            _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes_ + i), _mm_sub_epi8(bytes, left));
            if (__builtin_expect(!_mm_testz_si128(left, left), 0)) keep(i / 4, left);
        }

        inline void finish() {
            int32_t lanes[4];
            _mm_storeu_si128(reinterpret_cast<__m128i*>(lanes), sum_);
            head_->start = -128 * (lanes[0] + lanes[1] + lanes[2] + lanes[3]);
            while ((next_ - overflows_) % OVERFLOWS_AT_ONCE != 0) *next_++ = {};
            head_->overflows = static_cast<int32_t>(next_ - overflows_);
        }

        // Room for an overflow of every four elements, and to write one more. An odd number of lines, so that equal
        // places of neighbouring rows lie in different sets of the caches.
        static size_t bytes(int width) {
            const auto elements = static_cast<size_t>(width);
            return (HEAD + elements + (elements / 4 + 1) * sizeof(Overflow) + 63) / 64 * 64 | 64;
        }

        static void read(const void* row, int width, int zero, float* out) {
            const auto* head = static_cast<const RowHead*>(row);
            const auto* bytes = static_cast<const uint8_t*>(row) + HEAD;
            const auto number = [=](uint8_t byte) { return zero == CENTRE ? static_cast<int8_t>(byte) : int{byte}; };
            for (int i = 0; i < width; i++)
                out[i] = static_cast<float>(number(bytes[i]) - (zero == CENTRE ? 0 : zero));
            const auto* overflow = reinterpret_cast<const Overflow*>(bytes + width);
            for (int e = 0; e < head->overflows; e++, overflow++)
                for (int j = 0; j < 4; j++) out[4 * overflow->four + j] += static_cast<float>(number(overflow->left[j]));
        }

       private:
        // Those of four fours that have something left.
        inline void keep(int four, __m128i left) {
            int32_t bytes[4];
            _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes), left);
            for (int i = 0; i < 4; i++) {
                next_->four = four + i;
                __builtin_memcpy(next_->left, bytes + i, sizeof bytes[i]);
                next_ += bytes[i] != 0;
            }
        }

        RowHead* head_;
        uint8_t* bytes_;
        Overflow *overflows_, *next_;
        int zero_;
        __m128i sum_;
    };

    // Sums of R rows times 16 columns; there are always six, because one piece of assembly serves all R.
    struct Sums {
        __m256i of[ROWS][2];
    };

    // `start`: of unsigned rows; null for rows around 128, which have their own.
    template <int R, class Emit>
    static inline void multiply(const uint8_t* rows, size_t stride, const int8_t* panel, const int32_t* start, int k,
                                Ahead ahead, Emit emit) {
        if (start == nullptr) return multiply<R, Operands::unsigned_weights>(rows, stride, panel, start, k, ahead, emit);
        multiply<R, Operands::unsigned_rows>(rows, stride, panel, start, k, ahead, emit);
    }

    template <int R, Operands OPERANDS, class Emit>
    static inline void multiply(const uint8_t* rows, size_t stride, const int8_t* panel, const int32_t* start, int k,
                                Ahead ahead, Emit emit) {
        Sums sums;
        const auto row = [=](int r) { return rows + static_cast<size_t>(r) * stride; };
        for (int r = 0; r < R; r++)
            for (int j = 0; j < 2; j++)
                sums.of[r][j] = OPERANDS == Operands::unsigned_rows
                                    ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(start + 8 * j))
                                    : _mm256_set1_epi32(reinterpret_cast<const RowHead*>(row(r))->start);
        add_rows<R, OPERANDS>(rows + HEAD, stride, panel, k, ahead, sums);
        for (int r = 0; r < R; r++) {
            add_overflows<OPERANDS>(row(r), panel, k, sums.of[r]);
            for (int j = 0; j < 2; j++) emit(r, j, _mm256_cvtepi32_ps(sums.of[r][j]));
        }
    }

    template <Operands OPERANDS>
    static inline void add_overflows(const uint8_t* row, const int8_t* panel, int k, __m256i (&sums)[2]) {
        const int count = reinterpret_cast<const RowHead*>(row)->overflows;
        const auto* overflow = reinterpret_cast<const Overflow*>(row + HEAD + k);
        const __m256i ones = _mm256_set1_epi16(1);
        for (int e = 0; e < count; e += OVERFLOWS_AT_ONCE)
            for (int i = 0; i < OVERFLOWS_AT_ONCE; i++, overflow++) {
                const int8_t* weights = panel + static_cast<size_t>(overflow->four) * COLUMNS * K_UNIT;
                int32_t left;
                __builtin_memcpy(&left, overflow->left, sizeof left);
                const __m256i x = _mm256_set1_epi32(left);
                for (int j = 0; j < 2; j++) {
                    const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights + 32 * j));
                    const __m256i pairs = OPERANDS == Operands::unsigned_rows ? _mm256_maddubs_epi16(x, w)
                                                                              : _mm256_maddubs_epi16(w, x);
                    sums[j] = _mm256_add_epi32(sums[j], _mm256_madd_epi16(pairs, ones));
                }
            }
    }

    // In assembly, because gcc 12 keeps half of the twelve sums on the stack. Four k a step, four steps a turn:
    // ymm0-11 sums, ymm12-13 weights, ymm14-15 products.
    template <int R, Operands OPERANDS>
    static inline void add_rows(const uint8_t* rows, size_t stride, const int8_t* panel, int k, Ahead ahead,
                                Sums& sums) {
        alignas(32) static const int16_t ones[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
        const uint8_t* lower = rows + (R > 3 ? 3 * stride : 0);
        size_t turns = static_cast<size_t>(k) / K_STEP;
        const size_t stride2 = 2 * stride;
#define LOAD(s, byte) "vmovdqa " byte "(%[sums]), %%ymm" #s "\n"
#define SAVE(s, byte) "vmovdqa %%ymm" #s ", " byte "(%[sums])\n"
#define ALL(DO)                                                                                            \
    DO(0, "0") DO(1, "32") DO(2, "64") DO(3, "96") DO(4, "128") DO(5, "160") DO(6, "192") DO(7, "224")     \
    DO(8, "256") DO(9, "288") DO(10, "320") DO(11, "352")
// the signed operand, the unsigned one, the product
#define WEIGHTS_UNSIGNED(row, weights, product) "vpmaddubsw " row ", " weights ", " product "\n"
#define ROWS_UNSIGNED(row, weights, product) "vpmaddubsw " weights ", " row ", " product "\n"
#define ROW(PAIRS, address, a, b)                                                                              \
    "vpbroadcastd " address ", %%ymm14\n"                                                                      \
    PAIRS("%%ymm14", "%%ymm12", "%%ymm15") PAIRS("%%ymm14", "%%ymm13", "%%ymm14")                              \
    "vpmaddwd %[ones], %%ymm15, %%ymm15\n vpmaddwd %[ones], %%ymm14, %%ymm14\n"                                \
    "vpaddd %%ymm15, %%ymm" #a ", %%ymm" #a "\n vpaddd %%ymm14, %%ymm" #b ", %%ymm" #b "\n"
#define EACH_1(PAIRS, byte) ROW(PAIRS, byte "(%[rows])", 0, 1)
#define EACH_2(PAIRS, byte) EACH_1(PAIRS, byte) ROW(PAIRS, byte "(%[rows],%[stride])", 2, 3)
#define EACH_3(PAIRS, byte) EACH_2(PAIRS, byte) ROW(PAIRS, byte "(%[rows],%[stride2])", 4, 5)
#define EACH_4(PAIRS, byte) EACH_3(PAIRS, byte) ROW(PAIRS, byte "(%[lower])", 6, 7)
#define EACH_5(PAIRS, byte) EACH_4(PAIRS, byte) ROW(PAIRS, byte "(%[lower],%[stride])", 8, 9)
#define EACH_6(PAIRS, byte) EACH_5(PAIRS, byte) ROW(PAIRS, byte "(%[lower],%[stride2])", 10, 11)
#define STEP(EACH, PAIRS, byte, w0, w1) \
    "vmovdqu " w0 "(%[panel]), %%ymm12\n vmovdqu " w1 "(%[panel]), %%ymm13\n" EACH(PAIRS, byte)
#define RUN(EACH, PAIRS)                                                                                      \
    asm volatile(                                                                                             \
        ALL(LOAD)                                                                                             \
        ".p2align 5\n1:\n"                                                                                    \
        "prefetcht1 (%[next])\n prefetcht1 (%[next],%[second])\n add %[step], %[next]\n"                      \
        STEP(EACH, PAIRS, "0", "0", "32") STEP(EACH, PAIRS, "4", "64", "96")                                  \
        STEP(EACH, PAIRS, "8", "128", "160") STEP(EACH, PAIRS, "12", "192", "224")                            \
        "add $16, %[rows]\n add $16, %[lower]\n add $256, %[panel]\n dec %[turns]\n jnz 1b\n"                 \
        ALL(SAVE)                                                                                             \
        : [rows] "+r"(rows), [lower] "+r"(lower), [panel] "+r"(panel), [turns] "+r"(turns),                   \
          [next] "+r"(ahead.data)                                                                             \
        : [stride] "r"(stride), [stride2] "r"(stride2), [sums] "r"(&sums), [ones] "m"(ones),                  \
          [second] "r"(ahead.second), [step] "r"(ahead.step)                                                  \
        : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",     \
          "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15")
#define CASE(n)                                                                                 \
    if constexpr (R == n && OPERANDS == Operands::unsigned_rows) RUN(EACH_##n, ROWS_UNSIGNED);  \
    if constexpr (R == n && OPERANDS == Operands::unsigned_weights) RUN(EACH_##n, WEIGHTS_UNSIGNED);
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#undef LOAD
#undef SAVE
#undef ALL
#undef WEIGHTS_UNSIGNED
#undef ROWS_UNSIGNED
#undef ROW
#undef EACH_1
#undef EACH_2
#undef EACH_3
#undef EACH_4
#undef EACH_5
#undef EACH_6
#undef STEP
#undef RUN
#undef CASE
    }
};

#include "kernels_body.h"
#include "attention_f32.h"

}  // namespace

const Kernels avx2_kernels = make_kernels("avx2", attention_f32);

}  // namespace embedrt
