// The memory of one pass.
#pragma once

#include <cstdint>
#include <vector>

#include "memory.h"
#include "tables.h"

namespace embedrt {

// What one pass writes, grown to the largest batch so far.
struct Workspace {
    Array<float> states, context, normed, wide, few, scores, scale, values;
    Array<char> quantized, heads;  // heads: of what the kernel of attention wants
    std::vector<int32_t> positions;
    std::vector<uint8_t> types;  // of the tokens, where they are not all 0
    Tables tables;
};

}  // namespace embedrt
