// float32 to bfloat16 and back without the processor's help.
#pragma once

#include <cstdint>
#include <cstring>

namespace embedrt {

// Rounded to the nearest, ties to even; not for NaN.
inline uint16_t to_bf16(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

inline float from_bf16(uint16_t x) {
    const uint32_t bits = static_cast<uint32_t>(x) << 16;
    float out;
    std::memcpy(&out, &bits, sizeof out);
    return out;
}

}  // namespace embedrt
