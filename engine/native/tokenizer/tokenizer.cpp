#include "tokenizer.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <utility>

#include "json.h"

namespace embedrt {
namespace {

int32_t as_id(double number) {
    if (!(number >= 0 && number < std::numeric_limits<int32_t>::max())) throw std::invalid_argument("a token's id is none");
    return static_cast<int32_t>(number);
}

// Longest match first, as BERT reads words (Schuster and Nakajima, 2012; tokenizers' WordPiece).
class WordPiece final : public PieceModel {
   public:
    WordPiece(std::string_view vocabulary, std::string_view prefix, std::string_view unknown, int64_t longest_word)
        : longest_word_(longest_word) {
        Pieces pieces;
        Ids ids;
        JsonReader json(vocabulary);
        std::string piece;
        json.expect('{');
        while (!json.accept('}')) {
            if (pieces.size() > 0) json.expect(',');
            json.read_string(piece);
            json.expect(':');
            pieces.add(piece);
            ids.push_back(as_id(json.read_number()));
        }
        trie_ = Trie(pieces, ids);
        inside_ = trie_.find(prefix);
        unknown_ = trie_.id_of(unknown);
        if (prefix.empty() || unknown_ == Trie::none) throw std::invalid_argument("no prefix of pieces, or no unknown token");
    }

    bool append(std::string_view word, TokenizerScratch&, Ids& out) const override {
        const size_t before = out.size();
        const auto is_lead = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; };
        const bool fits = std::count_if(word.begin(), word.end(), is_lead) <= longest_word_;
        uint32_t from = Trie::root;
        while (fits && !word.empty()) {
            size_t size = 0;
            int32_t id = Trie::none;
            uint32_t node = from;
            for (size_t i = 0; i < word.size() && (node = trie_.child(node, word[i])) != Trie::root; i++)
                if (trie_.id(node) != Trie::none) {
                    size = i + 1;
                    id = trie_.id(node);
                }
            if (id == Trie::none) break;
            out.push_back(id);
            word.remove_prefix(size);
            from = inside_;
            if (inside_ == Trie::root) break;  // the vocabulary has no piece of a word's inside
        }
        if (!word.empty()) {
            out.resize(before);
            out.push_back(unknown_);
        }
        return true;
    }

   private:
    Trie trie_;
    uint32_t inside_ = Trie::root;  // the node of the prefix of pieces that do not begin a word
    int32_t unknown_ = Trie::none;
    int64_t longest_word_;  // characters
};

// The best path through a word by the sum of its pieces' scores (Kudo, 2018, arXiv:1804.10959; tokenizers' Unigram).
class Unigram final : public PieceModel {
   public:
    Unigram(std::string_view vocabulary, int64_t unknown) : unknown_(static_cast<int32_t>(unknown)) {
        Pieces pieces;
        Ids ids;
        JsonReader json(vocabulary);
        std::string piece;
        double lowest = std::numeric_limits<double>::infinity();
        json.expect('[');
        while (!json.accept(']')) {
            if (pieces.size() > 0) json.expect(',');
            json.expect('[');
            json.read_string(piece);
            json.expect(',');
            scores_.push_back(json.read_number());
            json.expect(']');
            pieces.add(piece);
            ids.push_back(static_cast<int32_t>(ids.size()));
            lowest = std::min(lowest, scores_.back());
        }
        if (unknown < 0 || unknown >= static_cast<int64_t>(scores_.size())) throw std::invalid_argument("no unknown token");
        trie_ = Trie(pieces, ids);
        unknown_score_ = lowest - unknown_penalty;
        scores_.shrink_to_fit();
    }

