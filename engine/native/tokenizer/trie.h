// The pieces of a vocabulary as a tree of bytes: some nine bytes per node.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace embedrt {

// Pieces by id, end to end.
class Pieces {
   public:
    void add(std::string_view piece) {
        bytes_.append(piece);
        ends_.push_back(bytes_.size());
    }
    size_t size() const { return ends_.size(); }
    std::string_view operator[](size_t i) const {
        const size_t begin = i == 0 ? 0 : ends_[i - 1];
        return std::string_view(bytes_).substr(begin, ends_[i] - begin);
    }

   private:
    std::string bytes_;
    std::vector<size_t> ends_;
};

class Trie {
   public:
    static constexpr int32_t none = -1;
    static constexpr uint32_t root = 0;

    Trie() = default;
    // `ids[i]` of `pieces[i]`, all at least 0; of equal pieces the last one's.
    Trie(const Pieces& pieces, std::span<const int32_t> ids);

    // The child of a node by a byte; `root` where there is none, which is no node's child.
    uint32_t child(uint32_t node, char byte) const {
        const auto wanted = static_cast<unsigned char>(byte);
        if (node == root) return of_root_[wanted];
        for (uint32_t k = first_child_[node], end = first_child_[node + 1]; k < end; k++)
            if (labels_[k] >= wanted) return labels_[k] == wanted ? k : root;
        return root;
    }

    // Of the piece that ends at a node, or `none`.
    int32_t id(uint32_t node) const { return ids_[node]; }

    uint32_t find(std::string_view text, uint32_t from = root) const;

    int32_t id_of(std::string_view piece) const {
        const uint32_t node = find(piece);
        return node == root ? none : ids_[node];
    }

   private:
    // Nodes breadth first: the children of one are neighbours, in order of their bytes.
    std::vector<uint32_t> first_child_;  // and of the node after the last
    std::vector<unsigned char> labels_;
    std::vector<int32_t> ids_;
    std::array<uint32_t, 256> of_root_{};
};

}  // namespace embedrt
