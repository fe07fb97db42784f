#include "pass.h"

#include <algorithm>
#include <cstring>

#include "split.h"

namespace embedrt {
namespace {

// Rows per thread under which threads share columns instead of rows. Threads that share rows read all weights each,
// which is what takes the time of few rows; threads that share columns wait for each other at each step.
constexpr int COLUMN_ROWS = 24;
// More than the caches of a machine hold for a few of its cores, as measured with weights of 85 and 302 MB.
constexpr size_t FAR_BYTES = size_t{128} << 20;

// Rows [first, second) of run `index` of `runs`, as even as they come: a tile of five rows is as fast as one of six.
std::pair<int, int> run_range(int rows, int index, int runs) {
    return {part_of(rows, index, runs), part_of(rows, index + 1, runs)};
}

int count_runs(int rows, int threads, int block_rows) {
    const int round = threads * block_rows;
    return std::max(1, (rows + round / 2) / round) * threads;
}

template <class T>
void grow(Array<T>& array, size_t count) {
    if (array.size() < count) array = Array<T>(count);
}

}  // namespace

Pass::Pass(const Encoder& encoder, Workspace& workspace, Pool& pool, const Batch& batch, Profile* profile)
    : model_(encoder.model_), lists_(encoder.lists_), k_(encoder.kernels_), w_(workspace), pool_(pool), batch_(batch),
      profile_(profile), widths_(encoder.widths_), far_(encoder.weight_bytes_ > FAR_BYTES), num_rows_(batch.num_tokens()),
      columns_(are_few(num_rows_)) {
    for (int i = 0; i < batch.num_texts; i++) {
        text_starts_.push_back(batch.offsets[i]);
        longest_ = std::max(longest_, length(i));
    }
    list_tasks();
    block_rows_ = columns_ ? num_rows_ : k_.block_rows + k_.block_rows / 2;
    allocate();
    counters_ = std::make_unique<std::atomic<int>[]>(2 * lists_.size());
}

void Pass::allocate() {
    const auto tokens = static_cast<size_t>(num_rows_), hidden = static_cast<size_t>(model_.hidden);
    const auto context = static_cast<size_t>(widths_.context);
    const auto threads = static_cast<size_t>(pool_.size());
    const size_t slots = columns_ ? 1 : threads, rows = slots * static_cast<size_t>(block_rows_);
    const size_t ones = batch_.wants_one_row() ? static_cast<size_t>(batch_.num_texts) : 0;
    grow(w_.states, (tokens + ones) * hidden);
    grow(w_.context, (tokens + ones) * context);
    grow(w_.heads, tokens * static_cast<size_t>(widths_.heads) * k_.qkv_bytes());
    grow(w_.normed, rows * static_cast<size_t>(widths_.normed));
    grow(w_.wide, rows * static_cast<size_t>(widths_.wide));
    grow(w_.few, rows * static_cast<size_t>(widths_.few));
    grow(w_.quantized, rows * (2 * most_row_bytes(widths_.narrow) + most_row_bytes(widths_.wide)));
    grow(w_.scale, rows * 3);
    if (model_.first_value_twice) grow(w_.values, rows * static_cast<size_t>(std::max(widths_.heads, model_.hidden)));
    grow(w_.scores, threads * scratch_);
    if (ones > 0) {
        one_states_ = w_.states.data() + tokens * hidden;
        one_context_ = w_.context.data() + tokens * context;
    }
}

void Pass::body(int thread) {
    Stopwatch watch(thread == 0 ? profile_ : nullptr);
    for (size_t index = 0; index < lists_.size(); index++) {
        if (index > 0) {
            const bool last = index + 1 == lists_.size();
            attend(index, thread, last && batch_.wants_one_row());
            watch.lap(Part::attention);
            barrier(watch);
        }
        run_list(index, thread, watch);
        if (index + 1 < lists_.size()) barrier(watch);
    }
}

// Runs of rows go depth-first through the whole list. Or, where there are few, all rows at once, each thread doing some of
// the columns; rows are then split only where a step needs whole ones.
void Pass::run_list(size_t index, int thread, Stopwatch& watch) {
    const bool ones = batch_.wants_one_row() && index + 1 == lists_.size();
    const int rows = ones ? batch_.num_texts : num_rows_, parts = pool_.size();
    if (share_columns(rows)) {
        run_steps(lists_[index], run_of(0, rows, 0, ones), {thread, parts}, watch, [&] { barrier(watch); });
        return;
    }
    const int runs = count_runs(rows, parts, k_.block_rows);
    auto& next = counter(index, 0);
    for (int i = next++; i < runs; i = next++) {
        const auto [from, to] = run_range(rows, i, runs);
        if (from < to) run_steps(lists_[index], run_of(from, to - from, thread, ones), {0, 1}, watch, [] {});
    }
}

template <class Sync>
void Pass::run_steps(const Steps& steps, const Run& run, Share share, Stopwatch& watch, Sync sync) {
    for (const Step& step : steps) {
        if (step.barrier) sync();
        run_step(step, run, share);
        watch.lap(step.part);
    }
}

void Pass::run_step(const Step& step, const Run& run, Share share) {
    switch (step.op) {
        case Op::embed: return embed(run, floats(run, step.to), share);
        case Op::place: return place(run, floats(run, step.to), share);
        case Op::norm: return norm(*step.norm, floats(run, step.from), floats(run, step.to), run.count, share);
        case Op::add: return add(floats(run, step.from), step.restore, floats(run, step.to), run.count, share);
        case Op::quantize:
            return quantize(*step.matrix, floats(run, step.from), step.zero, bytes(run, step.from), run.count, share);
        case Op::multiply: return multiply(step, run, share);
        case Op::keep_remainder: return keep_remainder(step, run, share);
        case Op::add_remainder: return add_remainder(step, run, share);
        case Op::finish_heads: return finish_heads(step, run, share);
    }
}

void Pass::embed(const Run& run, Floats out, Share share) {
    const auto size = static_cast<size_t>(model_.embedding_size);
    for (int r = part_of(run.count, share.part, share.parts); r < part_of(run.count, share.part + 1, share.parts); r++) {
        const auto t = static_cast<size_t>(run.from + r), id = static_cast<size_t>(batch_.ids[t]);
        const auto position = static_cast<size_t>(w_.positions[t]);
        Embedding e = model_.word(id);
        if (model_.position) e.position = model_.position + position * size;
        e.type = batch_.seconds == nullptr ? model_.type : model_.type + w_.types[t] * size;
        k_.embed(e, model_.embedding_size, out.data + static_cast<size_t>(r) * out.stride);
    }
}

void Pass::place(const Run& run, Floats out, Share share) {
    const auto hidden = static_cast<size_t>(model_.hidden);
    for (int r = part_of(run.count, share.part, share.parts); r < part_of(run.count, share.part + 1, share.parts); r++) {
        const auto position = static_cast<size_t>(w_.positions[static_cast<size_t>(run.from + r)]);
        std::memcpy(out.data + static_cast<size_t>(r) * out.stride, model_.position + position * hidden,
                    hidden * sizeof(float));
    }
}

void Pass::norm(const Norm& norm, Floats from, Floats to, int count, Share share) {
    for (int i = part_of(count, share.part, share.parts); i < part_of(count, share.part + 1, share.parts); i++) {
        const auto r = static_cast<size_t>(i);
        norm(k_, from.data + r * from.stride, to.data + r * to.stride);
    }
}

void Pass::add(Floats from, const float* restore, Floats to, int count, Share share) {
    for (int i = part_of(count, share.part, share.parts); i < part_of(count, share.part + 1, share.parts); i++) {
        const auto r = static_cast<size_t>(i);
        k_.add(from.data + r * from.stride, restore, model_.hidden, to.data + r * to.stride);
    }
}

// Some of the rows as a product reads them: in 8 bits, in bfloat16, or as they are.
void Pass::quantize(const Matrix& reader, Floats x, int zero, Bytes out, int count, Share share) {
    if (reader.kind == Kind::float32) return;
    const size_t stride = reader.row_bytes(k_);
    for (int r = part_of(count, share.part, share.parts); r < part_of(count, share.part + 1, share.parts); r++) {
        const auto row = static_cast<size_t>(r);
        const float* from = x.data + row * x.stride;
        char* to = out.data + row * stride;
        if (reader.kind == Kind::bfloat16) {
            const size_t bytes = sizeof(uint16_t) * static_cast<size_t>(reader.k());
            k_.narrow_row(from, reader.k(), reinterpret_cast<uint16_t*>(to));
            std::memset(to + bytes, 0, stride - bytes);
        } else {
            k_.quantize(from, reader.k(), zero, to, out.scale + r);
        }
    }
}

// Some of the columns of one product, which reads the rows that were made of `from`, or `from` itself where its weight is
// float32.
void Pass::multiply(const Step& step, const Run& run, Share share) {
    const Matrix& matrix = *step.matrix;
    const int panels = matrix.panels(k_);
    Product product;
    product.num_rows = run.count;
    product.first_panel = part_of(panels, share.part, share.parts);
    product.last_panel = part_of(panels, share.part + 1, share.parts);
    product.epilogue = step.epilogue;
    product.activation = step.activation;
    product.restore = step.restore;
    product.main = step.main > 0 ? step.main : matrix.n();
    if (step.epilogue == Epilogue::narrow) {
        product.out_bf16 = reinterpret_cast<uint16_t*>(run.heads);
        product.out_stride = static_cast<size_t>(widths_.heads);
    } else {
        const Floats out = floats(run, step.to);
        product.out = out.data;
        product.out_stride = out.stride;
    }
    product.few = run.few.data;
    product.few_stride = run.few.stride;
    if (matrix.kind == Kind::float32) {
        const Floats in = floats(run, step.from);
        product.rows = in.data;
        product.row_stride = in.stride * sizeof(float);
        return k_.product_f32(matrix.f32, product);
    }
    const Bytes in = bytes(run, step.from);
    product.rows = in.data;
    product.row_stride = matrix.row_bytes(k_);
    product.row_scale = in.scale;
    matrix.kind == Kind::int8 ? k_.product_i8(matrix.i8, product) : k_.product_bf16(matrix.bf16, product);
}

Pass::Floats Pass::floats(const Run& run, Rows rows) const {
    switch (rows) {
        case Rows::states: return run.states;
        case Rows::normed: return run.normed;
        case Rows::wide: return run.wide;
        case Rows::few: return run.few;
        case Rows::context: return run.context;
        case Rows::pixels: return run.pixels;
        case Rows::heads: break;
    }
    return {reinterpret_cast<float*>(run.heads), static_cast<size_t>(widths_.heads)};
}

// `ones`: rows of which there is one for each text.
Pass::Run Pass::run_of(int first_row, int count, int slot, bool ones) const {
    const auto width = [](int columns) { return static_cast<size_t>(columns); };
    const auto first = static_cast<size_t>(first_row);
    const size_t narrow = most_row_bytes(widths_.narrow), broad = most_row_bytes(widths_.wide);
    const auto size = static_cast<size_t>(block_rows_), before = static_cast<size_t>(slot) * size;
    const size_t values = width(std::max(widths_.heads, model_.hidden));
    char* quantized = w_.quantized.data() + before * (2 * narrow + broad);
    float* scale = w_.scale.data() + before * 3;
    const auto own = [&](Array<float>& rows, int columns) -> Floats {
        return {rows.data() + before * width(columns), width(columns)};
    };
    return {.states = {(ones ? one_states_ : w_.states.data()) + first * width(model_.hidden), width(model_.hidden)},
            .normed = own(w_.normed, widths_.normed),
            .wide = own(w_.wide, widths_.wide),
            .few = own(w_.few, widths_.few),
            .context = {(ones ? one_context_ : w_.context.data()) + first * width(widths_.context), width(widths_.context)},
            .pixels = {const_cast<float*>(batch_.pixels) + first * width(model_.patch.k()), width(model_.patch.k())},  // read
            .heads = head_row(first),
            .rows = {quantized, scale},
            .inner = {quantized + size * narrow, scale + size},
            .values = {w_.values.data() + before * values, values},
            .remainders = {quantized + size * (narrow + broad), scale + 2 * size},
            .text_starts = ones ? std::span<const int>() : text_starts(first_row, first_row + count),
            .from = first_row,
            .count = count};
}

std::span<const int> Pass::text_starts(int from, int to) const {
    const auto first = std::lower_bound(text_starts_.begin(), text_starts_.end(), from);
    return {first, std::lower_bound(first, text_starts_.end(), to)};
}

// Room for a row of this width, in 8 bits or in bfloat16.
size_t Pass::most_row_bytes(int width) const {
    return std::max(k_.row_bytes(width), k_.bf16_bytes ? k_.bf16_bytes(width) : 0);
}

bool Pass::are_few(int rows) const {
    return pool_.size() > 1 && rows < std::max(pool_.size() * COLUMN_ROWS, far_ ? k_.far_rows : 0);
}

// Whether threads share the columns of so few rows.
bool Pass::share_columns(int rows) const { return are_few(rows) && rows <= block_rows_; }

void Pass::barrier(Stopwatch& watch) {
    pool_.barrier();
    watch.lap(Part::wait);
}

}  // namespace embedrt
