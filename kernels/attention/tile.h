// What is computed together: a few rows, the heads that share keys and values, and their cells.

#pragma once

#include "../backend/ggml_abi.h"
#include "attention.h"
#include "visible.h"

namespace VARIANT {

constexpr int most_queries = 64; // of a tile: rows x heads of a group

// What a node says, once.
struct Shape {
    const ggml_tensor *q, *k, *v, *mask, *sinks, *out;
    RowToFloat k_to_float, v_to_float;
    float scale, softcap, max_bias;
    int64_t head_size, v_head_size, rows, heads, kv_heads, cells, streams;
    int group;     // heads for each head of keys
    int tile_rows; // rows of a tile
    int64_t tiles;

    explicit Shape(const ggml_tensor *node);

    float slope(int64_t head) const;
    int64_t jobs() const { return tiles * kv_heads * streams; }
    // Scores of a tile: as many slots as cells could want.
    size_t slots() const { return (size_t)(cells + 16 * (most_segments + 2)) / 16 * 16; }
    int queries() const { return tile_rows * group; }
};

// One tile and one head of keys and values. Queries are numbered row by row: row * group + head.
struct Job {
    const Shape &shape;
    int64_t stream, kv_head, first_row;
    int rows;
    float *scores; // [query][slots]: then the probabilities

    Job(const Shape &shape, int64_t number, float *scores)
        : shape(shape), stream(number / (shape.tiles * shape.kv_heads)), kv_head(number / shape.tiles % shape.kv_heads),
          first_row(number % shape.tiles * shape.tile_rows),
          rows((int)(shape.rows - first_row < shape.tile_rows ? shape.rows - first_row : shape.tile_rows)), scores(scores) {}

    int64_t head_of(int query) const { return kv_head * shape.group + query % shape.group; }
    int64_t row_of(int query) const { return first_row + query / shape.group; }
    int queries() const { return rows * shape.group; }

    const float *query(int i) const { return (const float *)at(shape.q, row_of(i), head_of(i)); }
    const uint8_t *key(int32_t cell) const { return (const uint8_t *)at(shape.k, cell, kv_head); }
    const uint8_t *value(int32_t cell) const { return (const uint8_t *)at(shape.v, cell, kv_head); }
    float *result(int i) const {
        return (float *)((char *)shape.out->data + (size_t)head_of(i) * shape.out->nb[1] + (size_t)row_of(i) * shape.out->nb[2] +
                         (size_t)stream * shape.out->nb[3]);
    }
    float *scores_of(int query) const { return scores + (size_t)query * shape.slots(); }

    // Of the tile's first row, for `head`.
    const char *mask_of(int64_t head) const {
        if (!shape.mask) return nullptr;
        const ggml_tensor *m = shape.mask;
        return (const char *)m->data + (size_t)first_row * m->nb[1] + (size_t)(head % m->ne[2]) * m->nb[2] +
               (size_t)(stream % m->ne[3]) * m->nb[3];
    }

    // The queries of the rows that a segment has.
    int queries_of(uint16_t row_bits, int *queries) const {
        int count = 0;
        for (int r = 0; r < rows; r++)
            if (row_bits >> r & 1)
                for (int h = 0; h < shape.group; h++) queries[count++] = r * shape.group + h;
        return count;
    }

  private:
    const char *at(const ggml_tensor *t, int64_t i1, int64_t i2) const {
        return (const char *)t->data + (size_t)i1 * t->nb[1] + (size_t)i2 * t->nb[2] + (size_t)stream * t->nb[3];
    }
};

} // namespace VARIANT
