// Reads JSON front to back, keeping nothing but what is asked for.
#pragma once

#include <string>
#include <string_view>

namespace embedrt {

class JsonReader {
   public:
    explicit JsonReader(std::string_view text) : text_(text) {}

    // Each throws std::invalid_argument where the text is something else.
    void expect(char mark);
    bool accept(char mark);       // whether `mark` comes next; then it is read
    void read_string(std::string& out);
    double read_number();         // as strtod reads it
    void skip_value();
    size_t position();            // of the next value or mark

   private:
    void skip_string();
    char peek();
    uint32_t read_hex();
    [[noreturn]] void fail() const;

    std::string_view text_;
    size_t at_ = 0;
};

}  // namespace embedrt
