// ARM64 with the dot product of bytes (ARMv8.2 FEAT_DotProd: Graviton 2, Ampere Altra, Apple M1 and later).
#include <arm_neon.h>

#include "kernels.h"

namespace embedrt {
namespace {

#include "neon.h"

// 5 rows times 16 columns: 20 sums, the next 16 bytes of each row, and the weights of one step, in 29 registers.
struct Int8 {
    static constexpr int ROWS = 5, COLUMNS = 16, K_UNIT = 4, K_STEP = 16;
    static Operands operands(int) { return Operands::signed_rows; }
    using Row = SignedRow;

    template <int R, class Emit>
    static inline void multiply(const uint8_t* rows, size_t stride, const int8_t* panel, const int32_t* start, int k,
                                Ahead ahead, Emit emit) {
        int32x4_t sum[R][4];
        for (int r = 0; r < R; r++)
            for (int j = 0; j < 4; j++) sum[r][j] = vld1q_s32(start + 4 * j);
        const char* next = ahead.data;
        for (int i = 0; i < k; i += K_STEP, panel += COLUMNS * K_STEP) {
            __builtin_prefetch(next, 0, 2), __builtin_prefetch(next + ahead.second, 0, 2);
            next += ahead.step;
            int8x16_t x[R];
            for (int r = 0; r < R; r++) x[r] = vld1q_s8(reinterpret_cast<const int8_t*>(rows) + static_cast<size_t>(r) * stride + i);
            step<0, R>(panel, x, sum);
            step<1, R>(panel, x, sum);
            step<2, R>(panel, x, sum);
            step<3, R>(panel, x, sum);
        }
        for (int r = 0; r < R; r++)
            for (int j = 0; j < 4; j++) emit(r, j, vcvtq_f32_s32(sum[r][j]));
    }

    // The LANE-th four bytes of each row with 16 columns.
    template <int LANE, int R>
    static inline void step(const int8_t* panel, const int8x16_t (&x)[R], int32x4_t (&sum)[R][4]) {
        for (int j = 0; j < 4; j++) {
            const int8x16_t weights = vld1q_s8(panel + (LANE * COLUMNS + 4 * j) * K_UNIT);
            for (int r = 0; r < R; r++) sum[r][j] = vdotq_laneq_s32(sum[r][j], weights, x[r], LANE);
        }
    }
};

#include "kernels_body.h"
#include "attention_f32.h"

}  // namespace

const Kernels dotprod_kernels = make_kernels("dotprod", attention_f32);

}  // namespace embedrt
