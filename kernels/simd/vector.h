// The few operations on vectors of 64 bytes that compilers do not have words for.
//
// Every kernel is written once, for 16 lanes of 32 bits: a result is the same, bit for bit, on every
// instruction set, as the lanes, and the order of sums in each, are the same.
//
// Included by files that are compiled once per variant, with VARIANT as the name of their
// namespace and the variant's -m flags. -ffp-contract=off: only fma() fuses.

#pragma once

#include "wide.h"

namespace VARIANT {

typedef int8_t i8x16 __attribute__((vector_size(16)));
typedef uint32_t u32x4 __attribute__((vector_size(16)));

// The same four bytes in every lane: what a row's quantized activations are multiplied by.
ALWAYS_INLINE i32x16 splat4(const void *from) {
    int32_t x;
    memcpy(&x, from, 4);
    return splat(x);
}

ALWAYS_INLINE f32x16 to_f32(i32x16 x) {
#if defined(__AVX512F__)
    return __builtin_convertvector(x, f32x16);
#else
    f32x16 y;
    for (int i = 0; i < y.count; i++) y.part[i] = __builtin_convertvector(x.part[i], f32x16::Part);
    return y;
#endif
}

// Bytes with sign as numbers of 32 bits. (Said in the compilers' own words, they go byte by byte.)
ALWAYS_INLINE i32x16 widen(i8x16 x) {
#if defined(__AVX512F__)
    return bits<i32x16>(_mm512_cvtepi8_epi32(bits<__m128i>(x)));
#elif defined(__AVX2__)
    Split<__m256i, i32x16> y;
    y.part[0] = _mm256_cvtepi8_epi32(bits<__m128i>(x));
    y.part[1] = _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(bits<__m128i>(x), bits<__m128i>(x)));
    return bits<i32x16>(y);
#elif defined(__SSE4_1__)
    Split<__m128i, i32x16> y;
    const __m128i z = bits<__m128i>(x);
    y.part[0] = _mm_cvtepi8_epi32(z);
    y.part[1] = _mm_cvtepi8_epi32(_mm_srli_si128(z, 4));
    y.part[2] = _mm_cvtepi8_epi32(_mm_srli_si128(z, 8));
    y.part[3] = _mm_cvtepi8_epi32(_mm_srli_si128(z, 12));
    return bits<i32x16>(y);
#elif defined(__ARM_NEON)
    Split<int32x4_t, i32x16> y;
    const int16x8_t low = vmovl_s8(vget_low_s8(bits<int8x16_t>(x))), high = vmovl_s8(vget_high_s8(bits<int8x16_t>(x)));
    y.part[0] = vmovl_s16(vget_low_s16(low)), y.part[1] = vmovl_s16(vget_high_s16(low));
    y.part[2] = vmovl_s16(vget_low_s16(high)), y.part[3] = vmovl_s16(vget_high_s16(high));
    return bits<i32x16>(y);
#else
    int32_t y[16];
    for (int i = 0; i < 16; i++) y[i] = x[i];
    return load<i32x16>(y);
#endif
}

// Numbers of 32 bits, none beyond 127, as bytes.
ALWAYS_INLINE i8x16 narrow(i32x16 x) {
#if defined(__AVX512F__)
    return __builtin_convertvector(x, i8x16);
#elif defined(__AVX2__)
    const auto y = bits<Split<__m256i, i32x16>>(x);
    const __m256i pairs = _mm256_permute4x64_epi64(_mm256_packs_epi32(y.part[0], y.part[1]), 0xd8);
    return bits<i8x16>(_mm_packs_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1)));
#elif defined(__SSE4_1__)
    const auto y = bits<Split<__m128i, i32x16>>(x);
    return bits<i8x16>(_mm_packs_epi16(_mm_packs_epi32(y.part[0], y.part[1]), _mm_packs_epi32(y.part[2], y.part[3])));
#else
    i8x16 y;
    for (int i = 0; i < 16; i++) y[i] = (int8_t)x[i];
    return y;
#endif
}

// Sixteen numbers of 16 bits, from anywhere.
ALWAYS_INLINE u32x16 load_u16(const void *from) {
#if defined(__AVX512F__)
    return bits<u32x16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)));
