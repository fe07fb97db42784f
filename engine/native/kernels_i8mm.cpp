// ARM64 with products of matrices of bytes (ARMv8.6 FEAT_I8MM: Graviton 3 and 4, Grace, Apple M2 and later).
#include <arm_neon.h>

#include "kernels.h"

namespace embedrt {
namespace {

#include "neon.h"

// 6 rows times 16 columns: each of 24 sums is 2 rows by 2 columns, of 8 k at once.
struct Int8 {
    static constexpr int ROWS = 6, COLUMNS = 16, K_UNIT = 8, K_STEP = 8;
    static Operands operands(int) { return Operands::signed_rows; }
    using Row = SignedRow;

    template <int R, class Emit>
    static inline void multiply(const uint8_t* rows, size_t stride, const int8_t* panel, const int32_t* start, int k,
                                Ahead ahead, Emit emit) {
        constexpr int PAIRS = (R + 1) / 2, COLUMN_PAIRS = COLUMNS / 2;
        int32x4_t sum[PAIRS][COLUMN_PAIRS];
        for (int c = 0; c < COLUMN_PAIRS; c++) {
            const int32x2_t two = vld1_s32(start + 2 * c);
            for (int p = 0; p < PAIRS; p++) sum[p][c] = vcombine_s32(two, two);
        }
        const auto* from = reinterpret_cast<const int8_t*>(rows);
        const char* next = ahead.data;
        for (int i = 0; i < k; i += K_STEP, panel += COLUMNS * K_STEP) {
            __builtin_prefetch(next, 0, 2), __builtin_prefetch(next + ahead.second, 0, 2);
            next += ahead.step;
            int8x16_t x[PAIRS];
            for (int p = 0; p < PAIRS; p++) {
                const int8_t* first = from + static_cast<size_t>(2 * p) * stride + i;
                // an odd last row is its own neighbour, of whose sums nothing is made
                x[p] = vcombine_s8(vld1_s8(first), vld1_s8(2 * p + 1 < R ? first + stride : first));
            }
            for (int c = 0; c < COLUMN_PAIRS; c++) {
                const int8x16_t weights = vld1q_s8(panel + 2 * c * K_UNIT);
                for (int p = 0; p < PAIRS; p++) sum[p][c] = vmmlaq_s32(sum[p][c], x[p], weights);
            }
        }
        for (int r = 0; r < R; r++)
            for (int j = 0; j < COLUMNS / V::W; j++) {
                const int64x2_t a = vreinterpretq_s64_s32(sum[r / 2][2 * j]), b = vreinterpretq_s64_s32(sum[r / 2][2 * j + 1]);
                emit(r, j, vcvtq_f32_s32(vreinterpretq_s32_s64(r % 2 ? vzip2q_s64(a, b) : vzip1q_s64(a, b))));
            }
    }
};

#include "kernels_body.h"
#include "attention_f32.h"

}  // namespace

const Kernels i8mm_kernels = make_kernels("i8mm", attention_f32);

}  // namespace embedrt
