// A block of 16 weight rows as the products want it: one row per lane, all its values as bytes.
//
// Knows no file format: each has a file of its own (q4_k.h, ...), which fills this.

#pragma once

#include <cstddef>

#include "../simd/vector.h"

namespace VARIANT {

// Of 16 rows: 256 values of each. Value k of row r is byte k % 4 of lane r of bytes[k / 4].
// The weight is scale * (byte - offset) + minimum, or scale * byte - minimum_scale * minimum.
struct Unpacked {
    u8x64 bytes[64];
    f32x16 scale[16];     // of each 16 or 32 values
    f32x16 minimum[8];    // of each 32 values, where activations have a scale per 32
    i16x32 minimums[8];   // pairs of them, whole numbers below 64
    f32x16 minimum_scale; // of these
};

// Bytes that need all eight bits have a sign where the instruction set multiplies such: they are 128 less.
#if defined(__ARM_NEON) || (defined(__AVX2__) && !defined(__AVX512F__))
constexpr bool large_bytes_have_sign = true;
#else
constexpr bool large_bytes_have_sign = false;
#endif

// Where 16 rows of weights begin, and how far from them lies what will be computed next. Memory takes
// longer to answer than a block to compute, and the machine does not foresee that many rows at a time by
// itself: so with each line that is read, the one that lies `ahead` of it is asked for.
struct Rows {
    const uint8_t *row[16];
    ptrdiff_t ahead;

    ALWAYS_INLINE void ask(size_t offset) const {
        for (int r = 0; r < 16; r++) __builtin_prefetch(row[r] + offset + ahead, 0, 2);
    }
};

#if defined(__ARM_NEON)

// Four dwords from 16 rows: t[j] holds dword j of each. Four rows at a time, as a register has four lanes:
// turning them all together takes more registers than there are.
ALWAYS_INLINE void gather_dwords(const Rows &rows, size_t offset, u32x16 *t) {
    for (int r = 0; r < 16; r += 4) {
        uint64x2_t x[4];
        for (int i = 0; i < 4; i++) x[i] = load<uint64x2_t>(rows.row[r + i] + offset);
        const auto wide = [](uint64x2_t v) { return vreinterpretq_u32_u64(v); };
        const auto back = [](uint32x4_t v) { return vreinterpretq_u64_u32(v); };
        const uint64x2_t a = back(vtrn1q_u32(wide(x[0]), wide(x[1]))), b = back(vtrn2q_u32(wide(x[0]), wide(x[1])));
        const uint64x2_t c = back(vtrn1q_u32(wide(x[2]), wide(x[3]))), d = back(vtrn2q_u32(wide(x[2]), wide(x[3])));
        const uint64x2_t turned[4] = {vtrn1q_u64(a, c), vtrn1q_u64(b, d), vtrn2q_u64(a, c), vtrn2q_u64(b, d)};
        for (int j = 0; j < 4; j++) memcpy((char *)(t + j) + 4 * r, &turned[j], sizeof turned[j]);
    }
}

// The same of 16 dwords.
ALWAYS_INLINE void gather16(const Rows &rows, size_t offset, u32x16 t[16]) {
    rows.ask(offset);
    for (int i = 0; i < 4; i++) gather_dwords(rows, offset + 16 * (size_t)i, t + 4 * i);
}

#else

// Dwords from 16 rows that need not lie beside each other: t[j] holds dword j of each.
ALWAYS_INLINE void gather16(const Rows &rows, size_t offset, u32x16 t[16]) {
    rows.ask(offset);
    transpose_rows(rows.row, offset, t);
}

ALWAYS_INLINE void gather_dwords(const Rows &rows, size_t offset, u32x16 t[4]) {
    transpose4([&](int r) { return load<u32x4>(rows.row[r] + offset); }, t);
}

#endif

// The same of 16 bytes of each row.
ALWAYS_INLINE void gather4(const Rows &rows, size_t offset, u32x16 t[4]) {
    rows.ask(offset);
    gather_dwords(rows, offset, t);
}

// The same of any multiple of 16 bytes.
template <int BYTES> ALWAYS_INLINE void gather(const Rows &rows, size_t offset, u32x16 *t) {
    static_assert(BYTES % 16 == 0);
    for (int at = 0; at < BYTES / 64; at++) gather16(rows, offset + 64 * (size_t)at, t + 16 * at);
    for (int at = BYTES / 64 * 64; at < BYTES; at += 16) gather4(rows, offset + (size_t)at, t + at / 4);
}

// (Not by way of memory: a register that is read from smaller stores has to wait for them.)
ALWAYS_INLINE u32x16 lanes_of(const uint32_t t[16]) {
#if defined(__AVX512F__)
    u32x16 lanes;
    for (int r = 0; r < 16; r++) lanes[r] = t[r];
    return lanes;
#elif defined(__AVX2__)
    return join(u32x4{t[0], t[1], t[2], t[3]}, u32x4{t[4], t[5], t[6], t[7]}, u32x4{t[8], t[9], t[10], t[11]},
                u32x4{t[12], t[13], t[14], t[15]});
#else
    return load<u32x16>(t);
#endif
}

// Two bytes of each row, as lanes.
ALWAYS_INLINE u32x16 gather_u16(const Rows &rows, size_t offset) {
    uint32_t t[16];
    for (int r = 0; r < 16; r++) {
        uint16_t half;
        memcpy(&half, rows.row[r] + offset, 2);
        t[r] = half;
    }
    return lanes_of(t);
}

// Four bytes of each row, as lanes.
ALWAYS_INLINE u32x16 gather_u32(const Rows &rows, size_t offset) {
    uint32_t t[16];
    for (int r = 0; r < 16; r++) memcpy(&t[r], rows.row[r] + offset, 4);
    return lanes_of(t);
}

ALWAYS_INLINE u8x64 low_nibbles(u32x16 t) { return bits<u8x64>(t & 0x0f0f0f0fu); }
ALWAYS_INLINE u8x64 high_nibbles(u32x16 t) { return bits<u8x64>((t >> 4) & 0x0f0f0f0fu); }

// Byte `i` of each lane, as a number.
ALWAYS_INLINE u32x16 byte_of(u32x16 t, int i) { return (t >> (8 * i)) & 0xffu; }
ALWAYS_INLINE i32x16 signed_byte_of(u32x16 t, int i) { return bits<i32x16>(t << (24 - 8 * i)) >> 24; }

// Bytes i and i + 1 of each lane (i is 0 or 2), as a pair of 16 bits.
ALWAYS_INLINE i16x32 pair_of(u32x16 t, int i) {
    const u32x16 two = t >> (8 * i);
    return bits<i16x32>((two & 0xffu) | ((two & 0xff00u) << 8));
}

} // namespace VARIANT
