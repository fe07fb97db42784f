// Encoders without blocks: rows of the token table, or their means.
#pragma once

#include "encoder.h"
#include "pool.h"

namespace embedrt {

// (T, H), or (num_texts, H), of a batch that was checked. No row is written that is not asked for, so that a mean of a
// million tokens takes the memory of one.
void look_up(const Model& model, const Kernels& kernels, Pool& pool, const Batch& batch, float* out);

}  // namespace embedrt
