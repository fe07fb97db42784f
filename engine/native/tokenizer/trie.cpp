#include "trie.h"

#include <algorithm>
#include <cstddef>
#include <numeric>

namespace embedrt {
namespace {

struct Entry {
    uint64_t begin;  // the first eight bytes, so that most comparisons need no more
    uint32_t index;
};

uint64_t first_eight(std::string_view piece) {
    uint64_t out = 0;
    for (size_t i = 0; i < 8; i++) out = out << 8 | (i < piece.size() ? static_cast<unsigned char>(piece[i]) : 0);
    return out;
}

std::vector<uint32_t> sorted(const Pieces& pieces) {
    std::vector<Entry> entries(pieces.size());
    for (uint32_t i = 0; i < entries.size(); i++) entries[i] = {first_eight(pieces[i]), i};
    std::sort(entries.begin(), entries.end(), [&](const Entry& a, const Entry& b) {
        if (a.begin != b.begin) return a.begin < b.begin;
        const int order = pieces[a.index].compare(pieces[b.index]);
        return order != 0 ? order < 0 : a.index < b.index;
    });
    std::vector<uint32_t> order(entries.size());
    std::transform(entries.begin(), entries.end(), order.begin(), [](const Entry& entry) { return entry.index; });
    return order;
}

}  // namespace

Trie::Trie(const Pieces& pieces, std::span<const int32_t> ids) {
    const std::vector<uint32_t> order = sorted(pieces);
    struct Todo {
        uint32_t begin, end;  // of `order`: the pieces below a node
    };
    std::vector<Todo> level{{0, static_cast<uint32_t>(order.size())}}, next;
    ids_.push_back(none);
    labels_.push_back(0);
    for (size_t depth = 0; !level.empty(); depth++, level.swap(next)) {
        next.clear();
        const size_t first_of_level = ids_.size() - level.size();
        for (size_t k = 0; k < level.size(); k++) {
            auto [begin, end] = level[k];
            for (; begin < end && pieces[order[begin]].size() == depth; begin++)
                if (depth > 0) ids_[first_of_level + k] = ids[order[begin]];
            first_child_.push_back(static_cast<uint32_t>(ids_.size()));
            while (begin < end) {
                const char label = pieces[order[begin]][depth];
                uint32_t stop = begin + 1;
                while (stop < end && pieces[order[stop]][depth] == label) stop++;
                next.push_back({begin, stop});
                labels_.push_back(static_cast<unsigned char>(label));
                ids_.push_back(none);
                begin = stop;
            }
        }
    }
    first_child_.push_back(static_cast<uint32_t>(ids_.size()));
    for (uint32_t k = first_child_[root]; k < first_child_[root + 1]; k++) of_root_[labels_[k]] = k;
    first_child_.shrink_to_fit();
    labels_.shrink_to_fit();
    ids_.shrink_to_fit();
}

uint32_t Trie::find(std::string_view text, uint32_t from) const {
    for (char byte : text)
        if ((from = child(from, byte)) == root) return root;
    return from;
}

}  // namespace embedrt
