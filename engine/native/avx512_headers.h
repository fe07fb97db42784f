// What avx512.h and overlapped.h need, to be included outside of every namespace: the intrinsics of AVX512, or their emulation.
#pragma once

#include <optional>

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

