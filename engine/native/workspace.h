// The memory of one pass.
#pragma once

#include <cstdint>
#include <vector>

#include "memory.h"

namespace embedrt {

// What one pass writes, grown to the largest batch so far.
struct Workspace {
    Array<float> x, context, scores, wide, rest, scale, left;
    Array<char> quantized, qkv;  // qkv: of what the kernel of attention wants
    std::vector<int32_t> positions;
    int longest = 0;
};

}  // namespace embedrt
