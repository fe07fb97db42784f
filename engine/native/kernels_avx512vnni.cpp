// AVX512-VNNI, with attention in float32.
#include "avx512_headers.h"
#include "kernels.h"

namespace embedrt {
namespace {

constexpr int PANEL_VECTORS = 4;
constexpr bool QUOTIENTS_BY_RECIPROCAL = false;

#include "avx512.h"
#include "kernels_body.h"
#include "attention_f32.h"
#include "overlapped.h"

}  // namespace

constinit const Kernels avx512vnni_kernels = []() constexpr {
    Kernels kernels = make_kernels("avx512vnni", attention_f32);
    kernels.product_i8 = product_overlapped<BytesTile>;
    return kernels;
}();

}  // namespace embedrt