#elif defined(__AVX2__)
    Split<__m256i, u32x16> y;
    for (int i = 0; i < 2; i++) y.part[i] = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)from + i));
    return bits<u32x16>(y);
#else
    uint16_t halves[16];
    memcpy(halves, from, sizeof halves);
    uint32_t y[16];
    for (int i = 0; i < 16; i++) y[i] = halves[i];
    return load<u32x16>(y);
#endif
}

// a * b + c, rounded once.
ALWAYS_INLINE f32x16 fma(f32x16 a, f32x16 b, f32x16 c) {
#if defined(__AVX512F__)
    return bits<f32x16>(_mm512_fmadd_ps(bits<__m512>(a), bits<__m512>(b), bits<__m512>(c)));
#elif defined(__FMA__)
    auto x = bits<Split<__m256, f32x16>>(a);
    auto y = bits<Split<__m256, f32x16>>(b);
    auto z = bits<Split<__m256, f32x16>>(c);
    for (int i = 0; i < 2; i++) z.part[i] = _mm256_fmadd_ps(x.part[i], y.part[i], z.part[i]);
    return bits<f32x16>(z);
#elif defined(__ARM_NEON)
    auto x = bits<Split<float32x4_t, f32x16>>(a);
    auto y = bits<Split<float32x4_t, f32x16>>(b);
    auto z = bits<Split<float32x4_t, f32x16>>(c);
    for (int i = 0; i < 4; i++) z.part[i] = vfmaq_f32(z.part[i], x.part[i], y.part[i]);
    return bits<f32x16>(z);
#else
    float y[16];
    for (int i = 0; i < 16; i++) y[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return load<f32x16>(y);
#endif
}

// (Of which one is not a number, `b`.)
ALWAYS_INLINE f32x16 max(f32x16 a, f32x16 b) {
#if defined(__AVX512F__)
    return bits<f32x16>(_mm512_max_ps(bits<__m512>(a), bits<__m512>(b)));
#elif defined(__AVX2__)
    for (int i = 0; i < 2; i++) a.part[i] = _mm256_max_ps(a.part[i], b.part[i]);
    return a;
#else
    return choose(a > b, a, b);
#endif
}

ALWAYS_INLINE f32x16 min(f32x16 a, f32x16 b) {
#if defined(__AVX512F__)
    return bits<f32x16>(_mm512_min_ps(bits<__m512>(a), bits<__m512>(b)));
#elif defined(__AVX2__)
    for (int i = 0; i < 2; i++) a.part[i] = _mm256_min_ps(a.part[i], b.part[i]);
    return a;
#else
    return choose(a < b, a, b);
#endif
}

// To the nearest whole number, ties to even.
ALWAYS_INLINE i32x16 round_to_i32(f32x16 x) {
#if defined(__AVX512F__)
    return bits<i32x16>(_mm512_cvtps_epi32(bits<__m512>(x)));
#elif defined(__AVX2__)
    auto y = bits<Split<__m256, f32x16>>(x);
    Split<__m256i, i32x16> z;
    for (int i = 0; i < 2; i++) z.part[i] = _mm256_cvtps_epi32(y.part[i]);
    return bits<i32x16>(z);
#elif defined(__ARM_NEON)
    auto y = bits<Split<float32x4_t, f32x16>>(x);
    Split<int32x4_t, i32x16> z;
    for (int i = 0; i < 4; i++) z.part[i] = vcvtnq_s32_f32(y.part[i]);
    return bits<i32x16>(z);
#else
    int32_t z[16];
    for (int i = 0; i < 16; i++) z[i] = (int32_t)__builtin_nearbyintf(x[i]);
    return load<i32x16>(z);
#endif
}

// One value of 16 bits (IEEE 754 binary16).
ALWAYS_INLINE float f16_to_f32(uint16_t h) {
#if defined(__F16C__)
    return _cvtsh_ss(h);
#elif defined(__ARM_NEON)
    return bits<__fp16>(h);
#else
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = h & 0x7fff;
    if (magnitude >= 0x7c00) return bits<float>(sign | 0x7f800000 | (magnitude << 13));
    return bits<float>(sign | bits<uint32_t>(bits<float>(magnitude << 13) * 0x1p112f));
#endif
}

#if defined(__ARM_NEON)
ALWAYS_INLINE float32x4_t f16_to_f32(uint16x4_t h) { return vcvt_f32_f16(vreinterpret_f16_u16(h)); }
#endif

// Sixteen values of 16 bits, from anywhere.
ALWAYS_INLINE f32x16 load_f16(const void *from) {
#if defined(__AVX512F__)
    return bits<f32x16>(_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from)));
