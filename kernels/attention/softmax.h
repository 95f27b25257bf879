// Exponentials of scores, and their sum, which no order of the cells changes: it is one of whole numbers.

#pragma once

#include "../simd/exp.h"
#include "task.h"

namespace VARIANT {

constexpr int64_t no_total = -((int64_t)1 << 56); // a part's, where a score is not a number: less than all totals

// Of all parts, and the sink.
inline float largest_score(const Task &task, int query) {
    float most = task.sink(query);
    for (int p = 0; p < task.parts; p++) most = std::max(most, task.part(p).most[query]);
    return most;
}

// e^x for x <= 0, in units of 2^-30.
ALWAYS_INLINE i32x16 whole_units(f32x16 e) { return round_to_i32(e * 0x1p30f); }

// The sum of exponentials, in the same units.
inline int64_t total_of(const Task &task, int query) {
    int64_t total = 0;
    for (int p = 0; p < task.parts; p++) total += task.part(p).total[query];
    const float sink = task.sink(query);
    if (sink > -INFINITY) total += whole_units(exp(splat(sink - largest_score(task, query))))[0];
    return total;
}

// Makes of each score s the exponential of s - the row's largest. Its last bit is set: see values.h. What is
// below 2^-100 is nothing.
inline void exponentiate(const Task &task, int p) {
    struct Sums {
        u32x16 low{}, high{}; // sixteen bits each, so that they have room for 2^16 vectors
        i32x16 is_nan{};
    } sums[most_queries];
    float most[most_queries];
    for (int i = 0; i < task.queries(); i++) {
        most[i] = largest_score(task, i);
    }
    const auto flush = [&](int i) {
        int64_t &total = task.part(p).total[i];
        for (int lane = 0; lane < 16; lane++) {
            total += ((int64_t)sums[i].high[lane] << 16) + sums[i].low[lane];
            if (sums[i].is_nan[lane]) total = no_total;
        }
        sums[i] = Sums();
    };
    for (int i = 0; i < task.queries(); i++) task.part(p).total[i] = 0;
    int vectors = 0;
    for (const View::Piece *piece = task.begin(p); piece < task.end(p); piece++) {
        const Seers seers(task, *piece);
        const int padded = (piece->count + 15) / 16 * 16;
        float *scores = task.scores + piece->scores * task.heads;
        for (int i = 0; i < seers.count; i++, scores += padded) {
            const int query = seers.query[i];
            Sums sum = sums[query];
            for (int c = 0; c < padded; c += 16) {
                const f32x16 below = load<f32x16>(scores + c) - most[query];
                sum.is_nan |= below != below;
                const f32x16 e = exp(min(below, f32x16{}));
                const u32x16 units = bits<u32x16>(whole_units(e));
                sum.low += units & 0xffffu;
                sum.high += units >> 16;
                store(scores + c, e < 0x1p-100f ? f32x16{} : bits<f32x16>(bits<u32x16>(e) | 1u));
            }
            sums[query] = sum;
        }
        vectors += 4;
        if (vectors < 1 << 15) continue;
        vectors = 0;
        for (int i = 0; i < task.queries(); i++) flush(i);
    }
    for (int i = 0; i < task.queries(); i++) flush(i);
}

} // namespace VARIANT
