// What one FLASH_ATTN_EXT node says, and how its work is cut: into tasks of some rows and some of the
// heads that share keys. Computes nothing.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "../backend/ggml_abi.h"

namespace VARIANT {

constexpr int most_rows = 32;          // of a task: a cell's rows are the bits of one word
constexpr int most_queries = 64;       // of a task (rows times heads), where there is room for more
constexpr int piece_cells = 64;        // that are computed together
constexpr int most_classes = 32;       // of cells that the same rows of a task see
constexpr int64_t most_scores = 1 << 19; // floats of a task

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline size_t whole_lines(size_t bytes) { return (bytes + 63) / 64 * 64; }

// Strides are in bytes.
struct Matrices {
    const char *data;
    size_t row, head, stream;
    int64_t heads, streams;

    explicit Matrices(const ggml_tensor *t)
        : data((const char *)t->data), row(t->nb[1]), head(t->nb[2]), stream(t->nb[3]), heads(t->ne[2]), streams(t->ne[3]) {}
    const char *at(int64_t h, int64_t s) const { return data + (size_t)h * head + (size_t)s * stream; }
};

struct AttentionShape {
    int64_t rows, cells, heads, kv_heads, streams;
    int64_t group;                 // heads that share keys
    int key_size, value_size;      // of a head
    int task_rows, task_heads;     // at most
    int64_t row_tiles, head_tiles; // of all rows, of a group
    int64_t tasks;
    int64_t masks; // one for each stream, or one
    bool are_heads_side_by_side; // of keys, and of values: a cell's lie together
    float scale, max_bias, softcap;

    explicit AttentionShape(const ggml_tensor *node) {
        const ggml_tensor *q = node->src[0], *k = node->src[1], *v = node->src[2], *mask = node->src[3];
        rows = q->ne[1], heads = q->ne[2], streams = q->ne[3];
        cells = k->ne[1], kv_heads = k->ne[2];
        group = heads / kv_heads;
        key_size = (int)k->ne[0], value_size = (int)v->ne[0];
        masks = mask ? mask->ne[3] : 1;
        are_heads_side_by_side = k->nb[2] < k->nb[1] && v->nb[2] < v->nb[1];
        float params[3];
        memcpy(params, node->op_params, sizeof params);
        scale = params[0], max_bias = params[1], softcap = params[2];
        if (softcap != 0) scale /= softcap;

        const int64_t queries = std::max<int64_t>(1, std::min<int64_t>(most_queries, most_scores / padded_cells()));
        head_tiles = ceil_div(group, queries);
        task_heads = (int)ceil_div(group, head_tiles);
        row_tiles = ceil_div(rows, std::max<int64_t>(1, std::min<int64_t>(most_rows, queries / task_heads)));
        task_rows = (int)ceil_div(rows, row_tiles);
        tasks = streams * kv_heads * head_tiles * row_tiles;
    }

    // Each class of cells is made whole vectors.
    int64_t padded_cells() const { return cells + 16 * (most_classes + 1); }
    int most_pieces() const { return (int)(cells / piece_cells) + most_classes + 2; }
    int task_queries() const { return task_rows * task_heads; }
    int key_floats() const { return (key_size + 15) / 16 * 16; }
    int value_floats() const { return (value_size + 15) / 16 * 16; }

    // ALiBi: how much of the mask's bias a head takes.
    float slope(int64_t head) const {
        if (max_bias <= 0) return 1;
        const int whole = 1 << (int)std::floor(std::log2((double)heads));
        if (head < whole) return (float)std::exp2(-(double)max_bias / whole * (double)(head + 1));
        return (float)std::exp2(-(double)max_bias / 2 / whole * (double)(2 * (head - whole) + 1));
    }
};

} // namespace VARIANT
