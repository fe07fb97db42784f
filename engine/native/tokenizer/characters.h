// What the tokenizers library does to single characters, and UTF-8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace embedrt {

// A character of valid UTF-8.
struct Character {
    uint32_t code;
    int size;  // bytes
};

// The first of `text`, which is not empty and valid UTF-8.
inline Character first_of(std::string_view text) {
    const auto at = [&](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(text[i])); };
    const uint32_t lead = at(0);
    if (lead < 0x80) return {lead, 1};
    if (lead < 0xE0) return {(lead & 0x1F) << 6 | (at(1) & 0x3F), 2};
    if (lead < 0xF0) return {(lead & 0x0F) << 12 | (at(1) & 0x3F) << 6 | (at(2) & 0x3F), 3};
    return {(lead & 0x07) << 18 | (at(1) & 0x3F) << 12 | (at(2) & 0x3F) << 6 | (at(3) & 0x3F), 4};
}

// Whether the byte at `i` is not the first of a character.
inline bool is_inside(std::string_view text, size_t i) {
    return i < text.size() && (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80;
}

// Whether all of it is UTF-8, without lone surrogates, overlong forms and what lies beyond Unicode.
bool is_utf8(std::string_view text);

// Bits of `Characters::flags`, as unicode_tables.py explains them.
namespace character {
enum : uint16_t {
    white = 1 << 0,
    bert_mark = 1 << 1,
    bert_removed = 1 << 2,
    bert_space = 1 << 3,
    bert_chinese = 1 << 4,
    uncased = 1 << 5,
    joins = 1 << 6,
    control = 1 << 7,
    unsure = 1 << 8,
    nfkc = 1 << 9,
    composes = 1 << 10,
    nmt_removed = 1 << 11,
    nmt_space = 1 << 12,
};
}

// The tables of unicode_tables.inc, spread out for a process.
class Characters {
   public:
    static const Characters& of_process();

    uint16_t flags(uint32_t code) const { return flags_[code]; }

    // What becomes of a character that has the flag of the same name, but for Hangul; a view that stays.
    std::string_view uncased(uint32_t code) const;
    std::string_view nfkc(uint32_t code) const;

   private:
    Characters();

    uint16_t* flags_;  // of every code point; never freed
};

// Syllables of Hangul, which NFD takes apart by arithmetic (The Unicode Standard, 3.12).
constexpr uint32_t first_syllable = 0xAC00, last_syllable = 0xD7A3;
inline bool is_syllable(uint32_t code) { return code >= first_syllable && code <= last_syllable; }

}  // namespace embedrt
