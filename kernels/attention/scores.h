// Scores of queries with cells: a lane is a cell, so each is one sum along the head, in one order, however
// many queries and cells there are.

#pragma once

#include "../matmul/unpacked.h"
#include "../simd/exp.h"
#include "tile.h"

namespace VARIANT {

constexpr int blocks_at_once = 2; // of 16 cells
constexpr int queries_at_once = 6;
constexpr int most_head_size = 576;

ALWAYS_INLINE f32x16 tanh(f32x16 x) { return 1.0f - 2.0f / (exp(min(x + x, splat(80.0f))) + 1.0f); }

// Keys of 16 cells as floats: keys[d] holds value d of each.
struct FloatKeys {
    static void read_f16(const Rows &rows, int64_t head_size, f32x16 *keys) {
        int64_t d = 0;
        for (; d + 32 <= head_size; d += 32) {
            u32x16 t[16];
            gather16(rows, (size_t)d * 2, t);
            widen(t, 16, keys + d);
        }
        if (d < head_size) {
            u32x16 t[8];
            gather<32>(rows, (size_t)d * 2, t);
            widen(t, 8, keys + d);
        }
    }

    static void read_any(const Rows &rows, int64_t head_size, RowToFloat to_float, f32x16 *keys) {
        alignas(64) float row[16][most_head_size];
        Rows copies{{}, 0};
        for (int r = 0; r < 16; r++) {
            if (to_float)
                to_float(rows.row[r], row[r], head_size);
            else
                memcpy(row[r], rows.row[r], (size_t)head_size * sizeof(float));
            copies.row[r] = (const uint8_t *)row[r];
        }
        for (int64_t d = 0; d < head_size; d += 16) gather16(copies, (size_t)d * 4, (u32x16 *)keys + d);
    }

  private:
    static ALWAYS_INLINE void widen(const u32x16 *t, int count, f32x16 *keys) {
        for (int j = 0; j < count; j++) {
            keys[2 * j] = f16_lanes_to_f32(t[j]);
            keys[2 * j + 1] = f16_lanes_to_f32(t[j] >> 16);
        }
    }
};

// out[q][b] = query q . keys of block b.
template <int Q> void dot_floats(const float *const *queries, const f32x16 *keys, int64_t head_size, f32x16 (*out)[blocks_at_once]) {
    f32x16 sum[Q][blocks_at_once];
    for (int q = 0; q < Q; q++)
        for (int b = 0; b < blocks_at_once; b++) sum[q][b] = f32x16{};
#pragma GCC unroll 4
    for (int64_t d = 0; d < head_size; d++)
        for (int q = 0; q < Q; q++) {
            const f32x16 x = splat(queries[q][d]);
            for (int b = 0; b < blocks_at_once; b++) sum[q][b] = fma(x, keys[b * head_size + d], sum[q][b]);
        }
    for (int q = 0; q < Q; q++)
        for (int b = 0; b < blocks_at_once; b++) out[q][b] = sum[q][b];
}

// Keys of 16 cells in q8_0: pairs of 16 bits, values 0 and 2 of each four, then 1 and 3; and each block's
// scale.
struct Q8Keys {
    i16x32 pairs[most_head_size / 2];
    f32x16 scales[most_head_size / 32];

    void read(const Rows &rows, int64_t head_size) {
        const int blocks = (int)(head_size / 32);
        for (int b = 0; b < blocks; b += 2) {
            const size_t left = 34 * (size_t)b + 2, right = b + 1 < blocks ? left + 34 : left;
            u32x16 t[16];
            for (int r = 0; r < 16; r++) {
                memcpy(&t[r], rows.row[r] + left, 32);
                memcpy((uint8_t *)&t[r] + 32, rows.row[r] + right, 32);
            }
            transpose16(t);
            for (int j = 0; j < (b + 1 < blocks ? 16 : 8); j++) {
                pairs[16 * b + 2 * j] = (bits<i16x32>(t[j]) << 8) >> 8;
                pairs[16 * b + 2 * j + 1] = bits<i16x32>(t[j]) >> 8;
            }
            scales[b] = f16_lanes_to_f32(gather_u16(rows, left - 2));
            if (b + 1 < blocks) scales[b + 1] = f16_lanes_to_f32(gather_u16(rows, right - 2));
        }
    }
};

// A query in 16 bits, with a scale for each 32 values: its rounding is 2^-16 of the largest of them.
struct Q16Query {
    int32_t pairs[most_head_size / 2];
    float scales[most_head_size / 32];

    void read(const float *x, int64_t head_size) {
        for (int64_t b = 0; b < head_size / 32; b++) {
            float largest = 0;
            for (int i = 0; i < 32; i++) largest = __builtin_fabsf(x[32 * b + i]) > largest ? __builtin_fabsf(x[32 * b + i]) : largest;
            const float inverse = largest > 0 ? 32767 / largest : 0;
            scales[b] = largest / 32767;
            alignas(64) int32_t q[32];
            for (int h = 0; h < 2; h++) store(q + 16 * h, round_to_i32(load<f32x16>(x + 32 * b + 16 * h) * inverse));
            for (int j = 0; j < 8; j++)
                for (int o = 0; o < 2; o++)
                    pairs[16 * b + 2 * j + o] = (int32_t)(((uint32_t)q[4 * j + o] & 0xffffu) | ((uint32_t)q[4 * j + o + 2] << 16));
        }
    }
};

template <int Q> void dot_q8(const Q16Query *const *queries, const Q8Keys *keys, int64_t head_size, f32x16 (*out)[blocks_at_once]) {
    f32x16 sum[Q][blocks_at_once];
    for (int q = 0; q < Q; q++)
        for (int b = 0; b < blocks_at_once; b++) sum[q][b] = f32x16{};
    for (int64_t block = 0; block < head_size / 32; block++) {
        i32x16 dot[Q][blocks_at_once];
        for (int q = 0; q < Q; q++)
            for (int b = 0; b < blocks_at_once; b++) dot[q][b] = i32x16{};
#pragma GCC unroll 4
        for (int j = 0; j < 16; j++)
            for (int q = 0; q < Q; q++) {
                const i16x32 x = bits<i16x32>(splat(queries[q]->pairs[16 * block + j]));
                for (int b = 0; b < blocks_at_once; b++) dot[q][b] = dot_i16(dot[q][b], keys[b].pairs[16 * block + j], x);
            }
        for (int q = 0; q < Q; q++)
            for (int b = 0; b < blocks_at_once; b++)
                sum[q][b] = fma(to_f32(dot[q][b]), keys[b].scales[block] * splat(queries[q]->scales[block]), sum[q][b]);
    }
    for (int q = 0; q < Q; q++)
        for (int b = 0; b < blocks_at_once; b++) out[q][b] = sum[q][b];
}

// Calls call(Q) with the constant Q = count, which is 1 to queries_at_once.
template <class Call, int Q = 1> ALWAYS_INLINE void with_queries(int count, Call call) {
    if constexpr (Q == queries_at_once)
        call(std::integral_constant<int, Q>{});
    else if (count == Q)
        call(std::integral_constant<int, Q>{});
    else
        with_queries<Call, Q + 1>(count, call);
}

} // namespace VARIANT
