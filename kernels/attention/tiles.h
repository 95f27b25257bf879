// How many vectors are computed together: as many as the machine has registers for. No result depends
// on it.

#pragma once

#include <type_traits>

#include "../simd/vector.h"

namespace VARIANT {

#if defined(__AVX512F__)
constexpr int queries_at_once = 4, vectors_at_once = 4;
#elif defined(__AVX2__)
constexpr int queries_at_once = 6, vectors_at_once = 1;
#else
constexpr int queries_at_once = 2, vectors_at_once = 2;
#endif

// f(n) with n as a constant, for 1 <= n <= Most.
template <int Most, class F> ALWAYS_INLINE void with_constant(int n, F f) {
    if constexpr (Most == 1)
        f(std::integral_constant<int, 1>());
    else if (n == Most)
        f(std::integral_constant<int, Most>());
    else
        with_constant<Most - 1>(n, f);
}

// The lanes of `bits` that are set are of `a`, the others of `b`.
ALWAYS_INLINE f32x16 select(uint32_t set, f32x16 a, f32x16 b) {
#if defined(__AVX512F__)
    return bits<f32x16>(_mm512_mask_blend_ps((__mmask16)set, bits<__m512>(b), bits<__m512>(a)));
#else
    alignas(64) static constexpr int32_t lane[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
    return choose((splat((int32_t)set) & load<i32x16>(lane)) != 0, a, b);
#endif
}

ALWAYS_INLINE float largest_lane(f32x16 v) {
    float most = v[0];
    for (int i = 1; i < 16; i++) most = v[i] > most ? v[i] : most;
    return most;
}

} // namespace VARIANT
