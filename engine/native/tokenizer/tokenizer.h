// Texts to token ids as the tokenizers library gives them, for the pipelines that it is used with most: WordPiece behind
// BERT's normalizer, and SentencePiece's Unigram. Whatever is not certain to be the same is left to the library.
//
//   text -> normalizers -> words -> pieces of the vocabulary, word by word
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "../embedrt_native.h"
#include "normalize.h"
#include "trie.h"

namespace embedrt {

using Ids = std::vector<int32_t>;

// What a call writes in while it tokenizes.
struct TokenizerScratch {
    std::string normalized, spare, word;
    struct Node {
        double score;
        int32_t begin, id;
    };
    std::vector<Node> nodes;
};

class PieceModel {
   public:
    virtual ~PieceModel() = default;
    // Appends the ids of a word that is not empty; false where only the library can say.
    virtual bool append(std::string_view word, TokenizerScratch& scratch, Ids& out) const = 0;
};

class Tokenizer {
   public:
    // `vocabulary`: JSON, an object of ids by piece (WordPiece) or an array of pieces with scores (Unigram).
    Tokenizer(std::string_view vocabulary, const embedrt_tokenizer_part* parts, size_t num_parts);

    // Appends the ids of a text; false where only the library can say.
    bool append(std::string_view text, bool special, TokenizerScratch& scratch, Ids& out) const;

   private:
    void read(const embedrt_tokenizer_part& part);
    bool append_words(std::string_view text, TokenizerScratch& scratch, Ids& out) const;
    bool append_word(std::string_view word, TokenizerScratch& scratch, Ids& out) const;
    bool append_meta(std::string_view word, TokenizerScratch& scratch, Ids& out) const;

    const Characters& characters_ = Characters::of_process();
    std::vector<std::unique_ptr<Normalizer>> normalizers_;
    uint16_t separators_ = 0;          // flags of characters between words
    bool marks_ = false;               // whether each punctuation mark is a word of its own
    std::string meta_;                 // what stands for a space, and before every word; empty: nothing does
    std::vector<std::string> added_;   // contents of added tokens, which the library finds in the text as it is
    std::vector<std::string> normalized_;  // and in the normalized text
    Ids before_, after_;               // special tokens
    std::string prefix_, unknown_;
    std::unique_ptr<PieceModel> model_;
};

// Where the values of "vocab" and "merges" of the object "model" lie in a tokenizer.json: begin and end of each, 0 and 0
// where there is none.
void find_vocabulary(std::string_view json, int64_t spans[4]);

}  // namespace embedrt
