// Sums of values, weighted by probabilities, that do not depend on the order of cells.
//
// A float that begins at 1.5 x 2^E is a number in fixed point as long as it stays between 2^E and 2^(E+1):
// adding to it rounds to multiples of 2^(E-23), and sums of such multiples are exact. With 2^(E-1) above
// every |value| and probabilities that sum up to 1, it stays there. A probability's last bit is set: then
// no product lies in the middle of two multiples, where rounding would look at the sum so far.

#pragma once

#include "scores.h"

namespace VARIANT {

constexpr int cells_at_once = 32;

// Where a sum begins whose values are at most `largest`.
ALWAYS_INLINE float sum_begin(float largest) {
    int exponent = (int)(bits<uint32_t>(largest) >> 23) - 127;
    exponent = exponent < -100 ? -100 : exponent > 120 ? 120 : exponent;
    return bits<float>((uint32_t)(exponent + 2 + 127) << 23 | 0x400000u);
}

// A probability as it may be multiplied: below 1, its last bit set, or 0 if it is too small to matter.
ALWAYS_INLINE f32x16 fit_for_sums(f32x16 p) {
    const f32x16 below_1 = min(p, splat(0x1.fffffep-1f));
    const u32x16 odd = bits<u32x16>(below_1) | 1u;
    return bits<f32x16>(odd & bits<u32x16>(p > 0x1p-60f));
}

// Values of some cells where they lie in the cache, in 16 bits.
struct F16Values {
    const uint8_t *const *rows;
    ALWAYS_INLINE f32x16 operator()(int cell, int64_t at) const { return load_f16(rows[cell] + 2 * at); }
};

typedef int8_t i8x16 __attribute__((vector_size(16)));

ALWAYS_INLINE f32x16 load_q8(const uint8_t *row, int64_t at) {
    const uint8_t *const block = row + at / 32 * 34;
    uint16_t scale;
    memcpy(&scale, block, 2);
    i8x16 q;
    memcpy(&q, block + 2 + at % 32, 16);
    return to_f32(__builtin_convertvector(q, i32x16)) * splat(f16_to_f32(scale)); // exact: 8 bits times 11
}

struct Q8Values {
    const uint8_t *const *rows;
    ALWAYS_INLINE f32x16 operator()(int cell, int64_t at) const { return load_q8(rows[cell], at); }
};

// Values that have been turned into floats before, for many queries.
struct FloatValues {
    const float *values;
    int64_t head_size;
    ALWAYS_INLINE f32x16 operator()(int cell, int64_t at) const { return load<f32x16>(values + cell * head_size + at); }
};

// sums[q][at..] += probabilities[q][cell] * value of cell, for Q queries and N vectors of 16 from `at` on.
template <int Q, int N, class Values>
void add_values(const float *const *probabilities, int count, const Values &values, int64_t at, float *const *sums) {
    f32x16 sum[Q][N];
    for (int q = 0; q < Q; q++)
        for (int n = 0; n < N; n++) sum[q][n] = load<f32x16>(sums[q] + at + 16 * n);
    for (int cell = 0; cell < count; cell++) {
        f32x16 value[N];
        for (int n = 0; n < N; n++) value[n] = values(cell, at + 16 * n);
        for (int q = 0; q < Q; q++) {
            const f32x16 p = splat(probabilities[q][cell]);
            for (int n = 0; n < N; n++) sum[q][n] = fma(p, value[n], sum[q][n]);
        }
    }
    for (int q = 0; q < Q; q++)
        for (int n = 0; n < N; n++) store(sums[q] + at + 16 * n, sum[q][n]);
}

template <class Values>
void add_values_of_all(const float *const *probabilities, int queries, int count, const Values &values, int64_t head_size, float *const *sums) {
    for (int first = 0; first < queries; first += queries_at_once)
        with_queries(queries - first < queries_at_once ? queries - first : queries_at_once, [&](auto q) {
            int64_t at = 0;
            for (; at + 64 <= head_size; at += 64) add_values<q.value, 4>(probabilities + first, count, values, at, sums + first);
            for (; at < head_size; at += 16) add_values<q.value, 1>(probabilities + first, count, values, at, sums + first);
        });
}

} // namespace VARIANT
