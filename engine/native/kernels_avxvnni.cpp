// AVX2 and AVX-VNNI, without AVX512 (Alder Lake and later client processors, Sierra Forest): what avx2 computes, bit for bit, with
// sums of int8 in one instruction that cannot saturate.
#include <immintrin.h>

#include "kernels.h"

namespace embedrt {
namespace {

#include "avx2.h"

// In assembly, so that neither compilers nor processors need to know AVX512's form of it.
static inline void add_products(__m256i& sum, __m256i rows, __m256i weights) {
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(rows), "x"(weights));
}

static inline __m256i broadcast(const uint8_t* four) {
    int32_t value;
    __builtin_memcpy(&value, four, sizeof value);
    return _mm256_set1_epi32(value);
}

// A byte without a sign for each element.
struct UnsignedRow {
    static constexpr int VECTORS = 2;
    uint8_t* out;
    int zero;

    inline UnsignedRow(void* to, int, int zero_point) : out(static_cast<uint8_t*>(to)), zero(zero_point) {}
    inline void put(int i, const __m256 (&a)[VECTORS]) {
        // rint, and saturation to what a byte holds
        __m256i wide = _mm256_packs_epi32(_mm256_cvtps_epi32(a[0]), _mm256_cvtps_epi32(a[1]));
        wide = _mm256_adds_epi16(_mm256_permute4x64_epi64(wide, 0xd8), _mm256_set1_epi16(static_cast<short>(zero)));
        const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), bytes);
    }
    inline void finish() {}

    // An odd number of lines, so that equal places of neighbouring rows lie in different sets of the caches.
    static size_t bytes(int width) { return static_cast<size_t>((width + 63) / 64 | 1) * 64; }
    static void read(const void* row, int width, int zero, float* out) {
        for (int i = 0; i < width; i++) out[i] = static_cast<float>(static_cast<const uint8_t*>(row)[i] - zero);
    }
};

// 6 rows times 16 columns: 12 sums, the weights of one step and four bytes of a row, in 15 registers.
struct Int8 {
    static constexpr int ROWS = 6, COLUMNS = 16, K_UNIT = 4, K_STEP = 16;
    using Row = UnsignedRow;
    static Operands operands(int) { return Operands::unsigned_rows; }

    template <int R, class Emit>
    static inline void multiply(const uint8_t* rows, size_t stride, const int8_t* panel, const int32_t* start, int k,
                                Ahead ahead, Emit emit) {
        const uint8_t* lower = rows + 3 * stride;
        const char* next = ahead.data;
        __m256i c0 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(start));
        __m256i c1 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(start + 8));
        // a name for each sum, because gcc 12 keeps an array of them on the stack
#define EACH_ROW(DO) DO(0, rows) DO(1, rows) DO(2, rows) DO(3, lower) DO(4, lower) DO(5, lower)
#define DECLARE(r, base) [[maybe_unused]] __m256i s##r##0 = c0, s##r##1 = c1;
#define ADD(r, base)                                                                       \
    if constexpr (R > r) {                                                                 \
        const __m256i x = broadcast((base) + static_cast<size_t>(r % 3) * stride + 4 * j); \
        add_products(s##r##0, x, c0);                                                      \
        add_products(s##r##1, x, c1);                                                      \
    }
#define EMIT(r, base)                          \
    if constexpr (R > r) {                     \
        emit(r, 0, _mm256_cvtepi32_ps(s##r##0)); \
        emit(r, 1, _mm256_cvtepi32_ps(s##r##1)); \
    }
        EACH_ROW(DECLARE)
        for (int i = 0; i < k; i += K_STEP, rows += K_STEP, lower += K_STEP) {
            __builtin_prefetch(next, 0, 2), __builtin_prefetch(next + ahead.second, 0, 2);
            next += ahead.step;
            for (int j = 0; j < K_STEP / K_UNIT; j++, panel += COLUMNS * K_UNIT) {
                c0 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(panel));
                c1 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(panel + 32));
                EACH_ROW(ADD)
            }
        }
        EACH_ROW(EMIT)
#undef EACH_ROW
#undef DECLARE
#undef ADD
#undef EMIT
    }
};

#include "kernels_body.h"
#include "attention_f32.h"

}  // namespace

const Kernels avxvnni_kernels = make_kernels("avxvnni", attention_f32);

}  // namespace embedrt
