// Which cells a task's rows see, as pieces of cells that are computed together.
//
// Cells that the same rows see are a class; a class with enough cells gets pieces of its own, in which
// every row sees every cell. The others are put together, with the cells that each row sees. Cells that
// nobody sees are in no piece.

#pragma once

#include "shape.h"

namespace VARIANT {

// Of one row tile. Its parts lie behind it: pieces, cell numbers, seen words.
struct View {
    struct Piece {
        uint32_t rows;       // a bit for each row of the tile that sees any of it
        int32_t first, count; // of the cell numbers; at most 64
        int32_t seen;        // -1: all rows see all; else where its words begin: one for each row of the tile
        int64_t scores;      // where its scores begin, per head: [rows of it][count, padded to 16]
    };
    int32_t pieces, has_bias;
    int64_t scores; // in all, per head
    int64_t visible[most_rows]; // cells that a row sees
    const Piece *piece() const { return (const Piece *)(this + 1); }
    const int32_t *cell(const AttentionShape &s) const { return (const int32_t *)(piece() + s.most_pieces()); }
    const uint64_t *seen(const AttentionShape &s) const { return (const uint64_t *)(cell(s) + (s.cells + 1) / 2 * 2); }

    static size_t bytes(const AttentionShape &s) {
        const size_t words = (size_t)(s.cells / piece_cells + 1) * (size_t)s.task_rows;
        return whole_lines(sizeof(View) + (size_t)s.most_pieces() * sizeof(Piece) + (size_t)(s.cells + 1) * 4 + words * 8);
    }
};

// The view of stream `stream`'s rows from `first` on (`rows` of them).
void make_view(const ggml_tensor *node, const AttentionShape &s, int64_t stream, int64_t first, int rows, View *view);

inline const View *view_of(const AttentionShape &s, const uint8_t *views, int64_t stream, int64_t tile) {
    return (const View *)(views + View::bytes(s) * (size_t)(stream % s.masks * s.row_tiles + tile));
}

} // namespace VARIANT
