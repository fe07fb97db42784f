// The weights of blocks and of single products and norms: tensors found by name, checked, and given to the packer.
#pragma once

#include <string>
#include <vector>

#include "model.h"
#include "pack.h"
#include "tensors.h"

namespace embedrt {

constexpr int MAX_WIDTH = 32768;  // 255 * 128 * K must fit in 31 bits

// `value`, if the kernels take it as a width; throws Refusal otherwise, as all here.
int multiple_of_16(const std::string& what, int64_t value);

// What it is given to fill must stay where it is until the packer has finished.
class WeightReader {
   public:
    WeightReader(const Tensors& tensors, const Kernels& kernels, Packer& packer, int hidden)
        : tensors_(tensors), kernels_(kernels), packer_(packer), hidden_(hidden) {}

    // Of a block of these numbers; `name` is "layers.{i}.".
    void block(Weights& weights, const Block& block, const embedrt_block& numbers, const std::string& name);
    void product(Matrix& matrix, const std::string& name, int k, int n, int zero);
    // Nothing, where the numbers say that there is none; its gamma and beta are packed times `factor`.
    void norm(Norm& norm, const std::string& name, const embedrt_norm& numbers, int width, float factor = 1.0f);

   private:
    std::vector<Source> qkv_sources(const std::string& name, const Looks& looks, float factor) const;
    void feed_forward(Weights& weights, const Block& block, const embedrt_feed_forward& numbers, const std::string& name);
    Source source(const std::string& name, int k, int n, const float* bias, float factor = 1.0f) const;
    Source with_bias(const std::string& name, int k, int n) const;
    // What products become that the file has in float32: half the work in bfloat16, and far nearer than 8 bits.
    Kind float_kind() const { return kernels_.product_bf16 ? Kind::bfloat16 : Kind::float32; }

    const Tensors& tensors_;
    const Kernels& kernels_;
    Packer& packer_;
    const int hidden_;
};

}  // namespace embedrt
