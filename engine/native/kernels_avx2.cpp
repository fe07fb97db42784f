// AVX2 and FMA, without VNNI.
#include <immintrin.h>

#include "kernels.h"

namespace embedrt {
namespace {

#include "avx2.h"
#include "rows_avx2.h"

struct Int8 {
    static constexpr int ROWS = 6, COLUMNS = 16, K_UNIT = 4, K_STEP = 16;
    using Row = QuantizedRow;

    static Operands operands(int zero) {
        return zero == CENTRE ? Operands::unsigned_weights : Operands::unsigned_rows;
    }

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
        add_rows<R, OPERANDS>(rows + sizeof(RowHead), stride, panel, k, ahead, sums);
        for (int r = 0; r < R; r++) {
            add_overflows<OPERANDS>(row(r), panel, k, sums.of[r]);
            for (int j = 0; j < 2; j++) emit(r, j, _mm256_cvtepi32_ps(sums.of[r][j]));
        }
    }

    template <Operands OPERANDS>
    static inline void add_overflows(const uint8_t* row, const int8_t* panel, int k, __m256i (&sums)[2]) {
        const int count = reinterpret_cast<const RowHead*>(row)->overflows;
        const auto* overflow = reinterpret_cast<const Overflow*>(row + sizeof(RowHead) + k);
        const __m256i ones = _mm256_set1_epi16(1);
        for (int e = 0; e < count; e++, overflow++) {
            const int8_t* weights = panel + static_cast<size_t>(overflow->four) * COLUMNS * K_UNIT;
            int32_t remainder;
            __builtin_memcpy(&remainder, overflow->remainder, sizeof remainder);
            const __m256i x = _mm256_set1_epi32(remainder);
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
