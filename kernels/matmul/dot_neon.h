// dot.h's function for NEON. Bytes are multiplied with a sign: weights that need eight bits are 128 less, so
// what is subtracted for them elsewhere (Packed::sums) is not.

#pragma once

namespace VARIANT {

// Calls f(0), f(1), ..., f(M - 1) with constants.
template <class F, int... m> ALWAYS_INLINE void for_each_of(std::integer_sequence<int, m...>, F f) {
    (f(std::integral_constant<int, m>{}), ...);
}
template <int M, class F> ALWAYS_INLINE void for_each_row(F f) { for_each_of(std::make_integer_sequence<int, M>{}, f); }

// One dword of each row of activations.
template <int M> ALWAYS_INLINE int32x4_t dwords_of(const uint32_t *from) {
    static_assert(M <= 4);
    if constexpr (M == 1) return vdupq_n_s32((int32_t)*from);
    if constexpr (M == 4) return vreinterpretq_s32_u32(vld1q_u32(from));
    const int32x2_t two = vreinterpret_s32_u32(vld1_u32(from));
    return vcombine_s32(two, M == 3 ? vdup_n_s32((int32_t)from[2]) : two);
}

template <int Row> ALWAYS_INLINE int32x4_t dot_row(int32x4_t sum, int8x16_t weights, int32x4_t activations) {
#if defined(__ARM_FEATURE_DOTPROD)
    return vdotq_laneq_s32(sum, weights, vreinterpretq_s8_s32(activations), Row);
#else
    return dot_i8_i8(sum, weights, vreinterpretq_s8_s32(vdupq_laneq_s32(activations, Row)));
#endif
}

template <class F, int M, int fours>
ALWAYS_INLINE void dot_of_scale(const Unpacked *w, int scale, const uint32_t *bytes, const int32_t *sums, i32x16 dot[M][groups]) {
    constexpr bool less_128 = F::largest >= 128;
    static_assert(groups == 1 && (!less_128 || F::offset == 128));
    int32x4_t sum[M][4];
    for (int m = 0; m < M; m++)
        for (int i = 0; i < 4; i++) sum[m][i] = vdupq_n_s32(F::offset && !less_128 ? sums[m] : 0);
#pragma GCC unroll 1 // or compilers load everything first, and have no registers left
    for (int four = 0; four < fours; four++) {
        const auto x = bits<Split<int8x16_t, u8x64>>(F::bytes(*w, scale, four));
        const int32x4_t activations = dwords_of<M>(bytes + four * M);
        for_each_row<M>([&](auto m) {
            for (int i = 0; i < 4; i++) sum[m][i] = dot_row<m>(sum[m][i], x.part[i], activations);
        });
    }
    for (int m = 0; m < M; m++)
        for (int i = 0; i < 4; i++) dot[m][0].part[i] = sum[m][i];
}

} // namespace VARIANT