#elif defined(__F16C__)
    Split<__m256, f32x16> y;
    for (int i = 0; i < 2; i++) y.part[i] = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from + i));
    return bits<f32x16>(y);
#elif defined(__ARM_NEON)
    Split<float32x4_t, f32x16> y;
    for (int i = 0; i < 4; i++) y.part[i] = f16_to_f32(load<uint16x4_t>((const char *)from + 8 * i));
    return bits<f32x16>(y);
#else
    uint16_t halves[16];
    memcpy(halves, from, sizeof halves);
    float x[16];
    for (int i = 0; i < 16; i++) x[i] = f16_to_f32(halves[i]);
    return load<f32x16>(x);
#endif
}

// The low 16 bits of each lane are a value of 16 bits.
ALWAYS_INLINE f32x16 f16_lanes_to_f32(u32x16 x) {
#if defined(__AVX512F__)
    return bits<f32x16>(_mm512_cvtph_ps(_mm512_cvtepi32_epi16(bits<__m512i>(x))));
#elif defined(__F16C__)
    const auto y = bits<Split<__m256i, u32x16>>(x & 0xffffu);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(y.part[0], y.part[1]), 0xd8);
    Split<__m256, f32x16> z;
    z.part[0] = _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
    z.part[1] = _mm256_cvtph_ps(_mm256_extracti128_si256(packed, 1));
    return bits<f32x16>(z);
#elif defined(__ARM_NEON)
    const auto y = bits<Split<uint32x4_t, u32x16>>(x);
    Split<float32x4_t, f32x16> z;
    for (int i = 0; i < 4; i++) z.part[i] = f16_to_f32(vmovn_u32(y.part[i]));
    return bits<f32x16>(z);
#else
    float z[16];
    for (int i = 0; i < 16; i++) z[i] = f16_to_f32((uint16_t)x[i]);
    return load<f32x16>(z);
#endif
}

// Both 16 bits of each lane are a value of 16 bits.
ALWAYS_INLINE void f16_pairs_to_f32(u32x16 x, f32x16 &low, f32x16 &high) {
#if defined(__AVX512BW__)
    alignas(64) static constexpr uint16_t low_then_high[32] = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30,
                                                               1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31};
    const __m512i sorted = _mm512_permutexvar_epi16(_mm512_load_si512(low_then_high), bits<__m512i>(x));
    low = bits<f32x16>(_mm512_cvtph_ps(_mm512_castsi512_si256(sorted)));
    high = bits<f32x16>(_mm512_cvtph_ps(_mm512_extracti64x4_epi64(sorted, 1)));
#elif defined(__AVX2__)
    const __m256i low_then_high = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15));
    const auto y = bits<Split<__m256i, u32x16>>(x);
    for (int i = 0; i < 2; i++) {
        const __m256i sorted = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(y.part[i], low_then_high), 0xd8);
        low.part[i] = _mm256_cvtph_ps(_mm256_castsi256_si128(sorted));
        high.part[i] = _mm256_cvtph_ps(_mm256_extracti128_si256(sorted, 1));
    }
#else
    low = f16_lanes_to_f32(x);
    high = f16_lanes_to_f32(x >> 16);
#endif
}

#if defined(__ARM_NEON)
// sum + the four products of each lane; `b` is -127 at least, so that two of them have room in 16 bits.
ALWAYS_INLINE int32x4_t dot_i8_i8(int32x4_t sum, int8x16_t a, int8x16_t b) {
#if defined(__ARM_FEATURE_DOTPROD)
    return vdotq_s32(sum, a, b);
#else
    return vpadalq_s16(sum, vpaddq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)), vmull_high_s8(a, b)));
