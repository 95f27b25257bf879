// Sums of values times exponentials that no order of the cells changes: each product is rounded to the
// same unit, then whole numbers are added.
//
// The additions are those of floats. A piece's sum begins with start = 1.5 * 2^E and stays within the
// numbers from 2^E to 2^(E + 1), whose last place is unit = 2^(E - 23): so each step adds the product
// rounded to a unit, and the sum's bits less those of `start` are the number of units. A step would look at
// the sum only where a product is half way between two units, as that is rounded to an even last bit.
// That never is: an exponential's last bit is set, so its product with a value is an odd number of at least
// 2^23 times a power of 2; were it an odd number of half units, it would be 2^(E - 1) or more, which none is.
// E follows from the sum of exponentials and from how large values are, which have no order (see bounds.h).

#pragma once

#include "bounds.h"

namespace VARIANT {

// Vector n of cell c, from value `first` of the head on.
template <class Format> struct InCache {
    const Format &format;
    const char *const *row;
    const int first;
    ALWAYS_INLINE f32x16 operator()(int c, int n) const {
        if (first % (16 * vectors_at_once) != 0) __builtin_unreachable(); // so that a block's number is known where n is
        return format.values(row[c], first + 16 * n, 16);
    }
};

struct AsFloats {
    const f32x16 *values;
    ALWAYS_INLINE f32x16 operator()(int c, int n) const { return values[c * (chunk / 16) + n]; }
};

// Adds `count` cells' values (N vectors of each) to the sums of Q queries.
template <int N, int Q, class At>
__attribute__((noinline)) void add_weighted(At value_at, const float *const weight[Q], int count, const float *const start[Q],
                                            int32_t *const sums[Q]) {
    f32x16 sum[Q][N];
    for (int i = 0; i < Q; i++)
        for (int n = 0; n < N; n++) sum[i][n] = load<f32x16>(start[i] + 16 * n);
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
            // The exponent is still that of the start, whose fraction is half.
            const i32x16 units = (bits<i32x16>(sum[i][n]) & 0x7fffff) - 0x400000;
            store(sums[i] + 16 * n, load<i32x16>(sums[i] + 16 * n) + units);
        }
}

// Adds a piece's values to the sums.
template <class Values> void add_values(const Task &task, const View::Piece &piece, const float *starts, int32_t *sums) {
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
        const bool is_direct = seers.count <= queries_at_once && piece.seen < 0 && size % 16 == 0;
        for (int c = 0; c < cells.count && !is_direct; c++)
            for (int n = 0; n < vectors; n++) {
                f32x16 x = format.values(cells.row[c], d + 16 * n, size - d - 16 * n);
                // A row that does not see the cell takes it 0 times, which must be 0.
                if (piece.seen >= 0) x = choose(bits<f32x16>(bits<u32x16>(x) & 0x7fffffffu) < INFINITY, x, f32x16{});
                values[c * (chunk / 16) + n] = x;
            }
        for (int i = 0; i < seers.count; i += queries_at_once)
            with_constant<queries_at_once>(std::min(queries_at_once, seers.count - i), [&](auto many) {
                const float *weight[queries_at_once], *start[queries_at_once];
                int32_t *sum[queries_at_once];
                for (int j = 0; j < many.value; j++) {
                    weight[j] = weights + (i + j) * cells.padded;
                    start[j] = starts + seers.query[i + j] * width + d;
                    sum[j] = sums + seers.query[i + j] * width + d;
                }
                for (int n = 0; n < vectors; n += vectors_at_once)
                    with_constant<vectors_at_once>(std::min(vectors_at_once, vectors - n), [&](auto together) {
                        const float *from[queries_at_once];
                        int32_t *to[queries_at_once];
                        for (int j = 0; j < many.value; j++) from[j] = start[j] + 16 * n, to[j] = sum[j] + 16 * n;
                        if (is_direct)
                            add_weighted<together.value, many.value>(InCache<Values>{format, cells.row, d + 16 * n}, weight, cells.count, from, to);
                        else
                            add_weighted<together.value, many.value>(AsFloats{values + n}, weight, cells.count, from, to);
                    });
            });
    }
}

// 2^(E - 23) of 1.5 * 2^E.
inline float unit_of(float start) { return bits<float>((bits<uint32_t>(start) & 0x7f800000u) - (23u << 23)); }

// The task's results, of all parts' sums.
inline void write_results(const Task &task, const float *starts) {
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
        const float *const start = starts + i * width;
        const float inverse = start[0] == start[0] ? (float)(1 / ((double)total_of(task, i) * 0x1p-30)) : NAN;
        for (int d = 0; d < s.value_size; d++) out[d] = (float)sums[d] * (inverse * unit_of(start[d]));
    }
}

} // namespace VARIANT
