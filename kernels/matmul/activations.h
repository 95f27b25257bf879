// Rows of activations as bytes with scales, packed for a few rows at a time.
//
// A tile holds, for M rows beside each other: bytes [values / 4][M] (dwords), scales [scales][M], and
// what weights with an offset or a minimum add: numbers made from the sums of the bytes [..][M].
// A row's numbers do not depend on the rows beside it.

#pragma once

#include "../simd/vector.h"

namespace VARIANT {

// What the registers hold: sums of so many rows for so many groups of 16 weight rows.
#if defined(__AVX512F__)
constexpr int tile_rows = 6, groups = 2;
#else
constexpr int tile_rows = 4, groups = 1;
#endif

// How many rows tile `t` of `rows` has, and where it starts: as even as can be.
struct Tiles {
    int64_t rows;
    int64_t count;

    explicit Tiles(int64_t rows) : rows(rows), count((rows + tile_rows - 1) / tile_rows) {}
    int64_t first(int64_t t) const { return rows * t / count; }
    int size(int64_t t) const { return (int)(first(t + 1) - first(t)); }
};

template <class F> struct Packed {
    static constexpr bool by_256 = F::block_values == 256; // one scale for 256 values, as in K-quants
    static constexpr int values_per_scale = by_256 ? 256 : 32;

    // Dwords of the three parts, for each row.
    static size_t bytes_part(int64_t k) { return (size_t)k / 4; }
    static size_t scales_part(int64_t k) { return (size_t)k / values_per_scale; }
    static size_t sums_part(int64_t k) {
        if constexpr (by_256) {
            if constexpr (F::minimum_pairs > 0) return (size_t)k / 256 * F::minimum_pairs;
            return (size_t)k / F::values_per_scale;
        } else {
            return (size_t)k / 32;
        }
    }
    static size_t row_dwords(int64_t k) { return bytes_part(k) + scales_part(k) + sums_part(k); }

    const uint32_t *bytes;
    const float *scales;
    const int32_t *sums; // or floats of the same size

    Packed(const uint32_t *tile, int rows, int64_t k)
        : bytes(tile), scales((const float *)(tile + bytes_part(k) * rows)),
          sums((const int32_t *)(tile + (bytes_part(k) + scales_part(k)) * rows)) {}
};

// The sum of 16 lanes: exact, since they are whole numbers.
ALWAYS_INLINE int32_t sum_of(i32x16 x) {
    x += shuffle<8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7>(x, x);
    x += shuffle<4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11>(x, x);
    return x[0] + x[1] + x[2] + x[3];
}

// Not a number, if one of them is none: as bits, these are the largest.
ALWAYS_INLINE float largest_magnitude(const float *x, int count) {
    i32x16 largest{};
    for (int i = 0; i < count; i += 16) {
        const i32x16 v = load<i32x16>(x + i) & 0x7fffffff;
        largest = choose(v > largest, v, largest);
    }
    const auto further = [&](i32x16 other) { largest = choose(other > largest, other, largest); };
    further(shuffle<8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7>(largest, largest));
    further(shuffle<4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11>(largest, largest));
    int32_t result = 0;
    for (int i = 0; i < 4; i++) result = largest[i] > result ? largest[i] : result;
    return bits<float>(result);
}

// Of a block of values whose largest magnitude this is. What has no inverse counts as zeros: the bytes of a
// block are never beyond 127. Where a value is not finite, no product of the row is a number.
struct Scaling {
    float scale, inverse;

    explicit ALWAYS_INLINE Scaling(float largest)
        : scale(largest < __builtin_inff() ? largest / 127 : __builtin_nanf("")), inverse(largest > 0x1p-118f ? 127 / largest : 0) {}
};

// Writes row `m` of the `rows` rows of a tile.
template <class F> void pack_row(const float *x, int64_t k, uint32_t *tile, int m, int rows) {
    using P = Packed<F>;
    uint32_t *bytes = tile;
    float *scales = (float *)(tile + P::bytes_part(k) * rows);
    int32_t *sums = (int32_t *)(tile + (P::bytes_part(k) + P::scales_part(k)) * rows);
    for (int64_t at = 0; at < k; at += P::values_per_scale) {
        const Scaling scaling(largest_magnitude(x + at, P::values_per_scale));
        scales[at / P::values_per_scale * rows + m] = scaling.scale;
        int32_t sum16[P::values_per_scale / 16];
        for (int i = 0; i < P::values_per_scale / 16; i++) {
            const i32x16 q = round_to_i32(load<f32x16>(x + at + 16 * i) * scaling.inverse);
            sum16[i] = sum_of(q);
            const u32x4 dwords = bits<u32x4>(narrow(q));
            for (int j = 0; j < 4; j++) bytes[(at / 4 + 4 * i + j) * rows + m] = dwords[j];
        }
        if constexpr (P::by_256) {
            if constexpr (F::minimum_pairs > 0) {
                constexpr int sixteens = 16 / (2 * F::minimum_pairs); // in one half of a pair
                for (int p = 0; p < F::minimum_pairs; p++) {
                    int32_t half[2] = {0, 0};
                    for (int h = 0; h < 2; h++)
                        for (int i = 0; i < sixteens; i++) half[h] += sum16[(2 * p + h) * sixteens + i];
                    sums[(at / 256 * F::minimum_pairs + p) * rows + m] =
                        (int32_t)(((uint32_t)half[0] & 0xffffu) | ((uint32_t)half[1] << 16));
                }
            } else {
                constexpr int sixteens = F::values_per_scale / 16;
                for (int j = 0; j < 16 / sixteens; j++) {
                    int32_t sum = 0;
                    for (int i = 0; i < sixteens; i++) sum += sum16[j * sixteens + i];
                    sums[(at / F::values_per_scale + j) * rows + m] = -F::offset * sum;
                }
            }
        } else {
            const int32_t sum = sum16[0] + sum16[1];
            if constexpr (F::has_minimum)
                ((float *)sums)[at / 32 * rows + m] = scaling.scale * (float)sum;
            else
                sums[at / 32 * rows + m] = -F::offset * sum;
        }
    }
}

} // namespace VARIANT
