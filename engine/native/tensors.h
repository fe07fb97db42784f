// The tensors of a bundle by name, each fetched with the type and shape that it must have.
#pragma once

#include <map>
#include <string>

#include "embedrt_native.h"

namespace embedrt {

class Tensors {
   public:
    Tensors(const embedrt_tensor* tensors, size_t count);

    // Null where there is none.
    const embedrt_tensor* find(const std::string& name) const;
    const embedrt_tensor& get(const std::string& name) const;
    // float32 of this shape; null if it is not there and may be missing.
    const float* floats(const std::string& name, int64_t rows, int64_t columns, bool optional = false) const;

    // Throws Refusal, as all above, unless the tensor is of this type and shape.
    static void check(const embedrt_tensor& tensor, int dtype, int64_t rows, int64_t columns);
    // A weight that nothing reads means that the model is another one than its numbers say: fewer layers, say.
    void check_all_read() const;

   private:
    struct Known {
        const embedrt_tensor* tensor;
        mutable bool read = false;
    };
    std::map<std::string, Known> by_name_;
};

}  // namespace embedrt
