#include "normalize.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace embedrt {
namespace {

constexpr size_t longest_grapheme = 5;  // bytes, of those that the library looks up as a whole
constexpr uint32_t joiner = 0x200D;

// Calls `body(character, its flags, its bytes)` for each, until it says false.
template <class Body>
bool for_each(const Characters& characters, std::string_view text, Body body) {
    while (!text.empty()) {
        const Character next = first_of(text);
        if (!body(next, characters.flags(next.code), text.substr(0, static_cast<size_t>(next.size)))) return false;
        text.remove_prefix(static_cast<size_t>(next.size));
    }
    return true;
}

void append_jamo(uint32_t syllable, std::string& out) {
    const auto put = [&](uint32_t code) {
        for (uint32_t byte : {0xE0 | code >> 12, 0x80 | (code >> 6 & 0x3F), 0x80 | (code & 0x3F)})
            out.push_back(static_cast<char>(byte));
    };
    const uint32_t index = syllable - first_syllable;
    put(0x1100 + index / (21 * 28));
    put(0x1161 + index / 28 % 21);
    if (index % 28 != 0) put(0x11A7 + index % 28);
}

}  // namespace

CharsMap::CharsMap(std::string_view precompiled) {
    uint32_t size = 0;
    if (precompiled.size() < sizeof(size)) throw std::invalid_argument("the charsmap is cut short");
    std::memcpy(&size, precompiled.data(), sizeof(size));  // little-endian, as the machines are that this is built for
    precompiled.remove_prefix(sizeof(size));
    if (size > precompiled.size() || size < sizeof(uint32_t) || size % sizeof(uint32_t) != 0)
        throw std::invalid_argument("the charsmap is cut short");
    units_.resize(size / sizeof(uint32_t));
    std::memcpy(units_.data(), precompiled.data(), size);
    outcomes_ = precompiled.substr(size);
    if (!is_utf8(outcomes_)) throw std::invalid_argument("the charsmap's outcomes are no UTF-8");
}

// Appends what the shortest key becomes that `part` begins with; false where there is none.
bool CharsMap::change(std::string_view part, std::string& out) const {
    const auto base = [](uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); };
    uint32_t at = base(units_[0]);
    for (char c : part) {
        const uint32_t byte = static_cast<unsigned char>(c);
        if (byte == 0 || (at ^= byte) >= units_.size()) return false;
        const uint32_t unit = units_[at];
        if ((unit & (1u << 31 | 0xFF)) != byte) return false;
        at ^= base(unit);
        if ((unit >> 8 & 1) != 0 && at < units_.size()) {
            const size_t begin = units_[at] & ~(1u << 31);
            if (begin > outcomes_.size() || is_inside(outcomes_, begin)) return false;
            out.append(outcomes_, begin, std::min(outcomes_.find('\0', begin), outcomes_.size()) - begin);
            return true;
        }
    }
    return false;
}

bool CharsMap::append(std::string_view text, std::string& out) const {
    bool joined = false;  // whether the last grapheme ends with a joiner: if both sides are pictographs, it goes on
    while (!text.empty()) {
        const Character base = first_of(text);
        const uint16_t flags = characters_.flags(base.code);
        if (flags & character::unsure) return false;
        auto size = static_cast<size_t>(base.size);
        if (base.code == '\r' && text.size() > 1 && text[1] == '\n') {
            size = 2;
        } else if (!(flags & character::control)) {
            bool more = false;
            uint32_t last = base.code;
            while (size < text.size()) {
                const Character next = first_of(text.substr(size));
                if (!(characters_.flags(next.code) & character::joins)) break;
                size += static_cast<size_t>(next.size);
                last = next.code;
                more = true;
            }
            if (joined && more && size <= longest_grapheme) return false;
            joined = last == joiner;
        }
        std::string_view grapheme = text.substr(0, size);
        text.remove_prefix(size);
        if (size <= longest_grapheme && change(grapheme, out)) continue;
        while (!grapheme.empty()) {
            const std::string_view one = grapheme.substr(0, static_cast<size_t>(first_of(grapheme).size));
            if (!change(one, out)) out.append(one);
            grapheme.remove_prefix(one.size());
        }
    }
    return true;
}

bool BertNormalizer::append(std::string_view text, std::string& out) const {
    return for_each(characters_, text, [&](Character next, uint16_t flags, std::string_view bytes) {
        if (flags & character::unsure) return false;
        if (clean_ && flags & (character::bert_removed | character::bert_space)) {
            if (flags & character::bert_space) out.push_back(' ');
            return true;
        }
        const bool apart = chinese_ && flags & character::bert_chinese;
        if (apart) out.push_back(' ');
        append_uncased(bytes, next, flags, out);
        if (apart) out.push_back(' ');
        return true;
    });
}

void BertNormalizer::append_uncased(std::string_view text, Character next, uint16_t flags, std::string& out) const {
    if (!uncased_ || !(flags & character::uncased)) {
        out.append(text);
    } else if (is_syllable(next.code)) {
        append_jamo(next.code, out);
    } else {
        out.append(characters_.uncased(next.code));
    }
}

bool Compose::append(std::string_view text, std::string& out) const {
    return for_each(characters_, text, [&](Character next, uint16_t flags, std::string_view bytes) {
        if (flags & (character::unsure | character::composes)) return false;
        out.append(compatible_ && flags & character::nfkc ? characters_.nfkc(next.code) : bytes);
        return true;
    });
}

bool Nmt::append(std::string_view text, std::string& out) const {
    return for_each(characters_, text, [&](Character, uint16_t flags, std::string_view bytes) {
        if (flags & character::nmt_space) {
            out.push_back(' ');
        } else if (!(flags & character::nmt_removed)) {
            out.append(bytes);
        }
        return true;
    });
}

bool Strip::append(std::string_view text, std::string& out) const {
    size_t begin = text.size(), end = 0, at = 0;
    for_each(characters_, text, [&](Character, uint16_t flags, std::string_view bytes) {
        if (!(flags & character::white)) {
            begin = std::min(begin, at);
            end = at + bytes.size();
        }
        at += bytes.size();
        return true;
    });
    if (!left_) begin = 0;
    if (!right_) end = text.size();
    if (begin < end) out.append(text.substr(begin, end - begin));
    return true;
}

bool CollapseSpaces::append(std::string_view text, std::string& out) const {
    while (!text.empty()) {
        const size_t begin = std::min(text.find("  "), text.size());
        out.append(text.substr(0, begin));
        text.remove_prefix(begin);
        if (text.empty()) break;
        out.append(content_);
        text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
    }
    return true;
}

bool normalize(const std::vector<std::unique_ptr<Normalizer>>& steps, std::string_view text, std::string& out, std::string& spare) {
    out.assign(text);
    for (const auto& step : steps) {
        spare.clear();
        if (!step->append(out, spare)) return false;
        out.swap(spare);
    }
    return true;
}

}  // namespace embedrt
