// Plain C++: the fallback, and what the tests compare the other instruction sets with.
#include "kernels.h"

namespace embedrt {
namespace {

struct V {
    static constexpr int W = 8;
    static constexpr int F32_VECTORS = 2;
    struct F {
        float v[W];
    };
    using Bits = uint32_t;

    template <class Op>
    static inline F each(Op op) {
        F out;
        for (int i = 0; i < W; i++) out.v[i] = op(i);
        return out;
    }
    static inline F load(const float* p) {
        return each([&](int i) { return p[i]; });
    }
    static inline F load_i8(const int8_t* p) {
        return each([&](int i) { return static_cast<float>(p[i]); });
    }
    static constexpr bool BF16 = false;
    static void store_bf16(uint16_t*, F);
    static inline void store(float* p, F a) {
        for (int i = 0; i < W; i++) p[i] = a.v[i];
    }
    static inline F set1(float x) {
        return each([&](int) { return x; });
    }
    static inline F add(F a, F b) {
        return each([&](int i) { return a.v[i] + b.v[i]; });
    }
    static inline F sub(F a, F b) {
        return each([&](int i) { return a.v[i] - b.v[i]; });
    }
    static inline F mul(F a, F b) {
        return each([&](int i) { return a.v[i] * b.v[i]; });
    }
    static inline F div(F a, F b) {
        return each([&](int i) { return a.v[i] / b.v[i]; });
    }
    static inline F fma(F a, F b, F c) {
        return each([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
    }
    // one rounding, as the other instruction sets have it: through double, which holds the product of two floats
    static inline F fnma(F a, F b, F c) {
        return each([&](int i) {
            return static_cast<float>(static_cast<double>(c.v[i]) - static_cast<double>(a.v[i]) * b.v[i]);
        });
    }
    static inline F min(F a, F b) {
        return each([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
    }
    static inline F max(F a, F b) {
        return each([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
    }
    // b where it is NaN
    static inline F max_nan(F a, F b) { return max(a, b); }
    static inline F select_negative(F sign, F negative, F otherwise) {
        return each([&](int i) { return sign.v[i] < 0.0f ? negative.v[i] : otherwise.v[i]; });
    }
    static inline F round(F a) {
        return each([&](int i) { return __builtin_rintf(a.v[i]); });
    }
    static inline F scale_by_power(F a, F whole) {
        return each([&](int i) {
            // NaN has no integer; its product is NaN whatever the power
            const float n = whole.v[i] >= -126.0f ? whole.v[i] : -126.0f;
            const uint32_t bits = static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23;
            float power;
            __builtin_memcpy(&power, &bits, sizeof power);
            return a.v[i] * power;
        });
    }
    static inline float reduce_add(F a) {
        float sum = 0.0f;
        for (int i = 0; i < W; i++) sum += a.v[i];
        return sum;
    }
    static inline float reduce_max(F a) {
        float top = a.v[0];
        for (int i = 1; i < W; i++) top = top > a.v[i] ? top : a.v[i];
        return top;
    }
    static inline Bits zero_bits() { return 0; }
    static inline Bits max_magnitude(Bits bits, F a) {
        for (int i = 0; i < W; i++) {
            uint32_t one;
            __builtin_memcpy(&one, &a.v[i], sizeof one);
            one &= 0x7fffffffu;
            bits = bits > one ? bits : one;
        }
        return bits;
    }
    static inline float as_float(Bits bits) {
        float out;
        __builtin_memcpy(&out, &bits, sizeof out);
        return out;
    }
    static inline void transpose(const float* in, size_t stride, int rows, float* out, size_t out_stride) {
        for (int j = 0; j < W; j++)
            for (int c = 0; c < W; c++)
                out[static_cast<size_t>(c) * out_stride + j] = j < rows ? in[static_cast<size_t>(j) * stride + c] : 0.0f;
    }
};

struct Int8 {
    static constexpr int ROWS = 4, COLUMNS = 16, K_UNIT = 2, K_STEP = 2;
    static Operands operands(int) { return Operands::neither; }

    struct Row {
        static constexpr int VECTORS = 1;
        int16_t* out;
        float low, high;

        Row(void* to, int, int zero)
            : out(static_cast<int16_t*>(to)), low(static_cast<float>(-zero)), high(static_cast<float>(255 - zero)) {}
        void put(int i, const V::F (&a)[1]) {
            for (int j = 0; j < V::W; j++) {
                const float x = a[0].v[j] >= low ? (a[0].v[j] <= high ? a[0].v[j] : high) : low;
                out[i + j] = static_cast<int16_t>(__builtin_rintf(x));
            }
        }
        void finish() {}

        static size_t bytes(int width) { return static_cast<size_t>(width) * sizeof(int16_t); }
        static void read(const void* row, int width, int, float* out) {
            for (int i = 0; i < width; i++) out[i] = static_cast<const int16_t*>(row)[i];
        }
    };

    template <int R, class Emit>
    static void multiply(const uint8_t* rows, size_t stride, const int8_t* panel, const int32_t*, int k, Ahead,
                         Emit emit) {
        int32_t sum[R][COLUMNS] = {};
        for (int i = 0; i < k; i += K_UNIT, panel += COLUMNS * K_UNIT) {
            for (int r = 0; r < R; r++) {
                int16_t x[K_UNIT];
                __builtin_memcpy(x, rows + r * stride + static_cast<size_t>(i) * sizeof x[0], sizeof x);
                for (int n = 0; n < COLUMNS; n++) sum[r][n] += x[0] * panel[2 * n] + x[1] * panel[2 * n + 1];
            }
        }
        for (int r = 0; r < R; r++)
            for (int j = 0; j * V::W < COLUMNS; j++)
                emit(r, j, V::each([&](int i) { return static_cast<float>(sum[r][j * V::W + i]); }));
    }
};

#include "kernels_body.h"
#include "attention_f32.h"

}  // namespace

const Kernels portable_kernels = make_kernels("portable", attention_f32);

}  // namespace embedrt