#endif
}
#endif

// sum + the four products of each lane: `u` without sign, `s` with it and -127 at least.
// Where there is no such instruction, `u` may be at most 127: pairs are added in 16 bits.
// `dot_u8_i8_any` has no such bound.
ALWAYS_INLINE i32x16 dot_u8_i8_any(i32x16 sum, u8x64 u, i8x64 s);

ALWAYS_INLINE i32x16 dot_u8_i8(i32x16 sum, u8x64 u, i8x64 s) {
#if defined(__AVX512VNNI__)
    return bits<i32x16>(_mm512_dpbusd_epi32(bits<__m512i>(sum), bits<__m512i>(u), bits<__m512i>(s)));
#elif defined(__AVX512BW__)
    const __m512i pairs = _mm512_maddubs_epi16(bits<__m512i>(u), bits<__m512i>(s));
    return sum + bits<i32x16>(_mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
#elif defined(__AVX2__)
    auto x = bits<Split<__m256i, u8x64>>(u);
    auto y = bits<Split<__m256i, i8x64>>(s);
    auto z = bits<Split<__m256i, i32x16>>(sum);
    for (int i = 0; i < 2; i++) {
        const __m256i pairs = _mm256_maddubs_epi16(x.part[i], y.part[i]);
        z.part[i] = _mm256_add_epi32(z.part[i], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    return bits<i32x16>(z);
#elif defined(__ARM_NEON)
    // At most 127: the same bits with a sign.
    auto x = bits<Split<int8x16_t, u8x64>>(u);
    auto y = bits<Split<int8x16_t, i8x64>>(s);
    auto z = bits<Split<int32x4_t, i32x16>>(sum);
    for (int i = 0; i < 4; i++) z.part[i] = dot_i8_i8(z.part[i], x.part[i], y.part[i]);
    return bits<i32x16>(z);
#else
    return dot_u8_i8_any(sum, u, s);
#endif
}

ALWAYS_INLINE i32x16 dot_u8_i8_any(i32x16 sum, u8x64 u, i8x64 s) {
#if defined(__AVX512VNNI__)
    return dot_u8_i8(sum, u, s);
#elif defined(__ARM_NEON)
    // u = (u - 128) + 2 * 64
    auto x = bits<Split<int8x16_t, u8x64>>(u ^ (uint8_t)0x80);
    auto y = bits<Split<int8x16_t, i8x64>>(s);
    auto z = bits<Split<int32x4_t, i32x16>>(sum);
    for (int i = 0; i < 4; i++) {
        z.part[i] = dot_i8_i8(z.part[i], x.part[i], y.part[i]);
        for (int twice = 0; twice < 2; twice++) z.part[i] = dot_i8_i8(z.part[i], vdupq_n_s8(64), y.part[i]);
    }
    return bits<i32x16>(z);
#else
    // Bytes at even and at odd places, each product in 16 bits' multiplication of 32.
    const i16x32 u_even = bits<i16x32>(u) & (int16_t)0xff, u_odd = bits<i16x32>(bits<u16x32>(u) >> 8);
    const i16x32 s_even = (bits<i16x32>(s) << 8) >> 8, s_odd = bits<i16x32>(s) >> 8;
#if defined(__AVX512BW__)
    const i32x16 even = bits<i32x16>(_mm512_madd_epi16(bits<__m512i>(u_even), bits<__m512i>(s_even)));
    const i32x16 odd = bits<i32x16>(_mm512_madd_epi16(bits<__m512i>(u_odd), bits<__m512i>(s_odd)));
    return sum + even + odd;
#elif defined(__AVX2__)
    auto a = bits<Split<__m256i, i16x32>>(u_even);
    auto b = bits<Split<__m256i, i16x32>>(s_even);
    auto c = bits<Split<__m256i, i16x32>>(u_odd);
    auto d = bits<Split<__m256i, i16x32>>(s_odd);
    auto z = bits<Split<__m256i, i32x16>>(sum);
    for (int i = 0; i < 2; i++) {
        z.part[i] = _mm256_add_epi32(z.part[i], _mm256_madd_epi16(a.part[i], b.part[i]));
        z.part[i] = _mm256_add_epi32(z.part[i], _mm256_madd_epi16(c.part[i], d.part[i]));
    }
    return bits<i32x16>(z);
#else
    const i32x16 low_even = ((bits<i32x16>(u_even) << 16) >> 16) * ((bits<i32x16>(s_even) << 16) >> 16);
    const i32x16 high_even = (bits<i32x16>(u_even) >> 16) * (bits<i32x16>(s_even) >> 16);
    const i32x16 low_odd = ((bits<i32x16>(u_odd) << 16) >> 16) * ((bits<i32x16>(s_odd) << 16) >> 16);
    const i32x16 high_odd = (bits<i32x16>(u_odd) >> 16) * (bits<i32x16>(s_odd) >> 16);
    return sum + low_even + high_even + low_odd + high_odd;
#endif
#endif
}

// sum + the two products of each lane's 16-bit numbers.
ALWAYS_INLINE i32x16 dot_i16(i32x16 sum, i16x32 a, i16x32 b) {
#if defined(__AVX512VNNI__)
    return bits<i32x16>(_mm512_dpwssd_epi32(bits<__m512i>(sum), bits<__m512i>(a), bits<__m512i>(b)));
#elif defined(__AVX512BW__)
    return sum + bits<i32x16>(_mm512_madd_epi16(bits<__m512i>(a), bits<__m512i>(b)));
#elif defined(__AVX2__)
    auto x = bits<Split<__m256i, i16x32>>(a);
    auto y = bits<Split<__m256i, i16x32>>(b);
    auto z = bits<Split<__m256i, i32x16>>(sum);
    for (int i = 0; i < 2; i++) z.part[i] = _mm256_add_epi32(z.part[i], _mm256_madd_epi16(x.part[i], y.part[i]));
    return bits<i32x16>(z);
#elif defined(__ARM_NEON)
    auto x = bits<Split<int16x8_t, i16x32>>(a);
    auto y = bits<Split<int16x8_t, i16x32>>(b);
    auto z = bits<Split<int32x4_t, i32x16>>(sum);
    for (int i = 0; i < 4; i++) {
        const int32x4_t low = vmull_s16(vget_low_s16(x.part[i]), vget_low_s16(y.part[i]));
        z.part[i] = vaddq_s32(z.part[i], vpaddq_s32(low, vmull_high_s16(x.part[i], y.part[i])));
    }
    return bits<i32x16>(z);
#else
    const i32x16 x = bits<i32x16>(a), y = bits<i32x16>(b);
    return sum + ((x << 16) >> 16) * ((y << 16) >> 16) + (x >> 16) * (y >> 16);
#endif
}

// table[i] of each byte i, which is below 16.
ALWAYS_INLINE u8x64 lookup16(const uint8_t table[16], u8x64 index) {
#if defined(__AVX512BW__)
    const __m512i t = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)table));
    return bits<u8x64>(_mm512_shuffle_epi8(t, bits<__m512i>(index)));
#elif defined(__AVX2__)
    const __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
    auto x = bits<Split<__m256i, u8x64>>(index);
    for (int i = 0; i < 2; i++) x.part[i] = _mm256_shuffle_epi8(t, x.part[i]);
    return bits<u8x64>(x);
#elif defined(__ARM_NEON)
    const uint8x16_t t = vld1q_u8(table);
    auto x = bits<Split<uint8x16_t, u8x64>>(index);
    for (int i = 0; i < 4; i++) x.part[i] = vqtbl1q_u8(t, x.part[i]);
    return bits<u8x64>(x);
#else
    uint8_t x[64];
    for (int i = 0; i < 64; i++) x[i] = table[index[i]];
    return load<u8x64>(x);
#endif
}

