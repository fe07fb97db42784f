#include "pack.h"

#include <atomic>
#include <cstring>
#include <memory>

#include "bfloat16.h"

namespace embedrt {
namespace {

// k_unit consecutive rows of `count` columns, interleaved: out[column][j]. To flip the sign is to add 128 without one.
template <int UNIT>
void interleave(const int8_t* in, size_t stride, int count, int8_t flip, int8_t* out) {
    for (int n = 0; n < count; n++)
        for (int j = 0; j < UNIT; j++)
            out[n * UNIT + j] =
                static_cast<int8_t>(in[static_cast<size_t>(j) * stride + static_cast<size_t>(n)] ^ flip);
}

struct Span {
    const Source* source;
    int from, to, count;  // columns of the source, of the panel
};

// The sources' columns from `first` on, `width` of them if there are so many, which lie in the panel from `at` on.
void add_spans(const std::vector<Source>& sources, int first, int width, int at, std::vector<Span>& out) {
    int start = 0;
    for (const Source& source : sources) {
        const int low = start > first ? start : first;
        const int high = start + source.n < first + width ? start + source.n : first + width;
        if (low < high) out.push_back({&source, low - start, at + low - first, high - low});
        start += source.n;
    }
}

constexpr size_t PIECE = size_t{2} << 20;

// body(0) to body(count - 1), on all threads.
template <class Body>
void share(Pool& pool, size_t count, const Body& body) {
    std::atomic<size_t> next{0};
    pool.run([&](int) {
        for (size_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) body(i);
    });
}

}  // namespace

size_t Packer::reserve(size_t bytes) {
    const size_t at = size_;
    size_ += (bytes + 63) / 64 * 64;
    return at;
}

// A weight's columns, and those of its gate.
struct Packer::Columns {
    std::vector<Source> sources, gates;

