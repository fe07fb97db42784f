// The C door of the tokenizer.
#include <algorithm>
#include <memory>
#include <utility>

#include "../guarded.h"
#include "../handles.h"

namespace {

using namespace embedrt;

std::string_view text_at(const char* texts, const int64_t* ends, int64_t i) {
    const int64_t begin = i == 0 ? 0 : ends[i - 1];
    return {texts + begin, static_cast<size_t>(ends[i] - begin)};
}

}  // namespace

int32_t embedrt_tokenizer_spans(const char* json, int64_t size, int64_t* spans, char* error, size_t error_size) {
    return guarded(error, error_size, [&] { find_vocabulary({json, static_cast<size_t>(size)}, spans); });
}

int32_t embedrt_tokenizer_create(const char* json, int64_t begin, int64_t end, const embedrt_tokenizer_part* parts,
                                 int64_t num_parts, embedrt_tokenizer** tokenizer, char* error, size_t error_size) {
    return guarded(error, error_size, [&] {
        *tokenizer = new embedrt_tokenizer{
            Tokenizer({json + begin, static_cast<size_t>(end - begin)}, parts, static_cast<size_t>(num_parts))};
    });
}

void embedrt_tokenizer_destroy(embedrt_tokenizer* tokenizer) { delete tokenizer; }

int32_t embedrt_tokenize(const embedrt_tokenizer* tokenizer, const char* texts, const int64_t* ends, int64_t num_texts,
                         int32_t special, int32_t* ids, int64_t capacity, int32_t* counts, int64_t* num_ids, char* error,
                         size_t error_size) {
    return guarded(error, error_size, [&] {
        TokenizerScratch scratch;
        Ids found;
        *num_ids = 0;
        for (int64_t i = 0; i < num_texts; i++) {
            found.clear();
            const bool known = tokenizer->tokenizer.append(text_at(texts, ends, i), special != 0, scratch, found);
            counts[i] = known ? static_cast<int32_t>(found.size()) : -1;
            if (!known) continue;
            const auto count = static_cast<int64_t>(found.size());
            if (*num_ids + count <= capacity) std::copy(found.begin(), found.end(), ids + *num_ids);
            *num_ids += count;
        }
    });
}

int64_t embedrt_tokenize_one(const embedrt_tokenizer* tokenizer, const char* text, int64_t size, int32_t* ids, int64_t capacity) {
    try {
        TokenizerScratch scratch;
        Ids found;
        if (!tokenizer->tokenizer.append({text, static_cast<size_t>(size)}, true, scratch, found)) return -1;
        const auto count = static_cast<int64_t>(found.size());
        if (count <= capacity) std::copy(found.begin(), found.end(), ids);
        return count;
    } catch (const std::exception&) {
        return -1;
    }
}
