// dot.h's function for AVX2, which has no instruction for it: it multiplies bytes without sign by bytes with
// sign and adds two such products in 16 bits.

#pragma once

namespace VARIANT {

typedef Split<__m256i, u8x64> Bytes;

// Bytes that are small: several sums of two products have room in 16 bits, and are added there.
template <class F, int M, int fours>
ALWAYS_INLINE void dot_of_small_bytes(const Unpacked &w, int scale, const uint32_t *bytes, Split<__m256i, i32x16> dot[M]) {
    constexpr int room = 32767 / (2 * 127 * F::largest), at_once = room < fours ? room : fours;
    static_assert(fours % at_once == 0);
#pragma GCC unroll 1 // or compilers load too much first, and have no registers left
    for (int first = 0; first < fours; first += at_once) {
        __m256i pairs[M][2];
#pragma GCC unroll 8
        for (int i = first; i < first + at_once; i++) {
            const auto weights = bits<Bytes>(F::bytes(w, scale, i));
            for (int m = 0; m < M; m++) {
                const __m256i four = _mm256_set1_epi32((int32_t)bytes[i * M + m]);
                for (int h = 0; h < 2; h++) {
                    const __m256i two = _mm256_maddubs_epi16(weights.part[h], four);
                    pairs[m][h] = i == first ? two : _mm256_add_epi16(pairs[m][h], two);
                }
            }
        }
        for (int m = 0; m < M; m++)
            for (int h = 0; h < 2; h++)
                dot[m].part[h] = _mm256_add_epi32(dot[m].part[h], _mm256_madd_epi16(pairs[m][h], _mm256_set1_epi16(1)));
    }
}

// Bytes with a sign: magnitudes times activations with the weight's sign. Two such products just have room in
// 16 bits, as no activation is -128.
template <class F, int M, int fours>
ALWAYS_INLINE void dot_of_large_bytes(const Unpacked &w, int scale, const uint32_t *bytes, Split<__m256i, i32x16> dot[M]) {
    static_assert(F::offset == 128 && large_bytes_have_sign); // so nothing is to be taken off their sums
#pragma GCC unroll 1
    for (int i = 0; i < fours; i++) {
        const auto weights = bits<Bytes>(F::bytes(w, scale, i));
        __m256i magnitudes[2];
        for (int h = 0; h < 2; h++) magnitudes[h] = _mm256_abs_epi8(weights.part[h]);
        for (int m = 0; m < M; m++) {
            const __m256i four = _mm256_set1_epi32((int32_t)bytes[i * M + m]);
            for (int h = 0; h < 2; h++) {
                const __m256i two = _mm256_maddubs_epi16(magnitudes[h], _mm256_sign_epi8(four, weights.part[h]));
                dot[m].part[h] = _mm256_add_epi32(dot[m].part[h], _mm256_madd_epi16(two, _mm256_set1_epi16(1)));
            }
        }
    }
}

template <class F, int M, int fours>
ALWAYS_INLINE void dot_of_scale(const Unpacked *w, int scale, const uint32_t *bytes, const int32_t *sums, i32x16 dot[M][groups]) {
    static_assert(groups == 1);
    constexpr bool is_small = F::largest < 128;
    Split<__m256i, i32x16> sum[M];
    for (int m = 0; m < M; m++)
        for (int h = 0; h < 2; h++) sum[m].part[h] = F::offset && is_small ? _mm256_set1_epi32(sums[m]) : _mm256_setzero_si256();
    if constexpr (is_small)
        dot_of_small_bytes<F, M, fours>(*w, scale, bytes, sum);
    else
        dot_of_large_bytes<F, M, fours>(*w, scale, bytes, sum);
    for (int m = 0; m < M; m++) dot[m][0] = bits<i32x16>(sum[m]);
}

} // namespace VARIANT
