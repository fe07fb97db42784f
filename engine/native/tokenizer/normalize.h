// Normalizers of the tokenizers library, with the same outcome. A text of which that is not certain is left to the library.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "characters.h"

namespace embedrt {

class Normalizer {
   public:
    virtual ~Normalizer() = default;
    // Appends what becomes of `text`, valid UTF-8, to `out`; false where only the library can say.
    virtual bool append(std::string_view text, std::string& out) const = 0;
};

// SentencePiece's compiled map (https://github.com/google/sentencepiece, normalizer.cc), as the library reads it: a
// grapheme of up to five bytes becomes what the shortest key that it begins with becomes, else each character by itself.
class CharsMap final : public Normalizer {
   public:
    explicit CharsMap(std::string_view precompiled);
    bool append(std::string_view text, std::string& out) const override;

   private:
    bool change(std::string_view part, std::string& out) const;

    const Characters& characters_ = Characters::of_process();
    std::vector<uint32_t> units_;  // a double array (Darts)
    std::string outcomes_;         // each ends with a zero
};

// BertNormalizer; uncased is strip_accents with lowercase.
class BertNormalizer final : public Normalizer {
   public:
    BertNormalizer(bool clean, bool chinese, bool uncased) : clean_(clean), chinese_(chinese), uncased_(uncased) {}
    bool append(std::string_view text, std::string& out) const override;

   private:
    void append_uncased(std::string_view text, Character next, uint16_t flags, std::string& out) const;

    const Characters& characters_ = Characters::of_process();
    bool clean_, chinese_, uncased_;
};

// Unicode's NFKC, or NFC, of texts whose characters do not act on each other.
class Compose final : public Normalizer {
   public:
    explicit Compose(bool compatible) : compatible_(compatible) {}
    bool append(std::string_view text, std::string& out) const override;

   private:
    const Characters& characters_ = Characters::of_process();
    bool compatible_;
};

class Nmt final : public Normalizer {
   public:
    bool append(std::string_view text, std::string& out) const override;

   private:
    const Characters& characters_ = Characters::of_process();
};

class Strip final : public Normalizer {
   public:
    Strip(bool left, bool right) : left_(left), right_(right) {}
    bool append(std::string_view text, std::string& out) const override;

   private:
    const Characters& characters_ = Characters::of_process();
    bool left_, right_;
};

// Two spaces and more become `content`.
class CollapseSpaces final : public Normalizer {
   public:
    explicit CollapseSpaces(std::string_view content) : content_(content) {}
    bool append(std::string_view text, std::string& out) const override;

   private:
    std::string content_;
};

// One after the other; `spare` is theirs to write in. `text` may be a view of neither.
bool normalize(const std::vector<std::unique_ptr<Normalizer>>& steps, std::string_view text, std::string& out, std::string& spare);

}  // namespace embedrt