#if !defined(__AVX512F__)
// Four registers of sixteen bytes.
ALWAYS_INLINE u32x16 join(u32x4 a, u32x4 b, u32x4 c, u32x4 d) {
#if defined(__AVX2__)
    Split<__m256i, u32x16> all;
    all.part[0] = _mm256_inserti128_si256(_mm256_castsi128_si256(bits<__m128i>(a)), bits<__m128i>(b), 1);
    all.part[1] = _mm256_inserti128_si256(_mm256_castsi128_si256(bits<__m128i>(c)), bits<__m128i>(d), 1);
    return bits<u32x16>(all);
#else
    return bits<u32x16>(Split<u32x4, u32x16>{{a, b, c, d}});
#endif
}
#endif

// Of 16 rows, whose 16 bytes read(row) are: t[j] holds dword j of each.
template <class Read> ALWAYS_INLINE void transpose4(Read read, u32x16 t[4]) {
    u32x16 z[4]; // four rows each, 4 apart
    for (int q = 0; q < 4; q++) {
#if defined(__AVX512F__)
        u32x4 part[4];
        for (int i = 0; i < 4; i++) part[i] = read(4 * i + q);
        memcpy(&z[q], part, 64);
#else
        z[q] = join(read(q), read(4 + q), read(8 + q), read(12 + q));
#endif
    }
    // Within each 16 bytes: dwords of two rows beside each other, then of four.
    u32x16 s[4];
    for (int q = 0; q < 4; q += 2) {
        s[q] = shuffle<0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29>(z[q], z[q + 1]);
        s[q + 1] = shuffle<2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31>(z[q], z[q + 1]);
    }
    for (int q = 0; q < 2; q++) {
        t[2 * q] = shuffle<0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29>(s[q], s[q + 2]);
        t[2 * q + 1] = shuffle<2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31>(s[q], s[q + 2]);
    }
}

