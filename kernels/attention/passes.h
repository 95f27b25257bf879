// The three passes of attention over a tile: scores of all cells, probabilities, sums of values.
//
// Each can be given a part of the cells, so that threads share a tile. Every number is the same however
// it is divided.

#pragma once

#include <atomic>
#include <cmath>

#include "values.h"

namespace VARIANT {

// What a thread needs for itself.
struct Workspace {
    float keys[blocks_at_once * most_head_size * 16];
    float values[cells_at_once * most_head_size];
    Q8Keys q8_keys[blocks_at_once];
    Q16Query q16_queries[most_queries];
};

// The largest magnitude of values that each row of a tile sees: bits of a positive float.
typedef std::atomic<uint32_t> Largest;

ALWAYS_INLINE void raise(Largest &largest, float value) {
    const uint32_t wanted = bits<uint32_t>(value);
    uint32_t known = largest.load(std::memory_order_relaxed);
    while (known < wanted && !largest.compare_exchange_weak(known, wanted, std::memory_order_relaxed)) {}
}

// At least as large as each of a cell's values.
ALWAYS_INLINE float bound_of(const Shape &shape, const uint8_t *value, float *room) {
    const int64_t size = shape.v_head_size;
    if (shape.v->type == GGML_TYPE_Q8_0) {
        uint16_t largest = 0;
        for (int64_t b = 0; b < size / 32; b++) {
            uint16_t scale;
            memcpy(&scale, value + 34 * b, 2);
            scale &= 0x7fff;
            largest = scale > largest ? scale : largest;
        }
        return 128 * f16_to_f32(largest);
    }
    const float *x = (const float *)value;
    if (shape.v_to_float) shape.v_to_float(value, room, size), x = room;
    f32x16 largest{};
    for (int64_t i = 0; i < size; i += 16) largest = max(largest, bits<f32x16>(bits<u32x16>(load<f32x16>(x + i)) & 0x7fffffffu));
    float result = 0;
    for (int i = 0; i < 16; i++) result = largest[i] > result ? largest[i] : result;
    return 1.01f * result;
}

ALWAYS_INLINE uint16_t largest_f16(u16x32 x) {
    uint16_t largest = 0;
    for (int i = 0; i < 32; i++) largest = x[i] > largest ? x[i] : largest;
    return largest;
}

// The same of up to 16 cells in 16 bits, all together.
ALWAYS_INLINE u16x32 max_f16(u16x32 largest, const uint8_t *value, int64_t size) {
    int64_t i = 0;
    for (; i + 32 <= size; i += 32) {
        const u16x32 x = load<u16x32>(value + 2 * i) & (uint16_t)0x7fff;
        largest = x > largest ? x : largest;
    }
    if (i < size) {
        u16x32 x{};
        memcpy(&x, value + 2 * i, 32);
        x &= (uint16_t)0x7fff;
        largest = x > largest ? x : largest;
    }
    return largest;
}

class Passes {
  public:
    Passes(const Job &job, const Visible &visible, Workspace &work) : job_(job), shape_(job.shape), visible_(visible), work_(work) {
        if (shape_.k->type == GGML_TYPE_Q8_0)
            for (int q = 0; q < job.queries(); q++) work.q16_queries[q].read(job.query(q), shape_.head_size);
    }

    // Scores of the cells with slots from `begin` to `end` (multiples of 16); raises `largest` of each row.
    void score(int begin, int end, Largest *largest) {
        for (int s = 0; s < visible_.segment_count; s++) {
            const Segment &segment = visible_.segments[s];
            const int first = begin > segment.slot ? begin - segment.slot : 0;
            const int last = end - segment.slot < segment.count ? end - segment.slot : segment.count;
            if (first >= last) continue;
            int queries[most_queries];
            const int count = job_.queries_of(segment.rows, queries);
            for (int c = first; c < last; c += 16 * blocks_at_once)
                score_cells(segment, c, last - c < 16 * blocks_at_once ? last - c : 16 * blocks_at_once, queries, count);
            bound_values(segment, first, last, largest);
        }
    }

