// A task: some rows of a stream, some heads that share keys, and the cells that these rows see. Its
// memory, and the order in which its parts are computed, by one thread or (cells divided) by several.

#pragma once

#include "../simd/vector.h"
#include "attention.h"
#include "view.h"

namespace VARIANT {

// Some of a view's pieces.
struct Pieces {
    const View::Piece *first, *last; // behind the last one
    const View::Piece *next;         // what the same thread computes after them, or nothing
    const View::Piece *begin() const { return first; }
    const View::Piece *end() const { return last; }
    const View::Piece *after(const View::Piece *piece) const { return piece + 1 < last ? piece + 1 : next; }
};

// What one thread found in its share of a task's cells.
struct Part {
    float *most;     // [query] the largest score
    float *weighted; // [query] the largest sum of a score and the logarithm of a magnitude
    int64_t *total;  // [query] the sum of exponentials, in units of 2^-30
    float *bounds;   // [1 + row][value] the largest magnitude, first in cells that all rows see
    int32_t *sums;   // [query][value]: of exponentials times values, in units of its own

    static size_t bytes(const AttentionShape &s) {
        const size_t queries = (size_t)s.task_queries();
        return 2 * whole_lines(queries * 4) + whole_lines(queries * 8) + (bounds_floats(s) + queries * (size_t)s.value_floats()) * 4;
    }
    Part(const AttentionShape &s, uint8_t *memory) {
        const size_t queries = (size_t)s.task_queries();
        most = (float *)memory;
        weighted = (float *)((uint8_t *)most + whole_lines(queries * 4));
        total = (int64_t *)((uint8_t *)weighted + whole_lines(queries * 4));
        bounds = (float *)((uint8_t *)total + whole_lines(queries * 8));
        sums = (int32_t *)(bounds + bounds_floats(s));
    }
    void clear(const AttentionShape &s) const {
        for (int i = 0; i < s.task_queries(); i++) most[i] = weighted[i] = -INFINITY, total[i] = 0;
        memset(bounds, 0, bounds_floats(s) * sizeof *bounds);
        memset(sums, 0, (size_t)(s.task_queries() * s.value_floats()) * sizeof *sums);
    }

  private:
    static size_t bounds_floats(const AttentionShape &s) { return (size_t)((1 + s.task_rows) * s.value_floats()); }
};

// A task's memory: the scores, then the parts.
inline size_t scores_bytes(const AttentionShape &s) {
    return whole_lines((size_t)s.padded_cells() * (size_t)s.task_queries() * sizeof(float));
}
inline size_t task_bytes(const AttentionShape &s, int parts) { return scores_bytes(s) + (size_t)parts * Part::bytes(s); }

// Of a thread: the queries of its task, as floats times the scale; later, where their sums begin.
inline size_t queries_bytes(const AttentionShape &s) {
    return whole_lines((size_t)s.task_queries() * (size_t)std::max(s.key_floats(), s.value_floats()) * sizeof(float));
}

struct Task {
    const ggml_tensor *node;
    const RowToFloat k_to_float, v_to_float;
    const AttentionShape &shape;
    const View &view;
    int64_t stream, kv_head, first_row, first_head;
    int rows, heads;
    int parts;
    float *scores;
    uint8_t *memory;

    Task(const AttentionNode &n, const AttentionShape &s, int64_t number, int parts, uint8_t *memory)
        : node(n.node), k_to_float(n.k_to_float), v_to_float(n.v_to_float), shape(s),
          view(*view_of(s, n.view, number / s.row_tiles / s.head_tiles / s.kv_heads, number % s.row_tiles)),
          parts(parts), scores((float *)memory), memory(memory) {
        const int64_t tile = number % s.row_tiles, head_tile = number / s.row_tiles % s.head_tiles;
        kv_head = number / s.row_tiles / s.head_tiles % s.kv_heads;
        stream = number / s.row_tiles / s.head_tiles / s.kv_heads;
        first_row = tile * s.task_rows;
        rows = (int)std::min<int64_t>(s.task_rows, s.rows - first_row);
        first_head = kv_head * s.group + head_tile * s.task_heads;
        heads = (int)std::min<int64_t>(s.task_heads, s.group - head_tile * s.task_heads);
    }

    int queries() const { return rows * heads; }
    uint32_t all_rows() const { return ~0u >> (32 - rows); }
    Part part(int p) const { return Part(shape, memory + scores_bytes(shape) + (size_t)p * Part::bytes(shape)); }

    const uint64_t *seen(const View::Piece &piece) const { return piece.seen < 0 ? nullptr : view.seen(shape) + piece.seen; }

    const char *key_base() const { return base(node->src[1]); }
    const char *value_base() const { return base(node->src[2]); }

    // One of the model's learned scores that no cell has (or -inf).
    float sink(int query) const {
        if (!node->src[4]) return -INFINITY;
        return ((const float *)node->src[4]->data)[first_head + query % heads];
    }

  private:
    // Of this task's head: there may be fewer streams, and other numbers of heads, of keys and values.
    const char *base(const ggml_tensor *t) const {
        const Matrices m(t);
        return m.at(first_head / (shape.heads / m.heads), stream / (shape.streams / m.streams));
    }
};

// A piece's cells: where their keys or values begin. Those that fill up a vector repeat the last one.
struct Cells {
    const char *row[piece_cells];
    int count, padded;

    ALWAYS_INLINE void find(const Task &task, const View::Piece &piece, const char *base, size_t stride) {
        count = piece.count;
        padded = (piece.count + 15) / 16 * 16;
        const int32_t *const cell = task.view.cell(task.shape) + piece.first;
        for (int i = 0; i < count; i++) row[i] = base + (size_t)cell[i] * stride;
        for (int i = count; i < padded; i++) row[i] = row[count - 1];
    }
};

// Asks for the bytes of a piece's cells before they are needed: some at a time, as a core waits for few lines
// of memory at once.
struct Soon {
    const char *base = nullptr;
    size_t stride = 0, bytes = 0;
    const int32_t *cell = nullptr;
    int count = 0, asked = 0;

    ALWAYS_INLINE void ask(int cells) {
        for (const int end = std::min(asked + cells, count); asked < end; asked++) {
            const char *const row = base + (size_t)cell[asked] * stride;
            for (const char *line = row - (uintptr_t)row % 64; line < row + bytes; line += 64) __builtin_prefetch(line, 0, 2);
        }
    }
};

// The queries (of the task) whose rows see any of a piece, in the order of their scores.
struct Seers {
    int query[most_queries], row[most_queries];
    int count = 0;

    ALWAYS_INLINE Seers(const Task &task, const View::Piece &piece) {
        for (uint32_t rows = piece.rows; rows; rows &= rows - 1) {
            const int r = __builtin_ctz(rows);
            for (int h = 0; h < task.heads; h++) {
                row[count] = r;
                query[count++] = r * task.heads + h;
            }
        }
    }
};

} // namespace VARIANT
