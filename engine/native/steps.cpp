#include "steps.h"

#include <algorithm>
#include <set>

namespace embedrt {
namespace {

class Compiler {
   public:
    Compiler(const Model& model, const Kernels& kernels) : model_(model), kernels_(kernels) {}

    std::vector<Steps> compile() {
        embed();
        for (size_t i = 0; i < model_.blocks.size(); i++) {
            heads(model_.blocks[i]);
            next_list();
            attention_output(model_.blocks[i]);
            feed_forward(model_.blocks[i]);
        }
        if (model_.final_norm) norm(model_.final_norm, Rows::states, Rows::states);
        next_list();
        return std::move(lists_);
    }

   private:
    void embed() {
        if (model_.patch_rows > 0) return embed_patches();
        const bool projected = model_.projection.k() > 0;
        const Rows rows = projected ? Rows::normed : Rows::states;
        put({.op = Op::embed, .part = Part::embed, .to = rows});
        if (model_.embeddings_norm) {
            norm(model_.embeddings_norm, rows, rows);
            steps_.back().part = Part::embed;
        }
        restore_ = model_.embeddings_norm ? model_.embeddings_norm.restore : model_.ones;
        if (!projected) return;
        restore_ = model_.projection_restore;
        product(model_.projection, Part::embed, rows, {.to = Rows::states});
    }

    void embed_patches() {
        put({.op = Op::place, .part = Part::embed, .to = Rows::states});
        product(model_.patch, Part::embed, Rows::pixels,
                {.to = Rows::states, .epilogue = Epilogue::residual, .restore = model_.ones});
        if (model_.embeddings_norm) norm(model_.embeddings_norm, Rows::states, Rows::states);
        restore_ = model_.embeddings_norm ? model_.embeddings_norm.restore : model_.ones;
    }

    void heads(const Block& block) {
        const Weights& weights = *block.weights;
        Rows rows = Rows::states;
        if (block.norms != EMBEDRT_POST && weights.attention_norm) {
            rows = Rows::normed;
            norm(weights.attention_norm, Rows::states, rows);
        }
        const bool twice = model_.first_value_twice && weights.qkv.kind == Kind::int8;
        const bool unfinished = block.looks.is_unfinished(weights);
        // what is rounded to bfloat16 is rounded once
        const Rows to = unfinished && kernels_.attention.bfloat16 ? Rows::wide : Rows::heads;
        put({.op = Op::quantize, .part = Part::quantize, .from = rows, .matrix = &weights.qkv});
        if (twice)
            put({.op = Op::keep_remainder, .part = Part::quantize, .from = rows, .matrix = &weights.qkv, .block = &block});
        const bool narrows = to == Rows::heads && kernels_.attention.bfloat16;
        put({.op = Op::multiply, .part = Part::qkv, .from = rows, .to = to, .matrix = &weights.qkv,
             .epilogue = narrows ? Epilogue::narrow : Epilogue::store});
        if (twice)
            put({.op = Op::add_remainder, .part = Part::qkv, .to = to, .matrix = &weights.qkv, .block = &block});
        if (unfinished) put({.op = Op::finish_heads, .part = Part::heads, .from = to, .to = Rows::heads, .block = &block});
    }

    void attention_output(const Block& block) {
        const Weights& weights = *block.weights;
        product(weights.output, Part::output, Rows::context, into_states(block));
        finish(block, weights.attention_norm, weights.attention_after_norm);
    }

