// Sums of values times exponentials that no order of the cells changes: each product is rounded to the
// same unit, then whole numbers are added.
//
// The additions are those of floats. A piece's sum begins with start = 1.5 * 2^E and stays within the
// numbers from 2^E to 2^(E + 1), whose last place is unit = 2^(E - 23): so each step adds the product
// rounded to a unit, and the sum's bits less those of `start` are the number of units. A step would look at
// the sum only where a product is half way between two units, as that is rounded to an even last bit.
// That never is: an exponential's last bit is set, so its product with a value is an odd number of at least
// 2^23 times a power of 2; were it an odd number of half units, it would be 2^(E - 1) or more, which none is.
// E follows from the largest value that the row sees and its sum of exponentials, which have no order.

#pragma once

#include "formats.h"
#include "softmax.h"
#include "tiles.h"

namespace VARIANT {

// Where a query's sums begin, and their unit. 2^(E - 1) is more than any piece's sum: a piece has 64
// cells, whose exponentials are at most 1 each, and `total` together (but for the rounding of that); and it is so large
// that all pieces' units together have room in 31 bits. Not numbers where a value, or a score, is none.
struct Start {
    float start;
    double unit;
};

inline Start start_of(const Task &task, int query) {
    const int row = query / task.heads;
    float bound = 0;
    for (int p = 0; p < task.parts; p++) bound = std::max(bound, task.part(p).bound[row]);
    const int64_t units = total_of(task, query);
    const double total = (double)units * 0x1p-30 + (double)task.view.visible[row] * 0x1p-31;
    const double most = (double)bound * (1 + 0x1p-12) * std::max(std::min(total, (double)piece_cells), total / 256);
    if (units < 0 || !(most < 0x1p100)) return {NAN, NAN};
    int exponent; // most < 2^exponent
    std::frexp(std::max(most, 0x1p-90), &exponent);
    return {std::ldexp(1.5f, exponent + 1), std::ldexp(1.0, exponent + 1 - 23)};
}

// The largest magnitude of a piece's values that each row sees, where it is above what `most` has.
template <class Values> void bound(const Task &task, const View::Piece &piece, float *most) {
    const int size = task.shape.value_size;
    Cells cells;
    cells.find(task, piece, task.value_base(), task.node->src[2]->nb[1]);
    const Values format(task.v_to_float);
    const uint64_t *const seen = task.seen(piece);
    float of_cell[piece_cells], of_piece = 0;
    if (!seen) of_piece = format.bound(cells.row, cells.count, size);
    for (int c = 0; seen && c < cells.count; c++) {
        of_cell[c] = format.bound(cells.row + c, 1, size);
        of_piece = std::max(of_piece, of_cell[c]);
    }
    for (uint32_t rows = piece.rows; rows; rows &= rows - 1) {
        const int r = __builtin_ctz(rows);
        if (of_piece <= most[r]) continue;
        if (!seen) most[r] = of_piece;
        for (uint64_t cell = seen ? seen[r] : 0; cell; cell &= cell - 1) most[r] = std::max(most[r], of_cell[__builtin_ctzll(cell)]);
    }
}

// Vector n of cell c, from value `d` of the head on.
template <class Format> struct InCache {
    const Format &format;
    const char *const *row;
    const int d;
    ALWAYS_INLINE f32x16 operator()(int c, int n) const {
        if (d % chunk != 0) __builtin_unreachable(); // so that a block's number is known where n is
        return format.values(row[c], d + 16 * n, 16);
    }
};

struct AsFloats {
    const f32x16 *values;
    ALWAYS_INLINE f32x16 operator()(int c, int n) const { return values[c * (chunk / 16) + n]; }
};

// Adds `count` cells' values (N vectors of each) to the sums of Q queries.
template <int N, int Q, class At>
__attribute__((noinline)) void add_weighted(At value_at, const float *const weight[Q], int count, const float start[Q], int32_t *const sums[Q]) {
    f32x16 sum[Q][N];
    for (int i = 0; i < Q; i++)
        for (int n = 0; n < N; n++) sum[i][n] = splat(start[i]);
    for (int c = 0; c < count; c++) {
        f32x16 value[N];
        for (int n = 0; n < N; n++) value[n] = value_at(c, n);
        for (int i = 0; i < Q; i++) {
            const f32x16 x = splat(weight[i][c]);
            for (int n = 0; n < N; n++) sum[i][n] = fma(value[n], x, sum[i][n]);
        }
    }
    for (int i = 0; i < Q; i++)
        for (int n = 0; n < N; n++) {
            const i32x16 units = bits<i32x16>(sum[i][n]) - bits<i32x16>(splat(start[i]));
            store(sums[i] + 16 * n, load<i32x16>(sums[i] + 16 * n) + units);
        }
}

// Adds a piece's values to the sums.
template <class Values> void add_values(const Task &task, const View::Piece &piece, const Start *starts, int32_t *sums) {
    const int size = task.shape.value_size, width = task.shape.value_floats();
    const Values format(task.v_to_float);
    alignas(64) f32x16 values[piece_cells * chunk / 16];
    Cells cells;
    cells.find(task, piece, task.value_base(), task.node->src[2]->nb[1]);
    const Seers seers(task, piece);
    const float *const weights = task.scores + piece.scores * task.heads;
    for (int d = 0; d < size; d += chunk) {
        const int vectors = std::min(chunk / 16, (size - d + 15) / 16);
        // Made floats once; or, for few queries, where they are used.
        const bool is_direct = seers.count <= queries_at_once && piece.seen < 0 && vectors <= vectors_at_once && size % 16 == 0;
        for (int c = 0; c < cells.count && !is_direct; c++)
            for (int n = 0; n < vectors; n++) {
                f32x16 x = format.values(cells.row[c], d + 16 * n, size - d - 16 * n);
                // A row that does not see the cell takes it 0 times, which must be 0.
                if (piece.seen >= 0) x = bits<f32x16>(bits<u32x16>(x) & 0x7fffffffu) < INFINITY ? x : f32x16{};
                values[c * (chunk / 16) + n] = x;
            }
        for (int i = 0; i < seers.count; i += queries_at_once)
            with_constant<queries_at_once>(std::min(queries_at_once, seers.count - i), [&](auto many) {
                const float *weight[queries_at_once];
                float start[queries_at_once];
                int32_t *sum[queries_at_once];
                for (int j = 0; j < many.value; j++) {
                    weight[j] = weights + (i + j) * cells.padded;
                    start[j] = starts[seers.query[i + j]].start;
                    sum[j] = sums + seers.query[i + j] * width + d;
                }
                for (int n = 0; n < vectors; n += vectors_at_once)
                    with_constant<vectors_at_once>(std::min(vectors_at_once, vectors - n), [&](auto together) {
                        int32_t *to[queries_at_once];
                        for (int j = 0; j < many.value; j++) to[j] = sum[j] + 16 * n;
                        if (is_direct)
                            add_weighted<together.value, many.value>(InCache<Values>{format, cells.row, d}, weight, cells.count, start, to);
                        else
                            add_weighted<together.value, many.value>(AsFloats{values + n}, weight, cells.count, start, to);
                    });
            });
    }
}

// The task's results, of all parts' sums.
inline void write_results(const Task &task) {
    const AttentionShape &s = task.shape;
    const ggml_tensor *node = task.node;
    const int width = s.value_floats();
    for (int i = 0; i < task.queries(); i++) {
        const int row = i / task.heads;
        float *const out = (float *)((char *)node->data + (size_t)(task.first_head + i % task.heads) * node->nb[1] +
                                     (size_t)(task.first_row + row) * node->nb[2] + (size_t)task.stream * node->nb[3]);
        if (task.view.visible[row] == 0) {
            memset(out, 0, (size_t)s.value_size * sizeof *out);
            continue;
        }
        int32_t *const sums = task.part(0).sums + i * width;
        for (int p = 1; p < task.parts; p++)
            for (int d = 0; d < width; d++) sums[d] += task.part(p).sums[i * width + d];
        const float factor = (float)(start_of(task, i).unit / ((double)total_of(task, i) * 0x1p-30));
        for (int d = 0; d < s.value_size; d++) out[d] = (float)sums[d] * factor;
    }
}

} // namespace VARIANT
