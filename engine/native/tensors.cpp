#include "tensors.h"

#include "refusal.h"

namespace embedrt {

Tensors::Tensors(const embedrt_tensor* tensors, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!by_name_.insert({tensors[i].name, {&tensors[i]}}).second)
            throw Refusal(std::string("the bundle has two tensors called ") + tensors[i].name);
}

const embedrt_tensor* Tensors::find(const std::string& name) const {
    const auto found = by_name_.find(name);
    if (found == by_name_.end()) return nullptr;
    found->second.read = true;
    return found->second.tensor;
}

const embedrt_tensor& Tensors::get(const std::string& name) const {
    const embedrt_tensor* found = find(name);
    if (found == nullptr) throw Refusal("the bundle has no tensor " + name);
    return *found;
}

const float* Tensors::floats(const std::string& name, int64_t rows, int64_t columns, bool optional) const {
    const embedrt_tensor* found = optional ? find(name) : &get(name);
    if (found == nullptr) return nullptr;
    check(*found, EMBEDRT_FLOAT32, rows, columns);
    return static_cast<const float*>(found->data);
}

void Tensors::check(const embedrt_tensor& tensor, int dtype, int64_t rows, int64_t columns) {
    if (tensor.dtype == dtype && tensor.rows == rows && tensor.columns == columns) return;
    const auto shape = [](int64_t r, int64_t c) { return std::to_string(r) + " x " + std::to_string(c); };
    const auto type = [](int d) { return d == EMBEDRT_INT8 ? " int8" : d == EMBEDRT_INT32 ? " int32" : " float32"; };
    throw Refusal(std::string("tensor ") + tensor.name + " is " + shape(tensor.rows, tensor.columns) +
                  type(tensor.dtype) + ", wanted " + shape(rows, columns) + type(dtype));
}

void Tensors::check_all_read() const {
    constexpr size_t NAMED = 4;  // in a message
    std::string names;
    size_t count = 0;
    for (const auto& [name, known] : by_name_)
        if (!known.read && ++count <= NAMED) names += (count > 1 ? ", " : "") + name;
    if (count == 0) return;
    if (count > NAMED) names += " and " + std::to_string(count - NAMED) + " more";
    throw Refusal("nothing reads these tensors of the bundle: " + names);
}

}  // namespace embedrt
