#include "json.h"

#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <version>

namespace embedrt {
namespace {

constexpr bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

void put_utf8(std::string& out, uint32_t code) {
    const auto put = [&](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
    if (code < 0x80) return put(code);
    if (code < 0x800) return put(0xC0 | code >> 6), put(0x80 | (code & 0x3F));
    if (code < 0x10000) return put(0xE0 | code >> 12), put(0x80 | (code >> 6 & 0x3F)), put(0x80 | (code & 0x3F));
    put(0xF0 | code >> 18), put(0x80 | (code >> 12 & 0x3F)), put(0x80 | (code >> 6 & 0x3F)), put(0x80 | (code & 0x3F));
}

}  // namespace

void JsonReader::fail() const { throw std::invalid_argument("no JSON, or not of a vocabulary, at byte " + std::to_string(at_)); }

char JsonReader::peek() {
    while (at_ < text_.size() && is_space(text_[at_])) at_++;
    if (at_ >= text_.size()) fail();
    return text_[at_];
}

size_t JsonReader::position() {
    peek();
    return at_;
}

bool JsonReader::accept(char mark) {
    if (peek() != mark) return false;
    at_++;
    return true;
}

void JsonReader::expect(char mark) {
    if (!accept(mark)) fail();
}

uint32_t JsonReader::read_hex() {
    uint32_t code = 0;
    if (text_.size() - at_ < 4) fail();
    const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + at_ + 4, code, 16);
    if (error != std::errc() || end != text_.data() + at_ + 4) fail();
    at_ += 4;
    return code;
}

void JsonReader::read_string(std::string& out) {
    out.clear();
    expect('"');
    for (;;) {
        const size_t end = text_.find_first_of("\"\\", at_);
        if (end == std::string_view::npos) fail();
        out.append(text_, at_, end - at_);
        at_ = end + 1;
        if (text_[end] == '"') return;
        if (at_ == text_.size()) fail();
        const char escape = text_[at_++];
        constexpr std::string_view from = "\"\\/bfnrt", to = "\"\\/\b\f\n\r\t";
        if (const size_t known = from.find(escape); known != std::string_view::npos) {
            out.push_back(to[known]);
        } else if (escape == 'u') {
            uint32_t code = read_hex();
            if (code >= 0xD800 && code < 0xDC00) {
                if (text_.substr(at_, 2) != "\\u") fail();
                at_ += 2;
                const uint32_t low = read_hex();
                if (low < 0xDC00 || low >= 0xE000) fail();
                code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
            } else if (code >= 0xDC00 && code < 0xE000) {
                fail();
            }
            put_utf8(out, code);
        } else {
            fail();
        }
    }
}

double JsonReader::read_number() {
    peek();
    size_t end = at_;
    while (end < text_.size() && std::string_view("+-.0123456789eE").find(text_[end]) != std::string_view::npos) end++;
    double value = 0;
#if defined(__cpp_lib_to_chars) && __cpp_lib_to_chars >= 201611L
    const auto [stop, error] = std::from_chars(text_.data() + at_, text_.data() + end, value);
    if (error != std::errc() || stop != text_.data() + end) fail();
#else  // libc++ has none for double; its strtod is that of the C locale unless the process has chosen another
    const std::string number(text_.substr(at_, end - at_));
    char* stop = nullptr;
    value = std::strtod(number.c_str(), &stop);
    if (number.empty() || *stop != '\0') fail();
#endif
    at_ = end;
    return value;
}

void JsonReader::skip_string() {
    expect('"');
    for (; at_ < text_.size() && text_[at_] != '"'; at_++)
        if (text_[at_] == '\\') at_++;
    expect('"');
}

void JsonReader::skip_value() {
    constexpr std::string_view marks = "{}[],:";
    int depth = 0;
    do {
        const char next = peek();
        if (next == '"') {
            skip_string();
        } else if (marks.find(next) != std::string_view::npos) {
            at_++;
            depth += (next == '{' || next == '[') - (next == '}' || next == ']');
        } else {  // a number, true, false, null
            while (at_ < text_.size() && !is_space(text_[at_]) && marks.find(text_[at_]) == std::string_view::npos) at_++;
        }
        if (depth < 0) fail();
    } while (depth > 0);
}

}  // namespace embedrt
