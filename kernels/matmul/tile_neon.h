// tile.h's two functions for NEON: the same numbers, and the same order of those that are not whole.
//
// In registers of four lanes by name, as compilers keep larger vectors in memory. Bytes are multiplied with
// a sign: from weights that need eight bits, 128 is subtracted, so what is subtracted for them elsewhere
// (Packed::sums) is not.

#pragma once

#include <utility>

namespace VARIANT {

typedef Split<float32x4_t, f32x16> Floats;

template <class F> constexpr bool less_128 = !F::small_bytes;

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

// The sums of products of the values that have scale `scale`, `fours` times four; `sums` has what they
// begin with, if anything.
template <class F, int M, int fours>
ALWAYS_INLINE void dot_of_scale(const Unpacked &w, int scale, const uint32_t *bytes, const int32_t *sums, int32x4_t dot[M][4]) {
    static_assert(F::small_bytes || F::offset == 128);
    for (int m = 0; m < M; m++)
        for (int i = 0; i < 4; i++) dot[m][i] = vdupq_n_s32(F::offset && !less_128<F> ? sums[m] : 0);
#pragma GCC unroll 1 // or compilers load everything first, and have no registers left
    for (int four = 0; four < fours; four++) {
        u8x64 weights = F::bytes(w, scale, four);
        if (less_128<F>) weights ^= (uint8_t)0x80;
        const auto x = bits<Split<int8x16_t, u8x64>>(weights);
        const int32x4_t activations = dwords_of<M>(bytes + four * M);
        for_each_row<M>([&](auto m) {
            for (int i = 0; i < 4; i++) dot[m][i] = dot_row<m>(dot[m][i], x.part[i], activations);
        });
    }
}

// part = dot * scale + part
template <int M> ALWAYS_INLINE void add_scaled(const int32x4_t dot[M][4], const Floats &scale, float32x4_t part[M][4]) {
    for (int m = 0; m < M; m++)
        for (int i = 0; i < 4; i++) part[m][i] = vfmaq_f32(part[m][i], vcvtq_f32_s32(dot[m][i]), scale.part[i]);
}

template <int M> ALWAYS_INLINE void add_minimums(const Unpacked &w, int pairs, const int32_t *sums, float32x4_t part[M][4]) {
    for (int m = 0; m < M; m++) {
        i32x16 dot{};
        for (int p = 0; p < pairs; p++) dot = dot_i16(dot, w.minimums[p], bits<i16x32>(splat4(sums + p * M + m)));
        const auto whole = bits<Split<int32x4_t, i32x16>>(dot);
        const auto scale = bits<Floats>(-w.minimum_scale);
        for (int i = 0; i < 4; i++) part[m][i] = vfmaq_f32(part[m][i], vcvtq_f32_s32(whole.part[i]), scale.part[i]);
    }
}

template <class F, int M> void multiply_256(const Unpacked *w, const Packed<F> &x, int64_t block, f32x16 *totals) {
    static_assert(groups == 1);
    constexpr int per_scale = F::values_per_scale, scales = 256 / per_scale, fours = per_scale / 4;
    const uint32_t *bytes = x.bytes + block * 64 * M;
    const int32_t *sums = x.sums + block * (F::minimum_pairs ? F::minimum_pairs : scales) * M;
    float32x4_t part[M][4];
    for (int m = 0; m < M; m++)
        for (int i = 0; i < 4; i++) part[m][i] = vdupq_n_f32(0);
    for (int pair = 0; pair < scales / 2; pair++)
        for_each_row<2>([&](auto second) { // which nibbles they are is known
            const int j = 2 * pair + second;
            int32x4_t dot[M][4];
            dot_of_scale<F, M, fours>(*w, j, bytes + j * fours * M, sums + j * M, dot);
            add_scaled<M>(dot, bits<Floats>(w->scale[j]), part);
        });
    if constexpr (F::minimum_pairs > 0) add_minimums<M>(*w, F::minimum_pairs, sums, part);
    for (int m = 0; m < M; m++) {
        auto total = bits<Floats>(totals[m]);
        for (int i = 0; i < 4; i++) total.part[i] = vfmaq_n_f32(total.part[i], part[m][i], x.scales[block * M + m]);
        totals[m] = bits<f32x16>(total);
    }
}

template <class F, int M>
void multiply_32(const Unpacked *w, int from, const Packed<F> &x, int64_t first, int count, f32x16 *totals) {
    float32x4_t part[M][4];
    for (int m = 0; m < M; m++)
        for (int i = 0; i < 4; i++) part[m][i] = vld1q_f32((const float *)(totals + m) + 4 * i);
    for (int j = 0; j < count; j++) {
        const float *scales = x.scales + (first + j) * M;
        const int32_t *sums = x.sums + (first + j) * M;
        const auto scale = bits<Floats>(w->scale[from + j]);
        int32x4_t dot[M][4];
        dot_of_scale<F, M, 8>(*w, from + j, x.bytes + (first + j) * 8 * M, sums, dot);
        for (int m = 0; m < M; m++)
            for (int i = 0; i < 4; i++)
                part[m][i] = vfmaq_f32(part[m][i], vcvtq_f32_s32(dot[m][i]), vmulq_n_f32(scale.part[i], scales[m]));
        if constexpr (F::has_minimum) {
            const auto minimum = bits<Floats>(w->minimum[from + j]);
            for (int m = 0; m < M; m++)
                for (int i = 0; i < 4; i++) part[m][i] = vfmaq_n_f32(part[m][i], minimum.part[i], ((const float *)sums)[m]);
        }
    }
    for (int m = 0; m < M; m++)
        for (int i = 0; i < 4; i++) vst1q_f32((float *)(totals + m) + 4 * i, part[m][i]);
}

} // namespace VARIANT
