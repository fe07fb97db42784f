#include "pass.h"

#include <algorithm>
#include <cstring>

#include "split.h"

namespace embedrt {
namespace {

constexpr int BLOCK_ROWS = 48;       // rows that go through a layer's second half together, half more or less
// Rows per thread under which threads share columns instead of rows. With two tiles to a thread, one hides the loading
// of weights for the other; with many threads each would load all weights for few rows (chosen, not measured).
constexpr int COLUMN_ROWS = 8, COLUMN_ROWS_OF_MANY = 24, MANY_THREADS = 5;
constexpr int QUERY_CHUNK = 126;     // query rows of an attention task, where there are few heads to share

// Rows [first, second) of block `index` of `blocks`, as even as they come: a tile of five rows is as fast as one of six.
std::pair<int, int> block_range(int rows, int index, int blocks) {
    return {part_of(rows, index, blocks), part_of(rows, index + 1, blocks)};
}

int count_blocks(int rows, int threads) {
    const int round = threads * BLOCK_ROWS;
    return std::max(1, (rows + round / 2) / round) * threads;
}

bool few_rows(int rows, int threads) {
    return threads > 1 && rows < threads * (threads < MANY_THREADS ? COLUMN_ROWS : COLUMN_ROWS_OF_MANY);
}

template <class T>
void grow(Array<T>& array, size_t count) {
    if (array.size() < count) array = Array<T>(count);
}

}  // namespace

Pass::Pass(const Encoder& encoder, Workspace& workspace, Pool& pool, const Batch& batch, Profile* profile)
    : model_(encoder.model_), k_(encoder.kernels_), w_(workspace), pool_(pool), batch_(batch),
      profile_(profile), hidden_(model_.hidden), inner_(model_.intermediate), num_rows_(batch.num_tokens()),
      columns_(few_rows(num_rows_, pool.size())) {
    const auto tokens = static_cast<size_t>(num_rows_), texts = static_cast<size_t>(batch.num_texts);
    const auto hidden = static_cast<size_t>(hidden_), inner = static_cast<size_t>(inner_);
    const auto threads = static_cast<size_t>(pool.size());
    int longest = 0;
    for (int i = 0; i < batch.num_texts; i++)
        if (batch.offsets[i] < batch.offsets[i + 1]) text_starts_.push_back(batch.offsets[i]);
    for (int i = 0; i < batch.num_texts; i++) longest = std::max(longest, batch.offsets[i + 1] - batch.offsets[i]);
    const bool few = batch.num_texts * model_.heads < 4 * pool.size();
    query_chunk_ = few ? QUERY_CHUNK : longest;
    for (int i = 0; i < batch.num_texts; i++)
        for (int q = 0; q < batch.offsets[i + 1] - batch.offsets[i]; q += query_chunk_) tasks_.emplace_back(i, q);

    block_rows_ = columns_ ? num_rows_ : BLOCK_ROWS + BLOCK_ROWS / 2;
    const size_t slots = columns_ ? 1 : threads, rows = slots * static_cast<size_t>(block_rows_);
    const size_t first = batch.first_only ? texts : 0;
    grow(w_.x, (tokens + first) * hidden);
    grow(w_.context, (tokens + first) * hidden);
    grow(w_.qkv, tokens * 3 * hidden * k_.qkv_bytes());
    grow(w_.wide, rows * inner);
    grow(w_.rest, rows * inner);
    grow(w_.quantized, rows * (2 * most_row_bytes(hidden_) + most_row_bytes(inner_)));
    grow(w_.scale, rows * 3);
    if (model_.first_value_twice) grow(w_.left, rows * 3 * hidden);
    grow(w_.scores, threads * k_.attention.scratch(longest, model_.head_size));
    w_.longest = longest;
    if (batch.first_only) {
        first_ = w_.x.data() + tokens * hidden;
        first_context_ = w_.context.data() + tokens * hidden;
    }
    counters_ = std::make_unique<std::atomic<int>[]>(2 * (model_.layers.size() + 1));
}

void Pass::body(int thread) {
    Stopwatch watch(thread == 0 ? profile_ : nullptr);
    embed(thread, watch);
    for (size_t index = 0; index < model_.layers.size(); index++) layer(index, thread, watch);
}

// Rows of the embeddings, normed, and the first layer's Q, K and V.
void Pass::embed(int thread, Stopwatch& watch) {
    const auto hidden = static_cast<size_t>(hidden_);
    const auto rows = [&](int from, int to) {
        for (int t = from; t < to; t++) {
            const auto id = static_cast<size_t>(batch_.ids[t]);
            const auto position = static_cast<size_t>(w_.positions[static_cast<size_t>(t)]);
            float* x = w_.x.data() + static_cast<size_t>(t) * hidden;
            k_.embed(model_.word_i8 ? model_.word_i8 + id * hidden : nullptr,
                     model_.word_f32 ? model_.word_f32 + id * hidden : nullptr,
                     model_.word_i8 ? model_.word_scale[id] : 1.0f, model_.position + position * hidden, model_.type,
                     hidden_, x);
            k_.layer_norm(x, hidden_, model_.embeddings_norm.gamma, model_.embeddings_norm.beta, model_.epsilon);
        }
    };
    if (columns_) {
        const int parts = pool_.size();
        rows(part_of(num_rows_, thread, parts), part_of(num_rows_, thread + 1, parts));
        watch.lap(Step::embed);
        const Block all = block(0, num_rows_, 0, false);
        quantize_qkv(0, all, {thread, parts});
        watch.lap(Step::quantize);
        barrier(watch);
        project_qkv(0, all, qkv_row(0), {thread, parts});
        watch.lap(Step::qkv);
    } else {
        const int blocks = count_blocks(num_rows_, pool_.size());
        for (int b = counter(0, 0)++; b < blocks; b = counter(0, 0)++) {
            const auto [from, to] = block_range(num_rows_, b, blocks);
            rows(from, to);
            watch.lap(Step::embed);
            const Block mine = block(from, to - from, thread, false);
            quantize_qkv(0, mine, {0, 1});
            watch.lap(Step::quantize);
            project_qkv(0, mine, qkv_row(static_cast<size_t>(from)), {0, 1});
            watch.lap(Step::qkv);
        }
    }
    barrier(watch);
}

void Pass::layer(size_t index, int thread, Stopwatch& watch) {
    const bool first_only = batch_.first_only && index + 1 == model_.layers.size();
    attend(thread, index, first_only);
    if (first_only) gather_first(thread);
    watch.lap(Step::attention);
    barrier(watch);
    if (share_columns(first_only ? batch_.num_texts : num_rows_))
        by_columns(index, thread, first_only, watch);
    else
        by_rows(index, thread, first_only, watch);
    if (index + 1 < model_.layers.size()) barrier(watch);
}

void Pass::attend(int thread, size_t index, bool first_only) {
    const auto hidden = static_cast<size_t>(hidden_), head_size = static_cast<size_t>(model_.head_size);
    const int heads = model_.heads, count = static_cast<int>(tasks_.size()) * heads;
    auto& next = counter(index, 1);
    for (int i = next++; i < count; i = next++) {
        const auto [text, query] = tasks_[static_cast<size_t>(i / heads)];
        if (first_only && query > 0) continue;
        const auto head = static_cast<size_t>(i % heads);
        const auto row = static_cast<size_t>(batch_.offsets[text]);
        Attention a;
        a.num_keys = batch_.offsets[text + 1] - batch_.offsets[text];
        a.head_size = model_.head_size;
        const char* query_rows = qkv_row(row) + head * head_size * k_.qkv_bytes();
        a.query = query_rows;
        a.key = query_rows + hidden * k_.qkv_bytes();
        a.value = query_rows + 2 * hidden * k_.qkv_bytes();
        a.stride = 3 * hidden;
        a.first_query = query;
        a.last_query = first_only ? 1 : std::min(a.num_keys, query + query_chunk_);
        a.out = first_only ? first_context_ + static_cast<size_t>(text) * hidden
                           : w_.context.data() + (row + static_cast<size_t>(query)) * hidden;
        a.out += head * head_size;
        a.out_stride = hidden;
        a.scratch = w_.scores.data() + static_cast<size_t>(thread) * k_.attention.scratch(w_.longest, model_.head_size);
        k_.attention.run(a);
    }
}

// The residual rows of the texts' first tokens, side by side.
void Pass::gather_first(int thread) {
    const auto hidden = static_cast<size_t>(hidden_);
    for (int text = thread; text < batch_.num_texts; text += pool_.size())
        std::memcpy(first_ + static_cast<size_t>(text) * hidden,
                    w_.x.data() + static_cast<size_t>(batch_.offsets[text]) * hidden, hidden * sizeof(float));
}

// Blocks of rows go depth-first through the rest of the layer and the next one's Q, K and V.
void Pass::by_rows(size_t index, int thread, bool first_only, Stopwatch& watch) {
    const int rows = first_only ? batch_.num_texts : num_rows_;
    const int blocks = count_blocks(rows, pool_.size());
    auto& next = counter(index + 1, 0);
    for (int b = next++; b < blocks; b = next++) {
        const auto [from, to] = block_range(rows, b, blocks);
        if (from == to) continue;
        const Block mine = block(from, to - from, thread, first_only);
        finish_layer(index, mine, {0, 1}, {0, 1}, qkv_row(static_cast<size_t>(from)), watch, [] {});
    }
}

// All rows at once, each thread some of the columns; rows are only split where a step needs whole ones.
void Pass::by_columns(size_t index, int thread, bool first_only, Stopwatch& watch) {
    const Share share{thread, pool_.size()};
    const Block all = block(0, first_only ? batch_.num_texts : num_rows_, 0, first_only);
    finish_layer(index, all, share, share, qkv_row(0), watch, [&] { barrier(watch); });
}

template <class Sync>
void Pass::finish_layer(size_t index, const Block& block, Share rows, Share columns, char* qkv, Stopwatch& watch,
                        Sync sync) {
    const Layer& layer = model_.layers[index];
    const bool last = index + 1 == model_.layers.size();
    const Norm& before = index == 0 ? model_.embeddings_norm : model_.layers[index - 1].ffn_norm;

    quantize(layer.output, block.context, CENTRE, block.rows, block.count, rows);
    watch.lap(Step::quantize);
    sync();
    Product output;
    output.epilogue = Epilogue::residual;
    output.num_rows = block.count;
    output.out = block.x.data;
    output.out_stride = block.x.stride;
    output.restore = before.restore;
    multiply(layer.output, output, block.context, block.rows, columns);
    watch.lap(Step::output);
    sync();

    norm(layer.attention_norm, block.x, block.count, rows);
    watch.lap(Step::norm);
    quantize(layer.up, block.x, CENTRE, block.rows, block.count, rows);
    watch.lap(Step::quantize);
    sync();
    Product up;
    up.epilogue = Epilogue::activate;
    up.activation = model_.activation;
    up.num_rows = block.count;
    up.out = block.wide.data;
    up.out_stride = block.wide.stride;
    up.rest = block.rest.data;
    up.rest_stride = block.rest.stride;
    up.main = layer.down.k();
    multiply(layer.up, up, block.x, block.rows, columns);
    watch.lap(Step::up);
    sync();

    quantize(layer.down, block.wide, model_.activation_zero, block.inner, block.count, rows);
    watch.lap(Step::quantize);
    sync();
    Product down;
    down.num_rows = block.count;
    down.out = block.x.data;
    down.out_stride = block.x.stride;
    down.restore = layer.attention_norm.restore;
    down.epilogue = Epilogue::residual;
    if (layer.rest.k() > 0) {
        multiply(layer.rest, down, block.rest, {}, columns);
        down.epilogue = Epilogue::accumulate;
    }
    multiply(layer.down, down, block.wide, block.inner, columns);
    watch.lap(Step::down);
    sync();

    norm(layer.ffn_norm, block.x, block.count, rows);
    watch.lap(Step::norm);
    if (last) return;
    quantize_qkv(index + 1, block, rows);
    watch.lap(Step::quantize);
    sync();
    project_qkv(index + 1, block, qkv, columns);
    watch.lap(Step::qkv);
}

// Some of the rows as a product reads them: in 8 bits, in bfloat16, or as they are.
void Pass::quantize(const Matrix& reader, Floats x, int zero, Bytes out, int count, Share share) {
    if (reader.kind == Kind::float32) return;
    const size_t stride = reader.row_bytes(k_);
    for (int r = part_of(count, share.part, share.parts); r < part_of(count, share.part + 1, share.parts); r++) {
        const auto row = static_cast<size_t>(r);
        const float* from = x.data + row * x.stride;
        char* to = out.data + row * stride;
        if (reader.kind == Kind::bfloat16)
            k_.narrow_row(from, reader.k(), reinterpret_cast<uint16_t*>(to));
        else
            k_.quantize(from, reader.k(), zero, to, out.scale + r);
    }
}

void Pass::norm(const Norm& norm, Floats x, int count, Share share) {
    for (int r = part_of(count, share.part, share.parts); r < part_of(count, share.part + 1, share.parts); r++)
        k_.layer_norm(x.data + static_cast<size_t>(r) * x.stride, hidden_, norm.gamma, norm.beta, model_.epsilon);
}

// Some of the columns of one product, which reads `rows`, or `x` itself where its weight is float32.
void Pass::multiply(const Matrix& matrix, Product product, Floats x, Bytes rows, Share share) {
    product.first_panel = part_of(panels(matrix), share.part, share.parts);
    product.last_panel = part_of(panels(matrix), share.part + 1, share.parts);
    if (product.epilogue != Epilogue::activate) product.main = matrix.n();
    if (matrix.kind == Kind::float32) {
        product.rows = x.data;
        product.row_stride = x.stride * sizeof(float);
        return k_.product_f32(matrix.f32, product);
    }
    product.rows = rows.data;
    product.row_stride = matrix.row_bytes(k_);
    product.row_scale = rows.scale;
    matrix.kind == Kind::int8 ? k_.product_i8(matrix.i8, product) : k_.product_bf16(matrix.bf16, product);
}

char* Pass::qkv_row(size_t row) const {
    return w_.qkv.data() + row * 3 * static_cast<size_t>(hidden_) * k_.qkv_bytes();
}

Pass::Block Pass::block(int first_row, int count, int slot, bool first_only) const {
    const auto hidden = static_cast<size_t>(hidden_), inner = static_cast<size_t>(inner_);
    const auto at = static_cast<size_t>(first_row) * hidden;
    const size_t narrow = most_row_bytes(hidden_), broad = most_row_bytes(inner_);
    const auto size = static_cast<size_t>(block_rows_), before = static_cast<size_t>(slot) * size;
    char* quantized = w_.quantized.data() + before * (2 * narrow + broad);
    float* scale = w_.scale.data() + before * 3;
    return {.x = {(first_only ? first_ : w_.x.data()) + at, hidden},
            .context = {(first_only ? first_context_ : w_.context.data()) + at, hidden},
            .rows = {quantized, scale},
            .wide = {w_.wide.data() + before * inner, inner},
            .rest = {w_.rest.data() + before * inner, inner},
            .inner = {quantized + size * narrow, scale + size},
            .left = {model_.first_value_twice ? w_.left.data() + before * 3 * hidden : nullptr, 3 * hidden},
            .left_rows = {quantized + size * (narrow + broad), scale + 2 * size},
            .text_starts = first_only ? std::span<const int>() : text_starts(first_row, first_row + count),
            .from = first_row,
            .count = count};
}

std::span<const int> Pass::text_starts(int from, int to) const {
    const auto first = std::lower_bound(text_starts_.begin(), text_starts_.end(), from);
    return {first, std::lower_bound(first, text_starts_.end(), to)};
}

// Room for a row of this width, in 8 bits or in bfloat16.
size_t Pass::most_row_bytes(int width) const {
    return std::max(k_.row_bytes(width), k_.product_bf16 ? static_cast<size_t>(width) * sizeof(uint16_t) : 0);
}

// Whether threads share the columns of so few rows.
bool Pass::share_columns(int rows) const {
    return few_rows(rows, pool_.size()) && rows <= block_rows_;
}

int Pass::panels(const Matrix& matrix) const { return (matrix.n() + k_.panel_columns - 1) / k_.panel_columns; }

void Pass::barrier(Stopwatch& watch) {
    pool_.barrier();
    watch.lap(Step::wait);
}

}  // namespace embedrt
