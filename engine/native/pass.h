// One pass of a batch through the layers, as every thread of the pool runs it.
#pragma once

#include <atomic>
#include <memory>
#include <span>

#include "encoder.h"
#include "steps.h"

namespace embedrt {

class Pass {
   public:
    // Allocates whatever the batch needs; `body` then cannot fail.
    Pass(const Encoder& encoder, Workspace& workspace, Pool& pool, const Batch& batch, Profile* profile);

    void body(int thread);

    // The rows of the result: all of the last layer's, or one of each text.
    const float* result() const { return batch_.wants_one_row() ? one_states_ : w_.states.data(); }

   private:
    struct Floats {
        float* data;
        size_t stride;
    };
    // Rows as a product reads them, one behind the other, and their scales where they are quantized.
    struct Bytes {
        char* data;
        float* scale;
    };
    // A run of rows and the buffers that its steps share; `values` and `remainders` are for the second row of V of the texts'
    // first tokens.
    struct Run {
        Floats states, normed, wide, few, context, pixels;
        char* heads;
        Bytes rows, inner;
        Floats values;
        Bytes remainders;
        std::span<const int> text_starts;  // rows of the batch with which texts begin, those in this run
        int from, count;
    };
    // Which part of a step a thread does: rows of a run, panels of a weight.
    struct Share {
        int part, parts;
    };
    // Some query rows of a text.
    struct Task {
        int text, first;
    };

    void allocate();
    void list_tasks();
    bool by_chunks(const Looks& looks) const;
    void attend(size_t index, int thread, bool ones);
    Attention attention_of(const Looks& looks, const Task& task, int most, int group, bool ones, int thread) const;
    void gather(int thread);
    void run_list(size_t index, int thread, Stopwatch& watch);
    template <class Sync>
    void run_steps(const Steps& steps, const Run& run, Share share, Stopwatch& watch, Sync sync);
    void run_step(const Step& step, const Run& run, Share share);

    void embed(const Run& run, Floats out, Share share);
    void place(const Run& run, Floats out, Share share);
    void norm(const Norm& norm, Floats from, Floats to, int count, Share share);
    void add(Floats from, const float* restore, Floats to, int count, Share share);
    void quantize(const Matrix& reader, Floats x, int zero, Bytes out, int count, Share share);
    void multiply(const Step& step, const Run& run, Share share);
    void keep_remainder(const Step& step, const Run& run, Share share);
    void add_remainder(const Step& step, const Run& run, Share share);
    void finish_heads(const Step& step, const Run& run, Share share);
    void finish_row(const Block& block, float* row, int place);
    int place_in_text(int row) const;

    Floats floats(const Run& run, Rows rows) const;
    Bytes bytes(const Run& run, Rows rows) const { return rows == Rows::wide ? run.inner : run.rows; }
    char* head_row(size_t row) const { return w_.heads.data() + row * static_cast<size_t>(widths_.heads) * k_.qkv_bytes(); }
    size_t most_row_bytes(int width) const;
    Run run_of(int first_row, int count, int slot, bool ones) const;
    std::span<const int> text_starts(int from, int to) const;
    bool are_few(int rows) const;
    bool share_columns(int rows) const;
    int length(int text) const { return batch_.offsets[text + 1] - batch_.offsets[text]; }
    void barrier(Stopwatch& watch);
    std::atomic<int>& counter(size_t index, int which) { return counters_[2 * index + static_cast<size_t>(which)]; }

    const Model& model_;
    const std::vector<Steps>& lists_;
    const Kernels& k_;
    Workspace& w_;
    Pool& pool_;
    const Batch batch_;
    Profile* profile_;
    const Widths widths_;
    const bool far_;                 // whether no cache holds the weights
    int num_rows_;
    bool columns_;                   // few rows: threads share columns instead
    int block_rows_;                 // of the largest run
    int longest_ = 0;                // tokens of a text
    size_t scratch_ = 0;             // of one thread's attention, in floats
    float* one_states_ = nullptr;    // (num_texts, H): the last layer's rows where only one of each text is wanted
    float* one_context_ = nullptr;   // the attention's output for them
    std::vector<int> text_starts_;   // first row of each text
    std::vector<Task> texts_, chunks_;  // tasks of attention: whole texts, and parts of them
    std::unique_ptr<std::atomic<int>[]> counters_;
};

}  // namespace embedrt