    bool append(std::string_view word, TokenizerScratch& scratch, Ids& out) const override {
        if (word.size() >= std::numeric_limits<int32_t>::max()) return false;
        auto& nodes = scratch.nodes;
        nodes.assign(word.size() + 1, {0.0, none_, none_});
        for (size_t begin = 0; begin < word.size();) {
            const auto size = static_cast<size_t>(first_of(word.substr(begin)).size);
            const auto reach = [&](size_t end, double score, int32_t id) {
                auto& node = nodes[end];
                const double sum = score + nodes[begin].score;
                if (node.begin == none_ || sum > node.score) node = {sum, static_cast<int32_t>(begin), id};
            };
            bool known = false;  // whether the character is a piece by itself
            uint32_t at = Trie::root;
            for (size_t end = begin; end < word.size() && (at = trie_.child(at, word[end])) != Trie::root; end++)
                if (const int32_t id = trie_.id(at); id != Trie::none) {
                    reach(end + 1, scores_[static_cast<size_t>(id)], id);
                    known = known || end + 1 - begin == size;
                }
            if (!known) reach(begin + size, unknown_score_, unknown_);
            begin += size;
        }
        append_path(word, nodes, out);
        return true;
    }

   private:
    // From the end back; unknown neighbours are one token.
    void append_path(std::string_view word, const std::vector<TokenizerScratch::Node>& nodes, Ids& out) const {
        const size_t before = out.size();
        for (size_t end = word.size(); end > 0;) {
            const auto& node = nodes[end];
            auto begin = static_cast<size_t>(node.begin);
            int32_t id = node.id;
            if (id == unknown_) {
                while (begin > 0 && nodes[begin].id == unknown_) begin = static_cast<size_t>(nodes[begin].begin);
                if (const int32_t whole = trie_.id_of(word.substr(begin, end - begin)); whole != Trie::none) id = whole;
            }
            out.push_back(id);
            end = begin;
        }
        std::reverse(out.begin() + static_cast<std::ptrdiff_t>(before), out.end());
    }

    static constexpr int32_t none_ = -1;
    static constexpr double unknown_penalty = 10.0;

    Trie trie_;
    std::vector<double> scores_;  // by id
    double unknown_score_ = 0;
    int32_t unknown_;
};

std::string_view view(const embedrt_tokenizer_part& part) { return {part.data, static_cast<size_t>(part.size)}; }

bool has_any(std::string_view text, const std::vector<std::string>& contents) {
    return std::any_of(contents.begin(), contents.end(),
                       [&](const std::string& content) { return text.find(content) != std::string_view::npos; });
}

}  // namespace

Tokenizer::Tokenizer(std::string_view vocabulary, const embedrt_tokenizer_part* parts, size_t num_parts) {
    for (size_t i = 0; i < num_parts; i++) read(parts[i]);
    for (size_t i = 0; i < num_parts; i++) {
        if (parts[i].kind == EMBEDRT_UNIGRAM) model_ = std::make_unique<Unigram>(vocabulary, parts[i].value);
        if (parts[i].kind == EMBEDRT_WORD_PIECE)
            model_ = std::make_unique<WordPiece>(vocabulary, prefix_, unknown_, parts[i].value);
    }
    if (model_ == nullptr) throw std::invalid_argument("the tokenizer has no model");
    std::string changed, spare;
    for (std::string& content : normalized_) {
        if (!normalize(normalizers_, content, changed, spare)) throw std::invalid_argument("an added token is not followed");
        content = changed;
    }
    std::erase(normalized_, "");
}

void Tokenizer::read(const embedrt_tokenizer_part& part) {
    const auto has = [&](int32_t bit) { return (part.value & bit) != 0; };
    const auto add = [&](auto normalizer) { normalizers_.push_back(std::move(normalizer)); };
    if (!is_utf8(view(part)) && part.kind != EMBEDRT_CHARS_MAP) throw std::invalid_argument("a part is no UTF-8");
    switch (part.kind) {
        case EMBEDRT_CHARS_MAP: return add(std::make_unique<CharsMap>(view(part)));
        case EMBEDRT_BERT_NORMALIZER: return add(std::make_unique<BertNormalizer>(has(1), has(2), has(4)));
        case EMBEDRT_NFC: return add(std::make_unique<Compose>(false));
        case EMBEDRT_NFKC: return add(std::make_unique<Compose>(true));
        case EMBEDRT_NMT: return add(std::make_unique<Nmt>());
        case EMBEDRT_STRIP: return add(std::make_unique<Strip>(has(1), has(2)));
        case EMBEDRT_COLLAPSE_SPACES: return add(std::make_unique<CollapseSpaces>(view(part)));
        case EMBEDRT_WHITESPACE_SPLIT: separators_ = character::white; return;
        case EMBEDRT_BERT_SPLIT: separators_ = character::white, marks_ = true; return;
        case EMBEDRT_METASPACE: meta_ = view(part); return;
        case EMBEDRT_ADDED_TOKEN: added_.emplace_back(view(part)); return;
        case EMBEDRT_NORMALIZED_TOKEN: normalized_.emplace_back(view(part)); return;
        case EMBEDRT_SPECIAL_BEFORE: before_.push_back(part.value); return;
        case EMBEDRT_SPECIAL_AFTER: after_.push_back(part.value); return;
        case EMBEDRT_INSIDE_PREFIX: prefix_ = view(part); return;
        case EMBEDRT_UNKNOWN_TOKEN: unknown_ = view(part); return;
        case EMBEDRT_UNIGRAM:
        case EMBEDRT_WORD_PIECE: return;
        default: throw std::invalid_argument("a part of an unknown kind");
    }
}

