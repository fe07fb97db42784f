// Packing of weights into the panels that the kernels read.
#pragma once

#include <functional>
#include <vector>

#include "kernels.h"
#include "memory.h"
#include "model.h"
#include "pool.h"

namespace embedrt {

// Columns [first, first + n) of a packed weight come from here; `factor` is applied to the scale (or the float weight)
// and to the bias.
struct Source {
    const void* weight = nullptr;  // (k, n) int8, or float32 if scale is null
    const float* scale = nullptr;  // (n,)
    const float* bias = nullptr;   // (n,) or null: zero
    int n = 0;
    float factor = 1.0f;
    int stride = 0;  // between the weight's rows, where that is not n
};

// Collects what is to be packed, allocates once, and packs on all threads; or takes what was packed before.
class Packer {
   public:
    explicit Packer(const Kernels& kernels) : kernels_(kernels) {}

    // `matrix` and `sources`' arrays must live until `finish`.
    // `float_kind`: what a float32 weight becomes. `gates`, if there are any: as many columns, with which `sources` are
    // paired (kernels.h).
    void matrix(Matrix& matrix, int k, std::vector<Source> sources, int zero, Kind float_kind = Kind::float32,
                std::vector<Source> gates = {});
    // A copy of `count` floats times `factor`, or of as many `missing` if `data` is null.
    void vector(const float*& out, const float* data, int count, float missing, float factor = 1.0f);

    // Bytes of all that was collected.
    size_t size() const { return size_; }
    Array<char> finish(Pool& pool);
    // Nothing is written: `packed` holds what `finish` made of the same collection for the same kernels.
    void take(const char* packed);

   private:
    size_t reserve(size_t bytes);
    void place(const char* base);
    struct Columns;
    void pack_panel(const Matrix& matrix, const Columns& columns, int panel, int zero) const;

    const Kernels& kernels_;
    size_t size_ = 0;
    std::vector<std::function<void(const char*)>> placed_;  // sets the pointers
    std::vector<std::function<void()>> jobs_;               // writes what they point to
};

}  // namespace embedrt