    // A query's scores become its probabilities.
    static void normalize(const Job &job, const Visible &visible, int query) {
        const uint16_t bit = (uint16_t)(1u << query / job.shape.group);
        float *const scores = job.scores_of(query);
        const ggml_tensor *const sinks = job.shape.sinks;
        const float sink = sinks ? ((const float *)sinks->data)[job.head_of(query)] : -INFINITY;
        f32x16 highest = splat(-INFINITY);
        for_each_vector(visible, bit, [&](int slot) { highest = max(highest, load<f32x16>(scores + slot)); });
        float top = sink;
        for (int i = 0; i < 16; i++) top = highest[i] > top ? highest[i] : top;
        if (top == -INFINITY) { // it sees nothing
            for_each_vector(visible, bit, [&](int slot) { store(scores + slot, f32x16{}); });
            return;
        }
        u32x16 high{}, low{}; // of sums of whole numbers: exact, in any order
        for_each_vector(visible, bit, [&](int slot) {
            const f32x16 e = exp(load<f32x16>(scores + slot) - top);
            store(scores + slot, e);
            const u32x16 whole = bits<u32x16>(round_to_i32(e * 0x1p30f));
            high += whole >> 15;
            low += whole & 0x7fffu;
        });
        uint64_t sum = sinks ? bits<u32x16>(round_to_i32(exp(splat(sink - top)) * 0x1p30f))[0] : 0;
        for (int i = 0; i < 16; i++) sum += ((uint64_t)high[i] << 15) + low[i];
        const float inverse = (float)(0x1p30 / (double)sum);
        for_each_vector(visible, bit, [&](int slot) { store(scores + slot, fit_for_sums(load<f32x16>(scores + slot) * inverse)); });
    }

    // Adds the values of the cells with slots from `begin` to `end` to sums[query].
    void add(int begin, int end, float *sums) {
        for (int s = 0; s < visible_.segment_count; s++) {
            const Segment &segment = visible_.segments[s];
            const int first = begin > segment.slot ? begin - segment.slot : 0;
            const int last = end - segment.slot < segment.count ? end - segment.slot : segment.count;
            if (first >= last) continue;
            int queries[most_queries];
            const int count = job_.queries_of(segment.rows, queries);
            for (int c = first; c < last; c += cells_at_once)
                add_cells(segment, c, last - c < cells_at_once ? last - c : cells_at_once, queries, count, sums);
        }
    }

  private:
    void score_cells(const Segment &segment, int from, int count, const int *queries, int query_count) {
        const int64_t size = shape_.head_size;
        f32x16 *const keys = (f32x16 *)work_.keys;
        const int blocks = (count + 15) / 16;
        for (int b = 0; b < blocks_at_once; b++) {
            if (b == blocks) break;
            Rows rows{{}, 0};
            for (int r = 0; r < 16; r++) {
                const int i = 16 * b + r;
                rows.row[r] = job_.key(visible_.cells[segment.first + from + (i < count ? i : count - 1)]);
            }
            if (shape_.k->type == GGML_TYPE_F16)
                FloatKeys::read_f16(rows, size, keys + b * size);
            else if (shape_.k->type == GGML_TYPE_Q8_0)
                work_.q8_keys[b].read(rows, size);
            else
                FloatKeys::read_any(rows, size, shape_.k_to_float, keys + b * size);
        }
        for (int first = 0; first < query_count; first += queries_at_once) {
            const int many = query_count - first < queries_at_once ? query_count - first : queries_at_once;
            f32x16 dots[queries_at_once][blocks_at_once];
            if (shape_.k->type == GGML_TYPE_Q8_0) {
                const Q16Query *x[queries_at_once];
                for (int q = 0; q < many; q++) x[q] = &work_.q16_queries[queries[first + q]];
                with_queries(many, [&](auto q) { dot_q8<q.value>(x, work_.q8_keys, size, dots); });
            } else {
                const float *x[queries_at_once];
                for (int q = 0; q < many; q++) x[q] = job_.query(queries[first + q]);
                with_queries(many, [&](auto q) { dot_floats<q.value>(x, keys, size, dots); });
            }
            for (int q = 0; q < many; q++) finish_scores(segment, from, count, queries[first + q], dots[q]);
        }
    }

