// What an encoder does to rows, as a list of steps that is made once, when it is loaded.
#pragma once

#include <vector>

#include "model.h"
#include "profile.h"

namespace embedrt {

enum class Op {
    embed,          // to = the tokens' embeddings
    place,          // to = the positions of a picture's rows
    norm,           // to = norm(from)
    add,            // to = to * restore + from
    quantize,       // rows of `from` as `matrix` reads them: in 8 bits, in bfloat16, or as they are
    multiply,       // to = those rows times `matrix`, with the epilogue
    keep_remainder, // what 8 bits leave of the texts' first tokens, in 8 bits
    add_remainder,  // its product, to V of these
    finish_heads,   // Q and K normed and rotated, and all of a row where attention reads it
};

// Which of a block's buffers a step reads and writes, rows of float32 but for `heads`.
enum class Rows {
    states,   // (T, H), what goes from block to block
    normed,   // (n, H) or (n, E), of one run of rows only, as the next two
    wide,     // (n, FFN); or Q | K | V on their way
    few,      // (n, c), the outlying neurons
    context,  // (T, heads * head size), what attention gives
    pixels,   // (T, size), of pictures, as they were given
    heads,    // (T, Q | K | V), what attention reads
};

// Where threads share the columns of a few rows, one step's part of the work is either.
enum class Split { rows, columns };

struct Step {
    Op op = Op::multiply;
    Part part = Part::qkv;  // of the profile
    Rows from = Rows::states, to = Rows::states;
    const Matrix* matrix = nullptr;
    const Norm* norm = nullptr;
    const Block* block = nullptr;  // of finish_heads and what belongs to a remainder
    Epilogue epilogue = Epilogue::store;
    Activation activation = Activation::gelu_erf;
    int zero = CENTRE;
    const float* restore = nullptr;
    int main = 0;  // columns before those that go to `few`; 0: all
    bool barrier = false;  // where threads share columns, the step before this was split the other way

    Split split() const { return op == Op::multiply || op == Op::add_remainder ? Split::columns : Split::rows; }
};

// The most numbers that rows have, by what they are.
struct Widths {
    int context = 0;  // of what attention gives
    int heads = 0;    // of Q | K | V
    int normed = 0;   // of hidden states beside those that go on, and of embeddings before their projection
    int narrow = 0;   // of all rows that products read but for the FFN's second
    int wide = 0;     // between the FFN's products, and of Q | K | V that are not finished
    int few = 0;      // of the outlying neurons
};

Widths widths_of(const Model& model, const Kernels& kernels);

// Runs of rows go depth-first through one list; attention, which needs all rows of a text, lies between two.
using Steps = std::vector<Step>;

// Lists 0 to the number of blocks: list i ends with the heads of block i, the last with the hidden states. `model` must
// stay where it is.
std::vector<Steps> compile(const Model& model, const Kernels& kernels);

// Of all that the steps multiply with.
size_t weight_bytes(const std::vector<Steps>& lists);

}  // namespace embedrt
