// Scores: every key that a row sees times its query, one multiply-add after the other along the head;
// then softcap, bias and mask; and the largest of them, alone and with their cells' values.

#pragma once

#include "../simd/exp.h"
#include "formats.h"
#include "task.h"
#include "tiles.h"

namespace VARIANT {

// The task's queries times the scale.
inline void copy_queries(const Task &task, float *out) {
    const AttentionShape &s = task.shape;
    const Matrices q(task.node->src[0]);
    for (int i = 0; i < task.queries(); i++) {
        const float *from = (const float *)(q.at(task.first_head + i % task.heads, task.stream) +
                                            (size_t)(task.first_row + i / task.heads) * q.row);
        for (int d = 0; d < s.key_size; d++) out[i * s.key_floats() + d] = from[d] * s.scale;
    }
}

// Adds `count` values' products to the scores of B vectors of cells and Q queries.
template <int B, int Q>
__attribute__((noinline)) void add_products(const f32x16 *keys, const float *const query[Q], int count, float *scores, int stride, bool is_first) {
    f32x16 sum[Q][B];
    for (int i = 0; i < Q; i++)
        for (int b = 0; b < B; b++) sum[i][b] = is_first ? f32x16{} : load<f32x16>(scores + i * stride + 16 * b);
    for (int d = 0; d < count; d++)
        for (int i = 0; i < Q; i++) {
            const f32x16 x = splat(query[i][d]);
            for (int b = 0; b < B; b++) sum[i][b] = fma(keys[d * key_blocks + b], x, sum[i][b]);
        }
    for (int i = 0; i < Q; i++)
        for (int b = 0; b < B; b++) store(scores + i * stride + 16 * b, sum[i][b]);
}

// Not a number of what is none.
ALWAYS_INLINE f32x16 tanh(f32x16 x) {
    const f32x16 e = exp(min(splat(20.0f), x) * 2.0f);
    return 1.0f - 2.0f / (e + 1.0f);
}

// What the mask says of 16 cells of a row, as floats.
ALWAYS_INLINE f32x16 biases(const uint16_t *mask, const int32_t *cell, int count) {
    uint16_t value[16] = {};
    for (int i = 0; i < count; i++) value[i] = mask[cell[i]];
    return load_f16(value);
}

// The largest score of a query, and the largest score + logarithm of its cell's values (see bounds.h).
struct Largest {
    f32x16 score, weighted;
};

// Makes scores of products, in place, and the largest of each query.
ALWAYS_INLINE void finish_scores(const Task &task, const View::Piece &piece, const Seers &seers, const float *logarithms, float *scores,
                                 Largest *most) {
    const AttentionShape &s = task.shape;
    const uint64_t *const seen = task.seen(piece);
    const int padded = (piece.count + 15) / 16 * 16;
    const uint64_t real = piece.count < 64 ? (1ull << piece.count) - 1 : ~0ull;
    for (int i = 0; i < seers.count; i++) {
        const int query = seers.query[i];
        const uint64_t sees = seen ? seen[seers.row[i]] : real;
        Largest largest = most[query];
        for (int c = 0; c < padded; c += 16) {
            f32x16 x = load<f32x16>(scores + i * padded + c);
            if (s.softcap != 0) x = tanh(x) * s.softcap;
            if (task.view.has_bias) {
                const ggml_tensor *mask = task.node->src[3];
                const char *row = (const char *)mask->data + (size_t)(task.first_row + seers.row[i]) * mask->nb[1] +
                                  (size_t)(task.stream % s.masks) * mask->nb[3];
                const f32x16 bias = biases((const uint16_t *)row, task.view.cell(s) + piece.first + c, std::min(16, piece.count - c));
                x = x + bias * s.slope(task.first_head + query % task.heads);
            }
            if (~sees >> c & 0xffff) x = select((uint32_t)(sees >> c) & 0xffff, x, splat(-INFINITY));
            if (s.softcap != 0 || task.view.has_bias || ~sees >> c & 0xffff) store(scores + i * padded + c, x);
            largest.score = max(x, largest.score);
            largest.weighted = max(x + load<f32x16>(logarithms + c), largest.weighted);
        }
        most[query] = largest;
    }
}

// Says of each of a piece's cells what no logarithm of a value's magnitude is above (see bounds.h).
typedef void (*Bound)(const Task &, const View::Piece &, float *bounds, float *logarithms);

// The scores of a piece's cells; the largest of each query goes into `most`, and what is known of the values into
// `bounds`. Meanwhile the next piece's keys and values are asked for, those of `ask` cells with 16 of this one's.
template <class Keys>
void score(const Task &task, const View::Piece &piece, const float *queries, Soon soon[2], int ask, Bound bound, float *bounds, Largest *most) {
    const AttentionShape &s = task.shape;
    const Keys format(task.k_to_float);
    alignas(64) f32x16 keys[chunk * key_blocks];
    const Seers seers(task, piece);
    Cells cells;
    cells.find(task, piece, task.key_base(), task.node->src[1]->nb[1]);
    float *const scores = task.scores + piece.scores * task.heads;
    const int blocks = cells.padded / 16;
    for (int d = 0; d < s.key_size; d += chunk) {
        const int count = std::min(chunk, s.key_size - d);
        for (int b = 0; b < blocks; b++) {
            format.keys(cells.row + 16 * b, d, count, keys + b);
            if (d == 0) soon[0].ask(ask), soon[1].ask(ask);
        }
        for (int i = 0; i < seers.count; i += queries_at_once)
            with_constant<queries_at_once>(std::min(queries_at_once, seers.count - i), [&](auto many) {
                const float *query[queries_at_once];
                for (int j = 0; j < many.value; j++) query[j] = queries + seers.query[i + j] * s.key_floats() + d;
                for (int b = 0; b < blocks; b += vectors_at_once)
                    with_constant<vectors_at_once>(std::min(vectors_at_once, blocks - b), [&](auto vectors) {
                        add_products<vectors.value, many.value>(keys + b, query, count, scores + i * cells.padded + 16 * b, cells.padded,
                                                                d == 0);
                    });
            });
    }
    alignas(64) float logarithms[piece_cells];
    bound(task, piece, bounds, logarithms); // not earlier: the values may still be on their way
    finish_scores(task, piece, seers, logarithms, scores, most);
}

} // namespace VARIANT