#if defined(__AVX512F__)

// Sixteen vectors of sixteen lanes become their transpose, in place.
ALWAYS_INLINE void transpose16(u32x16 v[16]) {
    // Four times: the lanes that differ in one bit of their number change places with the vectors
    // that differ in that bit.
    u32x16 t[16];
    const auto exchange = [](const u32x16 *from, u32x16 *to, int distance, auto low, auto high) {
        for (int i = 0; i < 16; i++)
            if (!(i & distance)) {
                to[i] = low(from[i], from[i + distance]);
                to[i + distance] = high(from[i], from[i + distance]);
            }
    };
    exchange(v, t, 8, [](auto a, auto b) { return shuffle<0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23>(a, b); },
             [](auto a, auto b) { return shuffle<8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31>(a, b); });
    exchange(t, v, 4, [](auto a, auto b) { return shuffle<0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27>(a, b); },
             [](auto a, auto b) { return shuffle<4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31>(a, b); });
    exchange(v, t, 2, [](auto a, auto b) { return shuffle<0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29>(a, b); },
             [](auto a, auto b) { return shuffle<2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31>(a, b); });
    exchange(t, v, 1, [](auto a, auto b) { return shuffle<0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30>(a, b); },
             [](auto a, auto b) { return shuffle<1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31>(a, b); });
}

#endif

// The same of 32 bytes of each row at `low`, and 32 at `high`: 16 dwords.
template <class Row> ALWAYS_INLINE void transpose_halves(const Row *const row[16], size_t low, size_t high, u32x16 t[16]) {
#if defined(__AVX512F__)
    typedef uint32_t Half __attribute__((vector_size(32)));
    for (int r = 0; r < 16; r++) {
        Split<Half, u32x16> both;
        memcpy(&both.part[0], (const char *)row[r] + low, sizeof(Half));
        memcpy(&both.part[1], (const char *)row[r] + high, sizeof(Half));
        t[r] = bits<u32x16>(both);
    }
    transpose16(t);
#else // Halves of a register can be loaded each from another row.
    for (int j = 0; j < 4; j++) {
        const size_t at = (j < 2 ? low : high - 32) + 16 * (size_t)j;
        transpose4([&](int r) { return load<u32x4>((const char *)row[r] + at); }, t + 4 * j);
    }
#endif
}

// The same of 64 bytes of each row.
template <class Row> ALWAYS_INLINE void transpose_rows(const Row *const row[16], size_t at, u32x16 t[16]) {
#if defined(__AVX512F__)
    for (int r = 0; r < 16; r++) t[r] = load<u32x16>((const char *)row[r] + at);
    transpose16(t);
#else
    transpose_halves(row, at, at + 32, t);
#endif
}

} // namespace VARIANT