    void feed_forward(const Block& block) {
        const Weights& weights = *block.weights;
        Rows rows = Rows::states;
        if (block.norms != EMBEDRT_POST) {
            rows = Rows::normed;
            norm(weights.ffn_norm, Rows::states, rows);
        }
        product(weights.up, Part::up, rows,
                {.to = Rows::wide, .epilogue = weights.up.paired ? Epilogue::gate : Epilogue::activate,
                 .activation = block.activation, .main = weights.down.k()});
        put({.op = Op::quantize, .part = Part::quantize, .from = Rows::wide, .matrix = &weights.down,
             .zero = block.down_zero});
        Step down = into_states(block);
        down.op = Op::multiply;
        down.part = Part::down;
        if (weights.few.k() > 0) {
            down.from = Rows::few;
            down.matrix = &weights.few;
            put(down);
            down.epilogue = Epilogue::accumulate;
        }
        down.from = Rows::wide;
        down.matrix = &weights.down;
        put(down);
        const bool last = &block == &model_.blocks.back();
        finish(block, last && model_.output_norm ? model_.output_norm : weights.ffn_norm, weights.ffn_after_norm);
    }

    // Where a block's product goes: to the states, with the residual, or by a norm of its own.
    Step into_states(const Block& block) const {
        if (block.norms == EMBEDRT_SANDWICH) return {.to = Rows::normed};
        return {.to = Rows::states, .epilogue = Epilogue::residual, .restore = restore_};
    }

    // What follows on a product into the states.
    void finish(const Block& block, const Norm& post, const Norm& after) {
        if (block.norms == EMBEDRT_SANDWICH) {
            norm(after, Rows::normed, Rows::normed);
            put({.op = Op::add, .part = Part::norm, .from = Rows::normed, .to = Rows::states, .restore = restore_});
        }
        restore_ = model_.ones;
        if (block.norms != EMBEDRT_POST) return;
        norm(post, Rows::states, Rows::states);
        restore_ = post.restore;
    }

    void norm(const Norm& norm, Rows from, Rows to) {
        put({.op = Op::norm, .part = Part::norm, .from = from, .to = to, .norm = &norm});
    }

    // Rows of `from` quantized and multiplied.
    void product(const Matrix& matrix, Part part, Rows from, Step multiply) {
        put({.op = Op::quantize, .part = Part::quantize, .from = from, .matrix = &matrix});
        multiply.op = Op::multiply;
        multiply.part = part;
        multiply.from = from;
        multiply.matrix = &matrix;
        put(multiply);
    }

    void put(Step step) {
        step.barrier = !steps_.empty() && steps_.back().split() != step.split();
        steps_.push_back(step);
    }

    void next_list() {
        lists_.push_back(std::move(steps_));
        steps_.clear();
    }

    const Model& model_;
    const Kernels& kernels_;
    const float* restore_ = nullptr;  // of what made the states; ones where that was a sum
    Steps steps_;
    std::vector<Steps> lists_;
};

}  // namespace

Widths widths_of(const Model& model, const Kernels& kernels) {
    Widths most;
    const auto grow = [](int& width, int by) { width = std::max(width, by); };
    grow(most.narrow, model.hidden);
    if (model.patch_rows > 0) grow(most.narrow, model.patch.k());
    if (model.projection.k() > 0) {
        grow(most.narrow, model.embedding_size);
        grow(most.normed, model.embedding_size);
    }
    for (const Block& block : model.blocks) {
        const Weights& weights = *block.weights;
        grow(most.context, block.looks.queries());
        grow(most.heads, block.looks.width());
        grow(most.wide, weights.down.k());
        grow(most.few, weights.few.k());
        if (block.norms != EMBEDRT_POST) grow(most.normed, model.hidden);
        if (kernels.attention.bfloat16 && block.looks.is_unfinished(weights)) grow(most.wide, block.looks.width());
    }
    grow(most.narrow, most.context);
    return most;
}

std::vector<Steps> compile(const Model& model, const Kernels& kernels) { return Compiler(model, kernels).compile(); }

size_t weight_bytes(const std::vector<Steps>& lists) {
    std::set<const Matrix*> matrices;  // blocks may share theirs
    for (const Steps& steps : lists)
        for (const Step& step : steps)
            if (step.op == Op::multiply) matrices.insert(step.matrix);
    size_t bytes = 0;
    for (const Matrix* matrix : matrices) bytes += matrix->bytes();
    return bytes;
}

}  // namespace embedrt
