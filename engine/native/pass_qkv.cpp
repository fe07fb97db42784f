// Q, K and V of a block of rows, and the second row of V for the texts' first tokens.
#include <algorithm>
#include <cstring>

#include "bfloat16.h"
#include "pass.h"
#include "split.h"

namespace embedrt {

void Pass::project_qkv(size_t index, const Block& block, char* qkv, Share share) {
    Product product;
    product.num_rows = block.count;
    if (k_.attention.bfloat16) {
        product.epilogue = Epilogue::narrow;
        product.out_bf16 = reinterpret_cast<uint16_t*>(qkv);
    } else {
        product.out = reinterpret_cast<float*>(qkv);
    }
    product.out_stride = 3 * static_cast<size_t>(hidden_);
    const Matrix& matrix = model_.layers[index].qkv;
    multiply(matrix, product, block.x, block.rows, share);
    if (takes_left(matrix)) add_left(matrix, block, qkv, share);
}

// Rows of x for Q, K and V, and what they leave of the texts' first tokens.
void Pass::quantize_qkv(size_t index, const Block& block, Share share) {
    const Matrix& reader = model_.layers[index].qkv;
    quantize(reader, block.x, CENTRE, block.rows, block.count, share);
    if (!takes_left(reader)) return;
    const int from = part_of(block.count, share.part, share.parts);
    const int to = part_of(block.count, share.part + 1, share.parts);
    const size_t stride = reader.row_bytes(k_);
    for (size_t i = 0; i < block.text_starts.size(); i++) {
        const int row = block.text_starts[i] - block.from;
        if (row < from || row >= to) continue;
        const auto r = static_cast<size_t>(row);
        float* left = block.left.data + i * block.left.stride;
        k_.remainder(block.x.data + r * block.x.stride, hidden_, block.rows.data + r * stride,
                     block.rows.scale[r], left);
        k_.quantize(left, hidden_, CENTRE, block.left_rows.data + i * stride, block.left_rows.scale + i);
    }
}

// Adds the product of those rows to V, in the columns that this thread has just written.
void Pass::add_left(const Matrix& matrix, const Block& block, char* qkv, Share share) {
    const int width = k_.panel_columns;
    Product product;
    product.first_panel = std::max(part_of(panels(matrix), share.part, share.parts), 2 * hidden_ / width);
    product.last_panel = part_of(panels(matrix), share.part + 1, share.parts);
    const int first = std::max(product.first_panel * width, 2 * hidden_);
    const int columns = std::min(product.last_panel * width, 3 * hidden_) - first;
    if (columns <= 0 || block.text_starts.empty()) return;

    const auto element = [&](size_t i) {
        const auto row = static_cast<size_t>(block.text_starts[i] - block.from);
        return 3 * row * static_cast<size_t>(hidden_) + static_cast<size_t>(first);
    };
    const auto left = [&](size_t i) { return block.left.data + i * block.left.stride + first; };
    const size_t count = block.text_starts.size(), size = static_cast<size_t>(columns);
    for (size_t i = 0; i < count; i++) {
        if (!k_.attention.bfloat16) {
            std::memcpy(left(i), reinterpret_cast<const float*>(qkv) + element(i), size * sizeof(float));
            continue;
        }
        const uint16_t* value = reinterpret_cast<const uint16_t*>(qkv) + element(i);
        for (size_t c = 0; c < size; c++) left(i)[c] = from_bf16(value[c]);
    }
    product.epilogue = Epilogue::accumulate;
    product.num_rows = static_cast<int>(count);
    product.rows = block.left_rows.data;
    product.row_stride = matrix.row_bytes(k_);
    product.row_scale = block.left_rows.scale;
    product.out = block.left.data;
    product.out_stride = block.left.stride;
    product.main = matrix.n();
    k_.product_i8(matrix.i8, product);
    for (size_t i = 0; i < count; i++) {
        if (k_.attention.bfloat16)
            k_.narrow_row(left(i), columns, reinterpret_cast<uint16_t*>(qkv) + element(i));
        else
            std::memcpy(reinterpret_cast<float*>(qkv) + element(i), left(i), size * sizeof(float));
    }
}

bool Pass::takes_left(const Matrix& matrix) const { return model_.first_value_twice && matrix.kind == Kind::int8; }

}  // namespace embedrt
