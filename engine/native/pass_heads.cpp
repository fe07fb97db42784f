// Q, K and V of a run of rows: the second row of V for the texts' first tokens, norms and rotation, and attention.
#include <algorithm>
#include <cstring>

#include "bfloat16.h"
#include "pass.h"
#include "split.h"

namespace embedrt {
namespace {

constexpr int QUERY_CHUNK = 126;  // query rows of an attention task, where there are few heads to share or keys to see
constexpr size_t NEAR_BYTES = size_t{512} << 10;  // of Q, K and V, which stay in a second cache and need no fetching

}  // namespace

// What rows leave of the texts' first tokens, quantized.
void Pass::keep_remainder(const Step& step, const Run& run, Share share) {
    const Matrix& reader = *step.matrix;
    const Floats x = floats(run, step.from);
    const int from = part_of(run.count, share.part, share.parts);
    const int to = part_of(run.count, share.part + 1, share.parts);
    const size_t stride = reader.row_bytes(k_);
    for (size_t i = 0; i < run.text_starts.size(); i++) {
        const int row = run.text_starts[i] - run.from;
        if (row < from || row >= to) continue;
        const auto r = static_cast<size_t>(row);
        float* remainder = run.values.data + i * run.values.stride;
        k_.remainder(x.data + r * x.stride, reader.k(), run.rows.data + r * stride, run.rows.scale[r], remainder);
        k_.quantize(remainder, reader.k(), CENTRE, run.remainders.data + i * stride, run.remainders.scale + i);
    }
}

// Adds the product of those rows to V, in the columns that this thread has just written.
void Pass::add_remainder(const Step& step, const Run& run, Share share) {
    const Matrix& matrix = *step.matrix;
    const Looks& looks = step.block->looks;
    const int width = k_.panel_columns, values = looks.queries() + looks.keys(), panels = matrix.panels(k_);
    Product product;
    product.first_panel = std::max(part_of(panels, share.part, share.parts), values / width);
    product.last_panel = part_of(panels, share.part + 1, share.parts);
    const int first = std::max(product.first_panel * width, values);
    const int columns = std::min(product.last_panel * width, looks.width()) - first;
    if (columns <= 0 || run.text_starts.empty()) return;

    const bool narrow = step.to == Rows::heads && k_.attention.bfloat16;
    const Floats to = floats(run, step.to);
    const auto element = [&](size_t i) {
        return static_cast<size_t>(run.text_starts[i] - run.from) * to.stride + static_cast<size_t>(first);
    };
    const auto own = [&](size_t i) { return run.values.data + i * run.values.stride + first; };
    const size_t count = run.text_starts.size(), size = static_cast<size_t>(columns);
    for (size_t i = 0; i < count; i++) {
        if (!narrow) {
            std::memcpy(own(i), to.data + element(i), size * sizeof(float));
            continue;
        }
        const uint16_t* value = reinterpret_cast<const uint16_t*>(run.heads) + element(i);
        for (size_t c = 0; c < size; c++) own(i)[c] = from_bf16(value[c]);
    }
    product.epilogue = Epilogue::accumulate;
    product.num_rows = static_cast<int>(count);
    product.rows = run.remainders.data;
    product.row_stride = matrix.row_bytes(k_);
    product.row_scale = run.remainders.scale;
    product.out = run.values.data;
    product.out_stride = run.values.stride;
    product.main = matrix.n();
    k_.product_i8(matrix.i8, product);
    for (size_t i = 0; i < count; i++) {
        if (narrow)
            k_.narrow_row(own(i), columns, reinterpret_cast<uint16_t*>(run.heads) + element(i));
        else
            std::memcpy(to.data + element(i), own(i), size * sizeof(float));
    }
}

// Q and K of some rows normed and rotated; then all of a row is narrowed, where attention reads bfloat16.
void Pass::finish_heads(const Step& step, const Run& run, Share share) {
    const Floats rows = floats(run, step.from);
    for (int i = part_of(run.count, share.part, share.parts); i < part_of(run.count, share.part + 1, share.parts); i++) {
        const auto r = static_cast<size_t>(i);
        float* row = rows.data + r * rows.stride;
        finish_row(*step.block, row, place_in_text(run.from + i));
        if (k_.attention.bfloat16)
            k_.narrow_row(row, step.block->looks.width(),
                          reinterpret_cast<uint16_t*>(run.heads) + r * static_cast<size_t>(widths_.heads));
    }
}

// Of a row of the batch.
int Pass::place_in_text(int row) const {
    return row - *std::prev(std::upper_bound(text_starts_.begin(), text_starts_.end(), row));
}

void Pass::finish_row(const Block& block, float* row, int place) {
    const Looks& looks = block.looks;
    const float* turn = looks.rotary < 0 ? nullptr : w_.tables.turn(looks.rotary, place);
    for (int head = 0; head < looks.heads + looks.kv_heads; head++, row += looks.head_size) {
        const Norm& norm = head < looks.heads ? block.weights->query_norm : block.weights->key_norm;
        if (norm) norm(k_, row, row);
        if (turn) k_.rotate(row, model_.rotaries[static_cast<size_t>(looks.rotary)].pairs, looks.interleaved, turn);
    }
}

// Tasks of whole texts, and of parts of them, which blocks take whose heads are few or whose queries see few keys; and the
// room that the largest needs.
void Pass::list_tasks() {
    for (int text = 0; text < batch_.num_texts; text++) {
        texts_.push_back({text, 0});
        for (int first = 0; first < length(text); first += QUERY_CHUNK) chunks_.push_back({text, first});
    }
    for (const Block& block : model_.blocks) {
        const Looks& looks = block.looks;
        const int queries = by_chunks(looks) ? QUERY_CHUNK : longest_;
        const int keys = Attention::most_keys(longest_, queries, looks.before, looks.after);
        scratch_ = std::max(scratch_, k_.attention.scratch(keys, looks.head_size));
    }
}

bool Pass::by_chunks(const Looks& looks) const {
    return batch_.num_texts * looks.kv_heads < 4 * pool_.size() || looks.before < longest_ / 4;
}

void Pass::attend(size_t index, int thread, bool ones) {
    const Looks& looks = model_.blocks[index - 1].looks;
    const bool chunked = !ones && by_chunks(looks);
    const std::vector<Task>& tasks = chunked ? chunks_ : texts_;
    const int count = static_cast<int>(tasks.size()) * looks.kv_heads;
    const auto attention = [&](int i) {
        const Task& task = tasks[static_cast<size_t>(i / looks.kv_heads)];
        const int wanted = ones ? batch_.wanted_row(task.text) - batch_.offsets[task.text] : task.first;
        const int most = ones ? 1 : chunked ? QUERY_CHUNK : length(task.text);
        return attention_of(looks, {task.text, wanted}, most, i % looks.kv_heads, ones, thread);
    };
    const bool far = static_cast<size_t>(num_rows_) * static_cast<size_t>(widths_.heads) * k_.qkv_bytes() > NEAR_BYTES;
    auto& next = counter(index, 1);
    for (int i = next++; i < count; i = next++) {
        Attention now = attention(i), then;
        const int likely = i + pool_.size();  // while all threads are equally fast
        if (far && likely < count) then = attention(likely), now.next = &then;
        k_.attention.run(now);
    }
    if (ones) gather(thread);
}

// Of the heads that share one of keys and values, for at most `most` query rows of a text.
Attention Pass::attention_of(const Looks& looks, const Task& task, int most, int group, bool ones, int thread) const {
    const int heads = looks.heads / looks.kv_heads;
    const auto first = static_cast<size_t>(batch_.offsets[task.text]);
    const size_t element = k_.qkv_bytes(), column = static_cast<size_t>(group * heads * looks.head_size);
    const size_t key = static_cast<size_t>(looks.queries() + group * looks.head_size);
    Attention a;
    a.num_keys = batch_.num_keys(task.text);
    a.head_size = looks.head_size;
    a.num_heads = heads;
    a.query = head_row(first) + column * element;
    a.key = head_row(first) + key * element;
    a.value = head_row(first) + (key + static_cast<size_t>(looks.keys())) * element;
    a.stride = static_cast<size_t>(widths_.heads);
    a.first_query = task.first;
    a.last_query = std::min(length(task.text), task.first + most);
    a.before = looks.before;
    a.after = looks.after;
    if (looks.bias >= 0) {
        a.bias = w_.tables.bias(looks.bias, group * heads);
        a.bias_stride = w_.tables.bias_stride();
    }
    a.out_stride = static_cast<size_t>(widths_.context);
    a.out = ones ? one_context_ + static_cast<size_t>(task.text) * a.out_stride
                 : w_.context.data() + (first + static_cast<size_t>(task.first)) * a.out_stride;
    a.out += column;
    a.scratch = w_.scores.data() + static_cast<size_t>(thread) * scratch_;
    return a;
}

// The residual rows that are wanted of the texts, side by side.
void Pass::gather(int thread) {
    const auto hidden = static_cast<size_t>(model_.hidden);
    for (int text = thread; text < batch_.num_texts; text += pool_.size())
        std::memcpy(one_states_ + static_cast<size_t>(text) * hidden,
                    w_.states.data() + static_cast<size_t>(batch_.wanted_row(text)) * hidden, hidden * sizeof(float));
}

}  // namespace embedrt
