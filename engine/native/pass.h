// One pass of a batch through the layers, as every thread of the pool runs it.
#pragma once

#include <atomic>
#include <memory>
#include <span>

#include "encoder.h"

namespace embedrt {

class Pass {
   public:
    // Allocates whatever the batch needs; `body` then cannot fail.
    Pass(const Encoder& encoder, Workspace& workspace, Pool& pool, const Batch& batch, Profile* profile);

    void body(int thread);

    // The rows of the result: all of the last layer's, or the texts' first ones.
    const float* result() const { return batch_.first_only ? first_ : w_.x.data(); }

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
    // A run of rows and the buffers that its steps share: the first three of hidden width, the next of the FFN's; the
    // last two are for what 8 bits leave of the texts' first tokens.
    struct Block {
        Floats x, context;
        Bytes rows;
        Floats wide, rest;
        Bytes inner;
        Floats left;
        Bytes left_rows;
        std::span<const int> text_starts;  // rows of the batch with which texts begin, those in this block
        int from, count;
    };
    // Which part of a step a thread does: rows of a block, panels of a weight.
    struct Share {
        int part, parts;
    };

    void embed(int thread, Stopwatch& watch);
    void layer(size_t index, int thread, Stopwatch& watch);
    void attend(int thread, size_t index, bool first_only);
    void by_rows(size_t index, int thread, bool first_only, Stopwatch& watch);
    void by_columns(size_t index, int thread, bool first_only, Stopwatch& watch);
    template <class Sync>
    void finish_layer(size_t index, const Block& block, Share rows, Share columns, char* qkv, Stopwatch& watch,
                      Sync sync);

    void quantize(const Matrix& reader, Floats x, int zero, Bytes out, int count, Share share);
    void norm(const Norm& norm, Floats x, int count, Share share);
    void multiply(const Matrix& matrix, Product product, Floats x, Bytes rows, Share share);
    void quantize_qkv(size_t index, const Block& block, Share share);
    void project_qkv(size_t index, const Block& block, char* qkv, Share share);
    void add_left(const Matrix& matrix, const Block& block, char* qkv, Share share);
    bool takes_left(const Matrix& matrix) const;
    void gather_first(int thread);

    char* qkv_row(size_t row) const;
    size_t most_row_bytes(int width) const;
    Block block(int first_row, int count, int slot, bool first_only) const;
    std::span<const int> text_starts(int from, int to) const;
    bool share_columns(int rows) const;
    int panels(const Matrix& matrix) const;
    void barrier(Stopwatch& watch);
    std::atomic<int>& counter(size_t index, int step) { return counters_[2 * index + static_cast<size_t>(step)]; }

    const Model& model_;
    const Kernels& k_;
    Workspace& w_;
    Pool& pool_;
    const Batch batch_;
    Profile* profile_;
    const int hidden_, inner_;
    int num_rows_;
    bool columns_;    // few rows: threads share columns instead
    int block_rows_;  // of the largest block
    float* first_ = nullptr;          // (num_texts, H): the last layer's rows when only first ones are wanted
    float* first_context_ = nullptr;  // the attention's output for them
    std::vector<int> text_starts_;    // first row of each text that has one
    int query_chunk_;                 // query rows of one attention task
    std::vector<std::pair<int, int>> tasks_;  // (text, first query row)
    std::unique_ptr<std::atomic<int>[]> counters_;
};

}  // namespace embedrt