    // Scale, cap, bias, mask.
    void finish_scores(const Segment &segment, int from, int count, int query, const f32x16 *dots) {
        const int row = query / shape_.group;
        for (int b = 0; b < (count + 15) / 16; b++) {
            f32x16 s = dots[b] * shape_.scale;
            if (shape_.softcap != 0) s = tanh(s) * shape_.softcap;
            const int here = count - 16 * b;
            if (here < 16 || segment.is_mixed || visible_.is_biased) {
                const int32_t *cells = visible_.cells + segment.first + from + 16 * b;
                const int64_t head = job_.head_of(query);
                const char *mask = visible_.is_biased ? job_.mask_of(head) + (size_t)row * shape_.mask->nb[1] : nullptr;
                const float slope = mask ? shape_.slope(head) : 0;
                for (int i = 0; i < 16; i++) {
                    if (i >= here || !(visible_.rows_of_cell[cells[i]] >> row & 1)) {
                        s[i] = -INFINITY;
                    } else if (mask) {
                        uint16_t bias;
                        memcpy(&bias, mask + 2 * (size_t)cells[i], 2);
                        s[i] += slope * f16_to_f32(bias);
                    }
                }
            }
            store(job_.scores_of(query) + segment.slot + from + 16 * b, s);
        }
    }

    void bound_values(const Segment &segment, int first, int last, Largest *largest) {
        const int32_t *cells = visible_.cells + segment.first;
        const bool is_f16 = shape_.v->type == GGML_TYPE_F16;
        if (segment.is_mixed) {
            for (int c = first; c < last; c++) {
                const uint8_t *value = job_.value(cells[c]);
                const float bound = is_f16 ? f16_to_f32(largest_f16(max_f16(u16x32{}, value, shape_.v_head_size))) : bound_of(shape_, value, work_.values);
                raise_rows(visible_.rows_of_cell[cells[c]], bound, largest);
            }
            return;
        }
        float bound = 0;
        if (is_f16) {
            u16x32 most{};
            for (int c = first; c < last; c++) most = max_f16(most, job_.value(cells[c]), shape_.v_head_size);
            bound = f16_to_f32(largest_f16(most));
        } else {
            for (int c = first; c < last; c++) {
                const float one = bound_of(shape_, job_.value(cells[c]), work_.values);
                bound = one > bound ? one : bound;
            }
        }
        raise_rows(segment.rows, bound, largest);
    }

    void raise_rows(uint16_t rows, float bound, Largest *largest) {
        for (int r = 0; r < job_.rows; r++)
            if (rows >> r & 1) raise(largest[r], bound);
    }

    void add_cells(const Segment &segment, int from, int count, const int *queries, int query_count, float *sums) {
        const int64_t size = shape_.v_head_size;
        const uint8_t *rows[cells_at_once];
        for (int i = 0; i < count; i++) rows[i] = job_.value(visible_.cells[segment.first + from + i]);
        const float *probabilities[most_queries];
        float *to[most_queries];
        for (int q = 0; q < query_count; q++) {
            probabilities[q] = job_.scores_of(queries[q]) + segment.slot + from;
            to[q] = sums + queries[q] * size;
        }
        const bool is_f16 = shape_.v->type == GGML_TYPE_F16, is_q8 = shape_.v->type == GGML_TYPE_Q8_0;
        if (query_count <= queries_at_once && is_f16) return add_values_of_all(probabilities, query_count, count, F16Values{rows}, size, to);
        if (query_count <= queries_at_once && is_q8) return add_values_of_all(probabilities, query_count, count, Q8Values{rows}, size, to);
        for (int i = 0; i < count; i++) {
            float *const out = work_.values + i * size;
            if (is_f16)
                for (int64_t d = 0; d < size; d += 16) store(out + d, load_f16(rows[i] + 2 * d));
            else if (is_q8)
                for (int64_t d = 0; d < size; d += 16) store(out + d, load_q8(rows[i], d));
            else if (shape_.v_to_float)
                shape_.v_to_float(rows[i], out, size);
            else
                memcpy(out, rows[i], (size_t)size * sizeof(float));
        }
        add_values_of_all(probabilities, query_count, count, FloatValues{work_.values, size}, size, to);
    }

    template <class F> static ALWAYS_INLINE void for_each_vector(const Visible &visible, uint16_t row_bit, F f) {
        for (int s = 0; s < visible.segment_count; s++) {
            const Segment &segment = visible.segments[s];
            if (!(segment.rows & row_bit)) continue;
            for (int i = 0; i < segment.count; i += 16) f(segment.slot + i);
        }
    }

    const Job &job_;
    const Shape &shape_;
    const Visible &visible_;
    Workspace &work_;
};

} // namespace VARIANT
