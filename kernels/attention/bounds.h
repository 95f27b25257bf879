// How large sums of values can become, by what was found before any was added; and so their units. Adds
// nothing itself.
//
// Two things are known of a row, both of them maxima, which have no order:
//   how large the magnitudes of each of the head's values are, in all cells that the row sees. So values that
//     are large in every cell, as some models have them, spoil no others;
//   how large a score + the logarithm of its cell's largest magnitude is, that is an exponential times a
//     magnitude. So values that are large in a cell that hardly counts spoil nothing.
// A sum can be no larger than either allows.

#pragma once

#include "formats.h"
#include "softmax.h"
#include "tiles.h"

namespace VARIANT {

constexpr float ln_2 = 0.693147181f;

// No less than the logarithm of a magnitude (and finite): a float's bits are its exponent and its fraction f, and
// log2(1 + f) <= f + 0.0861.
ALWAYS_INLINE f32x16 bounds_of_logarithms(f32x16 x) {
    return to_f32(bits<i32x16>(x)) * (0x1p-23f * ln_2) + (0.0862f - 127) * ln_2;
}

// Of a piece: raises what is known of its values' magnitudes in `bounds` (see Part), and says of each of its
// cells what no logarithm of a magnitude is above.
template <class Values> void bound(const Task &task, const View::Piece &piece, float *bounds, float *logarithms) {
    const int size = task.shape.value_size, width = task.shape.value_floats();
    Cells cells;
    cells.find(task, piece, task.value_base(), task.node->src[2]->nb[1]);
    const Values format(task.v_to_float);
    const uint64_t *const seen = task.seen(piece);
    const bool is_whole = !seen && piece.rows == task.all_rows();
    alignas(64) float of_cell[piece_cells] = {};
    for (int d = 0; d < size; d += bounds_chunk) {
        const int count = std::min(bounds_chunk, size - d);
        if (is_whole) {
            format.bounds(cells.row, cells.count, d, count, bounds + d, of_cell);
            continue;
        }
        alignas(64) float of_all[bounds_chunk] = {}, of_each[piece_cells * bounds_chunk];
        format.bounds(cells.row, cells.count, d, count, of_all, of_cell);
        if (seen) {
            memset(of_each, 0, (size_t)cells.count * bounds_chunk * sizeof *of_each);
            for (int c = 0; c < cells.count; c++) format.bounds(cells.row + c, 1, d, count, of_each + c * bounds_chunk, nullptr);
        }
        for (uint32_t rows = piece.rows; rows; rows &= rows - 1) {
            const int r = __builtin_ctz(rows);
            for (int n = 0; n < count; n += 16) {
                f32x16 most = load<f32x16>(of_all + n);
                if (seen) most = f32x16{};
                for (uint64_t cell = seen ? seen[r] : 0; cell; cell &= cell - 1)
                    most = max(most, load<f32x16>(of_each + __builtin_ctzll(cell) * bounds_chunk + n));
                raise(bounds + (1 + r) * width + d + n, most);
            }
        }
    }
    for (int c = 0; c < cells.padded; c += 16) store(logarithms + c, bounds_of_logarithms(load<f32x16>(of_cell + c)));
}

// The largest exponential times magnitude that a query can have. Its logarithm was found beside other scores, and
// what was rounded there, where scores are large, is more than all other roundings.
inline float largest_weighted(const Task &task, int query) {
    float most = -INFINITY;
    for (int p = 0; p < task.parts; p++) most = std::max(most, task.part(p).weighted[query]);
    const float of_score = largest_score(task, query);
    return exp(splat(most - of_score + 0.001f + std::fabs(of_score) * 0x1p-21f))[0];
}

// Where the sums of the task's queries begin, [query][value]: 1.5 * 2^E, their unit 2^(E - 23). 2^(E - 1) is more
// than any piece's sum, as a piece has 64 cells, whose exponentials are at most 1 each, and `total` together (but
// for the rounding of that); and it is so large that all pieces' units together have room in 31 bits. Not
// numbers where one that the row sees, or a score, is none.
inline void find_starts(const Task &task, float *starts) {
    const int width = task.shape.value_floats();
    struct {
        float by_value, by_weight;
        bool is_nan;
    } limit[most_queries];
    for (int i = 0; i < task.queries(); i++) {
        const double visible = (double)task.view.visible[i / task.heads];
        const int64_t units = total_of(task, i);
        const double total = (double)units * 0x1p-30 + visible * 0x1p-31;
        limit[i].is_nan = units < 0;
        limit[i].by_value = (float)((1 + 0x1p-12) * std::max(std::min(total, (double)piece_cells), total / 256));
        limit[i].by_weight = largest_weighted(task, i) * (float)std::max((double)piece_cells, visible / 256);
    }
    for (int r = 0; r < task.rows; r++) {
        f32x16 largest{};
        for (int d = 0; d < width; d += 16) {
            f32x16 bound{};
            for (int p = 0; p < task.parts; p++) {
                const float *const bounds = task.part(p).bounds + d;
                bound = max(bound, max(load<f32x16>(bounds), load<f32x16>(bounds + (1 + r) * width)));
            }
            largest = max(largest, bound);
            for (int i = r * task.heads; i < (r + 1) * task.heads; i++) {
                const f32x16 most = max(min(bound * limit[i].by_value, splat(limit[i].by_weight)), splat(0x1p-90f)); // < 2^(E - 1)
                store(starts + i * width + d, bits<f32x16>(((bits<u32x16>(most) & 0x7f800000u) + (2u << 23)) | 0x00400000u));
            }
        }
        for (int i = r * task.heads; i < (r + 1) * task.heads; i++) {
            if (!limit[i].is_nan && largest_lane(largest) * limit[i].by_value < 0x1p100f) continue;
            for (int d = 0; d < width; d++) starts[i * width + d] = NAN;
        }
    }
}

} // namespace VARIANT
