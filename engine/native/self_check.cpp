#include "self_check.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "bfloat16.h"
#include "pack.h"

namespace embedrt {
namespace {

using Floats = std::vector<float>;

// One more than two tiles of rows, columns and depths that end within a tile, and heads that do.
constexpr int ROWS = 33, DEPTH = 80, COLUMNS = 96, KEYS = 35, HEAD = 48, HEADS = 2;

// Whole numbers from -127 to 127: exact in 8 bits and in bfloat16, and so are their products and sums.
class Numbers {
   public:
    int next() {
        state_ = state_ * 1664525u + 1013904223u;
        return static_cast<int>((state_ >> 16) % 255u) - 127;
    }
    Floats floats(size_t count, float scale = 1.0f) {
        Floats out(count);
        for (float& one : out) one = static_cast<float>(next()) * scale;
        return out;
    }

   private:
    uint32_t state_ = 20;
};

// Relative to the largest of the wanted; NaN is a difference.
bool close(const Floats& got, const Floats& wanted, float tolerance) {
    float largest = 1.0f;
    for (float one : wanted) largest = std::fmax(largest, std::fabs(one));
    for (size_t i = 0; i < got.size(); i++)
        if (!(std::fabs(got[i] - wanted[i]) <= tolerance * largest)) return false;
    return true;
}

constexpr float ROUNDINGS = 1e-5f;      // of float32, in another order
constexpr float NARROW = 1.0f / 64.0f;  // of bfloat16: its last place and what comes together

size_t size(int a, int b) { return static_cast<size_t>(a) * static_cast<size_t>(b); }

// Rows (ROWS, DEPTH) whose step is 1, whatever the zero point.
Floats whole_rows(int zero) {
    Numbers numbers;
    Floats rows = numbers.floats(size(ROWS, DEPTH));
    const float largest = static_cast<float>(255 - zero), least = static_cast<float>(-zero);
    for (size_t i = 0; i < rows.size(); i++) rows[i] = i % DEPTH == 7 ? largest : std::fmax(rows[i], least);
    return rows;
}

struct Quantized {
    std::vector<char> rows;
    Floats scale, read;
};

Quantized quantize(const Kernels& kernels, const Floats& x, int zero) {
    const size_t bytes = kernels.row_bytes(DEPTH);
    Quantized out{std::vector<char>(bytes * ROWS + 256), Floats(ROWS), Floats(x.size())};
    for (size_t r = 0; r < ROWS; r++) {
        kernels.quantize(x.data() + r * DEPTH, DEPTH, zero, out.rows.data() + r * bytes, &out.scale[r]);
        kernels.read_row(out.rows.data() + r * bytes, DEPTH, zero, out.read.data() + r * DEPTH);
    }
    return out;
}

// A product with its epilogue, of int8, float32 or bfloat16.
Floats multiply(const Kernels& kernels, Kind kind, Epilogue epilogue, int zero) {
    Numbers numbers;
    const bool paired = epilogue == Epilogue::gate;
    const Floats x = whole_rows(zero), scale(COLUMNS, 1e-4f), bias = numbers.floats(COLUMNS, 1e-2f);
    const Floats restore = numbers.floats(COLUMNS, 1e-2f);
    std::vector<int8_t> whole(size(DEPTH, COLUMNS));
    Floats wide(whole.size());
    for (size_t i = 0; i < whole.size(); i++) whole[i] = static_cast<int8_t>(numbers.next()), wide[i] = whole[i] / 128.0f;
    Array<char> storage;
    const bool eight = kind == Kind::int8;
    const Matrix matrix = pack_matrix(kernels, DEPTH, COLUMNS, zero, eight ? static_cast<const void*>(whole.data()) : wide.data(),
                                      eight ? scale.data() : nullptr, bias.data(), paired, storage, kind);
    const size_t stride = matrix.row_bytes(kernels);
    Array<char> rows(stride * ROWS);
    std::vector<float> row_scale(ROWS);
    for (size_t r = 0; r < ROWS; r++) {
        const float* from = x.data() + r * DEPTH;
        char* to = rows.data() + r * stride;
        std::memset(to, 0, stride);
        if (kind == Kind::int8) kernels.quantize(from, DEPTH, zero, to, &row_scale[r]);
        if (kind == Kind::float32) std::memcpy(to, from, DEPTH * sizeof(float));
        if (kind == Kind::bfloat16) kernels.narrow_row(from, DEPTH, reinterpret_cast<uint16_t*>(to));
    }
    const int columns = matrix.n(), main = columns - 16;
    Floats out(size(ROWS, columns), 0.5f);
    std::vector<uint16_t> narrow(out.size(), 0);
    Product product;
    product.rows = rows.data();
    product.row_stride = stride;
    product.row_scale = row_scale.data();
    product.num_rows = ROWS;
    product.last_panel = matrix.panels(kernels);
    product.epilogue = epilogue;
    product.out = out.data();
    product.out_bf16 = narrow.data();
    product.out_stride = static_cast<size_t>(columns);
    product.main = main;
    product.few = out.data() + main;  // where those columns lie anyway
    product.few_stride = product.out_stride;
    product.restore = restore.data();
    if (kind == Kind::int8) kernels.product_i8(matrix.i8, product);
    if (kind == Kind::float32) kernels.product_f32(matrix.f32, product);
    if (kind == Kind::bfloat16) kernels.product_bf16(matrix.bf16, product);
    if (epilogue == Epilogue::narrow)
        for (size_t i = 0; i < out.size(); i++) out[i] = from_bf16(narrow[i]);
    return out;
}

bool products_differ(const Kernels& kernels, Kind kind) {
    const Kind other = kind == Kind::int8 ? kind : Kind::float32;
    for (const int zero : {CENTRE, 24}) {
        if (zero != CENTRE && kind != Kind::int8) break;
        for (const Epilogue one : {Epilogue::store, Epilogue::activate, Epilogue::residual, Epilogue::accumulate, Epilogue::gate})
            if (!close(multiply(kernels, kind, one, zero), multiply(portable_kernels, other, one, zero), ROUNDINGS)) return true;
        if (kernels.attention.bfloat16 &&
            !close(multiply(kernels, kind, Epilogue::narrow, zero), multiply(portable_kernels, other, Epilogue::store, zero), NARROW))
            return true;
    }
    return false;
}

// Of two heads that share their keys, with biases, to some of the keys before and all behind.
Floats attend(const Kernels& kernels, int before) {
    Numbers numbers;
    const size_t width = (HEADS + 2) * HEAD, bytes = kernels.qkv_bytes(), reach = KEYS + Attention::ALIGNED;
    const Floats values = numbers.floats(KEYS * width, 1.0f / 64.0f);
    const Floats biases = numbers.floats(HEADS * 2 * reach, 1.0f / 64.0f);
    Array<char> qkv(values.size() * bytes);
    for (size_t i = 0; i < values.size(); i++) {
        if (kernels.attention.bfloat16)
            reinterpret_cast<uint16_t*>(qkv.data())[i] = to_bf16(values[i]);
        else
            reinterpret_cast<float*>(qkv.data())[i] = values[i];
    }
    Array<float> scratch(kernels.attention.scratch(KEYS, HEAD));
    Floats out(KEYS * HEADS * HEAD, 100.0f);
    Attention a;
    a.query = qkv.data();
    a.key = qkv.data() + HEADS * HEAD * bytes;
    a.value = qkv.data() + (HEADS + 1) * HEAD * bytes;
    a.stride = width;
    a.num_keys = a.last_query = KEYS;
    a.head_size = HEAD;
    a.num_heads = HEADS;
    a.before = before;
    a.bias = biases.data() + reach;
    a.bias_stride = 2 * reach;
    a.out = out.data();
    a.out_stride = HEADS * HEAD;
    a.scratch = scratch.data();
    kernels.attention.run(a);
    return out;
}

// body(kernels, out) fills the same from both tables.
template <class Body>
bool differ(const Kernels& kernels, size_t count, Body body) {
    Floats ours(count, 0.25f), theirs(count, 0.25f);
    body(kernels, ours.data());
    body(portable_kernels, theirs.data());
    return !close(ours, theirs, ROUNDINGS);
}

}  // namespace

std::string differing_kernel(const Kernels& kernels) {
    Numbers numbers;
    const Floats x = numbers.floats(DEPTH, 0.01f), gamma = numbers.floats(DEPTH, 0.01f), beta = numbers.floats(DEPTH, 0.01f);
    for (const int zero : {CENTRE, 24}) {
        const Quantized got = quantize(kernels, whole_rows(zero), zero), wanted = quantize(portable_kernels, whole_rows(zero), zero);
        if (!close(got.scale, wanted.scale, ROUNDINGS) || !close(got.read, wanted.read, 0)) return "quantize";
    }
    const auto remainder = [&](const Kernels& k, float* out) {
        std::vector<char> row(k.row_bytes(DEPTH) + 256);
        float scale;
        k.quantize(x.data(), DEPTH, CENTRE, row.data(), &scale);
        k.remainder(x.data(), DEPTH, row.data(), scale, out);
    };
    if (differ(kernels, DEPTH, remainder)) return "remainder";
    if (products_differ(kernels, Kind::int8)) return "product_i8";
    if (products_differ(kernels, Kind::float32)) return "product_f32";
    if (kernels.product_bf16 && products_differ(kernels, Kind::bfloat16)) return "product_bf16";
    const auto layer = [&](const Kernels& k, float* out) { k.layer_norm(x.data(), DEPTH, gamma.data(), beta.data(), 1e-5f, out); };
    if (differ(kernels, DEPTH, layer)) return "layer_norm";
    const auto rms = [&](const Kernels& k, float* out) { k.rms_norm(x.data(), DEPTH, gamma.data(), beta.data(), 1e-5f, out); };
    if (differ(kernels, DEPTH, rms)) return "rms_norm";
    for (const bool interleaved : {false, true}) {
        const auto turn = [&](const Kernels& k, float* out) { k.rotate(out, DEPTH / 2 - 3, interleaved, x.data()); };
        if (differ(kernels, DEPTH, turn)) return "rotate";
    }
    const auto add = [&](const Kernels& k, float* out) { k.add(x.data(), gamma.data(), DEPTH, out); };
    if (differ(kernels, DEPTH, add)) return "add";
    const auto embed = [&](const Kernels& k, float* out) {
        Embedding e;
        e.word_f32 = x.data();
        e.scale = 0.5f;
        e.position = gamma.data();
        e.type = beta.data();
        k.embed(e, DEPTH, out);
    };
    if (differ(kernels, DEPTH, embed)) return "embed";
    for (const int before : {KEYS, 5})
        if (!close(attend(kernels, before), attend(portable_kernels, before), kernels.attention.bfloat16 ? NARROW : ROUNDINGS))
            return "attention";
    return "";
}

Kernels without_kernel(Kernels kernels, const std::string& name) {
    if (name == "quantize") kernels.quantize = [](const float*, int, int, void*, float*) {};
    else if (name == "remainder") kernels.remainder = [](const float*, int, const void*, float, float*) {};
    else if (name == "product_i8") kernels.product_i8 = [](const PackedI8&, const Product&) {};
    else if (name == "product_f32") kernels.product_f32 = [](const PackedF32&, const Product&) {};
    else if (name == "product_bf16") kernels.product_bf16 = [](const PackedBf16&, const Product&) {};
    else if (name == "layer_norm") kernels.layer_norm = [](const float*, int, const float*, const float*, float, float*) {};
    else if (name == "rms_norm") kernels.rms_norm = [](const float*, int, const float*, const float*, float, float*) {};
    else if (name == "rotate") kernels.rotate = [](float*, int, bool, const float*) {};
    else if (name == "add") kernels.add = [](const float*, const float*, int, float*) {};
    else if (name == "embed") kernels.embed = [](const Embedding&, int, float*) {};
    else if (name == "attention") kernels.attention.run = [](const Attention&) {};
    else throw std::invalid_argument("no kernel is called '" + name + "'");
    return kernels;
}

}  // namespace embedrt
