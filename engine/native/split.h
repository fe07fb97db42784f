// How work is split over threads.
#pragma once

#include <cstdint>

namespace embedrt {

// Where part `part` of `parts` begins, as even as they come; part + 1 is where it ends.
inline int part_of(int total, int part, int parts) {
    return static_cast<int>(static_cast<int64_t>(total) * part / parts);
}

}  // namespace embedrt