    std::vector<Span> of_panel(int panel, int width) const {
        std::vector<Span> out;
        if (gates.empty()) {
            add_spans(sources, panel * width, width, 0, out);
        } else {
            const int half = width / 2;
            add_spans(gates, panel * half, half, 0, out);
            add_spans(sources, panel * half, half, half, out);
        }
        return out;
    }
};

void Packer::matrix(Matrix& matrix, int k, std::vector<Source> sources, int zero, Kind float_kind,
                    std::vector<Source> gates) {
    int n = 0;
    for (const Source& source : sources) n += source.n;
    const int width = kernels_.panel_columns;
    matrix.paired = !gates.empty();
    matrix.i8.k = matrix.f32.k = matrix.bf16.k = k;
    matrix.i8.n = matrix.f32.n = matrix.bf16.n = n;
    const int panels = matrix.panels(kernels_);
    const size_t columns = static_cast<size_t>(panels) * static_cast<size_t>(width);
    matrix.kind = sources.front().scale != nullptr ? Kind::int8 : float_kind;
    const int element = matrix.kind == Kind::int8 ? 1 : matrix.kind == Kind::bfloat16 ? 2 : 4;
    const int whole = matrix.kind == Kind::float32 ? 1 : kernels_.depth_bytes;
    const int depth = (k * element + whole - 1) / whole * whole / element;
    matrix.i8.depth = matrix.bf16.depth = depth;
    const size_t bytes = columns * static_cast<size_t>(depth * element);
    const size_t data = reserve(bytes), bias = reserve(columns * 4), scale = reserve(columns * 4);
    const size_t start = reserve(columns * 4);
    const Operands operands = kernels_.operands(zero);
    const bool keeps_zero = operands == Operands::unsigned_rows || operands == Operands::signed_rows;
    placed_.push_back([=, &matrix](const char* base) {
        matrix.i8.data = reinterpret_cast<const int8_t*>(base + data);
        matrix.f32.data = reinterpret_cast<const float*>(base + data);
        matrix.bf16.data = reinterpret_cast<const uint16_t*>(base + data);
        matrix.i8.bias = matrix.f32.bias = matrix.bf16.bias = reinterpret_cast<const float*>(base + bias);
        matrix.i8.scale = reinterpret_cast<const float*>(base + scale);
        matrix.i8.start = keeps_zero ? reinterpret_cast<const int32_t*>(base + start) : nullptr;
    });
    const auto shared = std::make_shared<Columns>(Columns{std::move(sources), std::move(gates)});
    for (int panel = 0; panel < panels; panel++)
        jobs_.push_back([this, &matrix, shared, panel, zero] { pack_panel(matrix, *shared, panel, zero); });
}

void Packer::vector(const float*& out, const float* data, int count, float missing, float factor) {
    const size_t at = reserve(static_cast<size_t>(count) * sizeof(float));
    placed_.push_back([&out, at](const char* base) { out = reinterpret_cast<const float*>(base + at); });
    jobs_.push_back([&out, data, count, missing, factor] {
        auto* to = const_cast<float*>(out);
        for (int i = 0; i < count; i++) to[i] = data ? data[i] * factor : missing;
    });
}

void Packer::pack_panel(const Matrix& matrix, const Columns& columns, int panel, int zero) const {
    const int width = kernels_.panel_columns, k = matrix.k(), unit = kernels_.k_unit;
    const size_t first = static_cast<size_t>(panel) * static_cast<size_t>(width);
    const size_t panel_at = first * static_cast<size_t>(matrix.kind == Kind::float32 ? k : matrix.i8.depth);
    auto* bias = const_cast<float*>(matrix.f32.bias) + first;
    auto* scale = const_cast<float*>(matrix.i8.scale) + first;
    const auto flip = static_cast<int8_t>(kernels_.operands(zero) == Operands::unsigned_weights ? -128 : 0);
    std::vector<int32_t> sums(static_cast<size_t>(width), 0);
    for (const Span& span : columns.of_panel(panel, width)) {
        const Source& source = *span.source;
        const size_t stride = static_cast<size_t>(source.stride > 0 ? source.stride : source.n);
        for (int n = 0; n < span.count; n++) {
            bias[span.to + n] = source.bias ? source.bias[span.from + n] * source.factor : 0.0f;
            if (matrix.kind == Kind::int8) scale[span.to + n] = source.scale[span.from + n] * source.factor;
        }
        if (matrix.kind == Kind::bfloat16) {
            uint16_t* out = const_cast<uint16_t*>(matrix.bf16.data) + panel_at + span.to * 2;
            const float* in = static_cast<const float*>(source.weight) + span.from;
            for (int i = 0; i < k; i += 2, out += width * 2, in += 2 * stride)
                for (int n = 0; n < span.count; n++) {
                    out[2 * n] = to_bf16(in[n] * source.factor);
                    out[2 * n + 1] = to_bf16(in[stride + static_cast<size_t>(n)] * source.factor);
                }
            continue;
        }
        if (matrix.kind == Kind::float32) {
            float* out = const_cast<float*>(matrix.f32.data) + panel_at + span.to;
            const float* in = static_cast<const float*>(source.weight) + span.from;
            for (int i = 0; i < k; i++, out += width, in += stride)
                for (int n = 0; n < span.count; n++) out[n] = in[n] * source.factor;
            continue;
        }
        int8_t* out = const_cast<int8_t*>(matrix.i8.data) + panel_at + span.to * unit;
        const int8_t* in = static_cast<const int8_t*>(source.weight) + span.from;
        for (int i = 0; i < k; i += unit, out += width * unit, in += stride * static_cast<size_t>(unit)) {
            if (unit == 2) interleave<2>(in, stride, span.count, flip, out);
            if (unit == 4) interleave<4>(in, stride, span.count, flip, out);
            if (unit == 8) interleave<8>(in, stride, span.count, flip, out);
            if (matrix.i8.start == nullptr) continue;
            for (int n = 0; n < span.count; n++)
                for (int j = 0; j < unit; j++) sums[static_cast<size_t>(span.to + n)] += out[n * unit + j];
        }
    }
    if (matrix.kind != Kind::int8 || matrix.i8.start == nullptr) return;
    auto* start = const_cast<int32_t*>(matrix.i8.start) + first;
    const int shift = kernels_.operands(zero) == Operands::signed_rows ? 128 : 0;
    for (int n = 0; n < width; n++) start[n] = (shift - zero) * sums[static_cast<size_t>(n)];
}

Array<char> Packer::finish(Pool& pool) {
    Array<char> storage(size_);
    place(storage.data());
    // Zeros first: columns that do not exist, and whatever else nothing is written to, so that it can be kept in a file.
    const size_t pieces = (size_ + PIECE - 1) / PIECE;
    share(pool, pieces, [&](size_t i) {
        const size_t first = i * PIECE;
        std::memset(storage.data() + first, 0, size_ - first < PIECE ? size_ - first : PIECE);
    });
    share(pool, jobs_.size(), [&](size_t i) { jobs_[i](); });
    jobs_.clear();
    return storage;
}

void Packer::take(const char* packed) {
    place(packed);
    jobs_.clear();
}

void Packer::place(const char* base) {
    for (const auto& set : placed_) set(base);
    placed_.clear();
}

Matrix pack_matrix(const Kernels& kernels, int k, int n, int zero, const void* weight, const float* scale,
                   const float* bias, bool paired, Array<char>& storage, Kind float_kind) {
    Matrix matrix;
    Packer packer(kernels);
    std::vector<Source> sources = {Source{weight, scale, bias, n, 1.0f}}, gates;
    if (paired) {
        // the gate's columns come first
        const int half = n / 2;
        const auto part = [&](int from) {
            const size_t size = scale ? 1 : sizeof(float);
            return Source{static_cast<const char*>(weight) + static_cast<size_t>(from) * size, scale ? scale + from : nullptr,
                          bias + from, half, 1.0f, n};
        };
        gates = {part(0)};
        sources = {part(half)};
    }
    packer.matrix(matrix, k, std::move(sources), zero, float_kind, std::move(gates));
    Pool alone(1);
    storage = packer.finish(alone);
    return matrix;
}

}  // namespace embedrt