bool Tokenizer::append(std::string_view text, bool special, TokenizerScratch& scratch, Ids& out) const {
    if (!is_utf8(text) || has_any(text, added_)) return false;
    if (!normalize(normalizers_, text, scratch.normalized, scratch.spare)) return false;
    if (has_any(text, normalized_) || has_any(scratch.normalized, normalized_)) return false;
    if (special) out.insert(out.end(), before_.begin(), before_.end());
    if (!append_words(scratch.normalized, scratch, out)) return false;
    if (special) out.insert(out.end(), after_.begin(), after_.end());
    return true;
}

bool Tokenizer::append_words(std::string_view text, TokenizerScratch& scratch, Ids& out) const {
    if (separators_ == 0) return text.empty() || append_word(text, scratch, out);
    size_t begin = 0, at = 0;
    const auto end_word = [&](size_t next) {
        const bool done = begin == at || append_word(text.substr(begin, at - begin), scratch, out);
        begin = next;
        return done;
    };
    while (at < text.size()) {
        const Character next = first_of(text.substr(at));
        const uint16_t flags = characters_.flags(next.code);
        const auto size = static_cast<size_t>(next.size);
        if (flags & separators_) {
            if (!end_word(at + size)) return false;
        } else if (marks_ && flags & character::bert_mark) {
            if (!end_word(at + size) || !append_word(text.substr(at, size), scratch, out)) return false;
        }
        at += size;
    }
    return end_word(at);
}

bool Tokenizer::append_word(std::string_view word, TokenizerScratch& scratch, Ids& out) const {
    return meta_.empty() ? model_->append(word, scratch, out) : append_meta(word, scratch, out);
}

// Metaspace: a mark for each space and before the first character, each with what follows it a word.
bool Tokenizer::append_meta(std::string_view word, TokenizerScratch& scratch, Ids& out) const {
    std::string& marked = scratch.word;
    marked.clear();
    if (word[0] != ' ' && !word.starts_with(meta_)) marked += meta_;
    for (char c : word) {
        if (c == ' ')
            marked += meta_;
        else
            marked += c;
    }
    for (size_t begin = 0; begin < marked.size();) {
        const size_t end = std::min(marked.find(meta_, begin + (marked.compare(begin, meta_.size(), meta_) == 0 ? meta_.size() : 0)), marked.size());
        if (!model_->append(std::string_view(marked).substr(begin, end - begin), scratch, out)) return false;
        begin = end;
    }
    return true;
}

void find_vocabulary(std::string_view text, int64_t spans[4]) {
    JsonReader json(text);
    std::string key;
    std::fill(spans, spans + 4, 0);
    const auto members = [&](auto body) {
        json.expect('{');
        for (bool first = true; !json.accept('}'); first = false) {
            if (!first) json.expect(',');
            json.read_string(key);
            json.expect(':');
            body();
        }
    };
    members([&] {
        if (key != "model") return json.skip_value();
        members([&] {
            int64_t* span = key == "vocab" ? spans : key == "merges" ? spans + 2 : nullptr;
            const size_t begin = json.position();
            json.skip_value();
            if (span != nullptr) span[0] = static_cast<int64_t>(begin), span[1] = static_cast<int64_t>(json.position());
        });
    });
}

}  // namespace embedrt
