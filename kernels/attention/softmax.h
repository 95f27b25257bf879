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

// e^x for x <= 0 within a unit of the last place, and 0 below 2^-100. x = n ln 2 + r; e^r by a polynomial that is
// nearest to it for |r| <= ln 2 / 2; 2^n by the exponent's bits.
ALWAYS_INLINE f32x16 weight_of(f32x16 x) {
    const f32x16 bounded = max(x, splat(-70.0f));
    const f32x16 shifted = fma(bounded, splat(1.44269504f), splat(0x1.8p23f)); // its last bits are n
    const f32x16 whole = shifted - 0x1.8p23f;
    f32x16 r = fma(whole, splat(-0.693145752f), bounded); // ln 2 in two parts
    r = fma(whole, splat(-1.42860677e-6f), r);
    f32x16 p = splat(0.0013814539988857653f);
    p = fma(p, r, splat(0.008368745246053832f));
    p = fma(p, r, splat(0.041668390796591924f));
    p = fma(p, r, splat(0.16666520397866202f));
    p = fma(p, r, splat(0.49999993432044965f));
    p = fma(p, r, splat(1.0f));
    p = fma(p, r, splat(1.0f));
    const f32x16 e = bits<f32x16>(bits<i32x16>(p) + (bits<i32x16>(shifted) << 23));
    return choose(e < 0x1p-100f, f32x16{}, e);
}

// In units of 2^-30.
ALWAYS_INLINE i32x16 whole_units(f32x16 e) { return round_to_i32(e * 0x1p30f); }

// The sum of exponentials, in the same units.
inline int64_t total_of(const Task &task, int query) {
    int64_t total = 0;
    for (int p = 0; p < task.parts; p++) total += task.part(p).total[query];
    const float sink = task.sink(query);
    if (sink > -INFINITY) total += whole_units(weight_of(splat(sink - largest_score(task, query))))[0];
    return total;
}

// Makes of each score s the exponential of s - the row's largest. Its last bit is set: see values.h. What is
// below 2^-100 is nothing. Adds them to the totals.
inline void exponentiate(const Task &task, Pieces pieces, int64_t *totals) {
    struct Sums {
        u32x16 low{}, high{}; // sixteen bits each, so that they have room for 2^16 vectors
        i32x16 is_nan{};
    } sums[most_queries];
    float most[most_queries];
    for (int i = 0; i < task.queries(); i++) {
        most[i] = largest_score(task, i);
    }
    const auto flush = [&](int i) {
        int64_t &total = totals[i];
        for (int lane = 0; lane < 16; lane++) {
            total += ((int64_t)sums[i].high[lane] << 16) + sums[i].low[lane];
            if (sums[i].is_nan[lane]) total = no_total;
        }
        sums[i] = Sums();
    };
    int vectors = 0;
    for (const View::Piece *piece = pieces.begin(); piece < pieces.end(); piece++) {
        const Seers seers(task, *piece);
        const int padded = (piece->count + 15) / 16 * 16;
        float *scores = task.scores + piece->scores * task.heads;
        for (int i = 0; i < seers.count; i++, scores += padded) {
            const int query = seers.query[i];
            Sums sum = sums[query];
            for (int c = 0; c < padded; c += 16) {
                const f32x16 below = load<f32x16>(scores + c) - most[query];
                sum.is_nan |= below != below;
                const f32x16 e = weight_of(min(below, f32x16{}));
                const u32x16 units = bits<u32x16>(whole_units(e));
                sum.low += units & 0xffffu;
                sum.high += units >> 16;
                store(scores + c, bits<f32x16>(bits<u32x16>(e) | bits<u32x16>(e > 0.0f) >> 31));
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
