// Groups of 16 weight rows times a tile of activations: where nearly all time goes.
//
// A lane is a weight row. With AVX-512, activations are read once for two groups: else reading them would
// take longer than multiplying. What it sums for a row of activations, and in which order, is the same
// however many rows there are.

#pragma once

#include <type_traits>

#include "dot.h"

namespace VARIANT {

// totals[groups m + g] += 256 values of 16 rows w[g] x row m, for formats with one activation scale
// per 256 values.
template <class F, int M> void multiply_256(const Unpacked *w, const Packed<F> &x, int64_t block, f32x16 *totals) {
    constexpr int per_scale = F::values_per_scale, fours = per_scale / 4;
    const uint32_t *bytes = x.bytes + block * 64 * M;
    const int32_t *sums = x.sums + block * (F::minimum_pairs ? F::minimum_pairs : 256 / per_scale) * M;
    f32x16 part[M][groups];
    for (int m = 0; m < M; m++)
        for (int g = 0; g < groups; g++) part[m][g] = f32x16{};
    const auto add = [&](int j) {
        i32x16 dot[M][groups];
        dot_of_scale<F, M, fours>(w, j, bytes + j * fours * M, sums + j * M, dot);
        for (int m = 0; m < M; m++)
            for (int g = 0; g < groups; g++) part[m][g] = fma(to_f32(dot[m][g]), w[g].scale[j], part[m][g]);
    };
    for (int j = 0; j < 256 / per_scale; j += 2) add(j), add(j + 1); // (which of two nibbles is meant is known)
    if constexpr (F::minimum_pairs > 0) {
        i32x16 dot[M][groups];
        for (int m = 0; m < M; m++)
            for (int g = 0; g < groups; g++) dot[m][g] = i32x16{};
        for (int p = 0; p < F::minimum_pairs; p++)
            for (int m = 0; m < M; m++) {
                const i16x32 pair = bits<i16x32>(splat4(sums + p * M + m));
                for (int g = 0; g < groups; g++) dot[m][g] = dot_i16(dot[m][g], w[g].minimums[p], pair);
            }
        for (int m = 0; m < M; m++)
            for (int g = 0; g < groups; g++) part[m][g] = fma(to_f32(dot[m][g]), -w[g].minimum_scale, part[m][g]);
    }
    for (int m = 0; m < M; m++)
        for (int g = 0; g < groups; g++)
            totals[groups * m + g] = fma(part[m][g], splat(x.scales[block * M + m]), totals[groups * m + g]);
}

// The same of `count` blocks of 32 values with a scale of each: number `from` on of w, `first` on of x.
template <class F, int M>
void multiply_32(const Unpacked *w, int from, const Packed<F> &x, int64_t first, int count, f32x16 *totals) {
    f32x16 part[M][groups];
    for (int m = 0; m < M; m++)
        for (int g = 0; g < groups; g++) part[m][g] = totals[groups * m + g];
    for (int j = 0; j < count; j++) {
        const float *scales = x.scales + (first + j) * M;
        const int32_t *sums = x.sums + (first + j) * M;
        i32x16 dot[M][groups];
        dot_of_scale<F, M, 8>(w, from + j, x.bytes + (first + j) * 8 * M, sums, dot);
        for (int m = 0; m < M; m++)
            for (int g = 0; g < groups; g++)
                part[m][g] = fma(to_f32(dot[m][g]), w[g].scale[from + j] * splat(scales[m]), part[m][g]);
        if constexpr (F::has_minimum)
            for (int m = 0; m < M; m++)
                for (int g = 0; g < groups; g++)
                    part[m][g] = fma(w[g].minimum[from + j], splat(((const float *)sums)[m]), part[m][g]);
    }
    for (int m = 0; m < M; m++)
        for (int g = 0; g < groups; g++) totals[groups * m + g] = part[m][g];
}

// Calls call(M) with the constant M = rows, which is 1 to tile_rows.
template <class Call, int M = 1> ALWAYS_INLINE void with_rows(int rows, Call call) {
    if constexpr (M == tile_rows)
        call(std::integral_constant<int, M>{});
    else if (rows == M)
        call(std::integral_constant<int, M>{});
    else
        with_rows<Call, M + 1>(rows, call);
}

} // namespace VARIANT
