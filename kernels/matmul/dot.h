// Whole numbers: the bytes of 16 weight rows, a row in each lane, times those of a few rows of activations.
//
// Each instruction set has a way of its own, whose sums are the same.

#pragma once

#include "activations.h"
#include "unpacked.h"

#if defined(__ARM_NEON)
#include "dot_neon.h"
#elif defined(__AVX2__) && !defined(__AVX512F__)
#include "dot_avx2.h"
#else

namespace VARIANT {

template <class F> ALWAYS_INLINE i32x16 dot4(i32x16 sum, u8x64 weights, i32x16 activations) {
    if constexpr (F::largest < 128) return dot_u8_i8(sum, weights, bits<i8x64>(activations));
    return dot_u8_i8_any(sum, weights, bits<i8x64>(activations));
}

// dot[m][g]: of the values that have scale `scale`, `fours` times four, of w[g] and row m; to that, what
// weights with an offset begin with. Activations are read once for all groups.
template <class F, int M, int fours>
ALWAYS_INLINE void dot_of_scale(const Unpacked *w, int scale, const uint32_t *bytes, const int32_t *sums, i32x16 dot[M][groups]) {
    for (int m = 0; m < M; m++)
        for (int g = 0; g < groups; g++) dot[m][g] = F::offset ? splat(sums[m]) : i32x16{};
#pragma GCC unroll 8
    for (int i = 0; i < fours; i++) {
        u8x64 weights[groups];
        for (int g = 0; g < groups; g++) weights[g] = F::bytes(w[g], scale, i);
        for (int m = 0; m < M; m++) {
            const i32x16 four = splat4(bytes + i * M + m);
            for (int g = 0; g < groups; g++) dot[m][g] = dot4<F>(dot[m][g], weights[g], four);
        }
    }
}

} // namespace VARIANT

#endif
