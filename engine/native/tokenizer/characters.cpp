#include "characters.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <new>

namespace embedrt {
namespace {

constexpr size_t num_codes = 0x110000;

struct Range {
    uint32_t first, last;
    uint16_t flags;
};

struct Change {
    uint32_t code;
    uint16_t begin, size;  // of the bytes that it becomes
};

#include "unicode_tables.inc"

template <size_t N>
std::string_view change(const Change (&changes)[N], const unsigned char* bytes, uint32_t code) {
    const auto* found = std::lower_bound(std::begin(changes), std::end(changes), code,
                                         [](const Change& one, uint32_t wanted) { return one.code < wanted; });
    return {reinterpret_cast<const char*>(bytes) + found->begin, found->size};
}

}  // namespace

bool is_utf8(std::string_view text) {
    for (size_t i = 0; i < text.size();) {
        const auto lead = static_cast<unsigned char>(text[i]);
        const size_t size = lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
        if (size == 0 || text.size() - i < size) return false;
        for (size_t k = 1; k < size; k++)
            if ((static_cast<unsigned char>(text[i + k]) & 0xC0) != 0x80) return false;
        const uint32_t code = first_of(text.substr(i)).code;
        const bool overlong = (size == 3 && code < 0x800) || (size == 4 && code < 0x10000);
        if (overlong || code >= num_codes || (code >= 0xD800 && code < 0xE000)) return false;
        i += size;
    }
    return true;
}

const Characters& Characters::of_process() {
    static const Characters characters;
    return characters;
}

// Zeroed memory of which most pages are never touched.
Characters::Characters() : flags_(static_cast<uint16_t*>(std::calloc(num_codes, sizeof(uint16_t)))) {
    if (flags_ == nullptr) throw std::bad_alloc();
    for (const Range& range : ranges) std::fill(flags_ + range.first, flags_ + range.last + 1, range.flags);
    flags_[0] = character::unsure;
}

std::string_view Characters::uncased(uint32_t code) const { return change(uncased_changes, uncased_bytes, code); }

std::string_view Characters::nfkc(uint32_t code) const { return change(nfkc_changes, nfkc_bytes, code); }

}  // namespace embedrt
