// Formats of 32 values a block, and IQ4_XS, whose values are those of IQ4_NL (ggml-common.h,
// block_q4_0 to block_q8_0, block_iq4_nl, block_iq4_xs).

#pragma once

#include "unpacked.h"

namespace VARIANT {

// Copies of blocks of 16 rows, and eight in each: of the last ones of a row, which are fewer, the others are
// 0, and nothing beyond the row is read.
template <int BLOCK_BYTES> struct Copies {
    uint8_t bytes[16][8 * BLOCK_BYTES];

    ALWAYS_INLINE Rows of(const Rows &rows, size_t at, int count) {
        memset(bytes, 0, sizeof bytes);
        Rows copies{{}, 0};
        for (int r = 0; r < 16; r++) {
            memcpy(bytes[r], rows.row[r] + at, (size_t)count * BLOCK_BYTES);
            copies.row[r] = bytes[r];
        }
        return copies;
    }
};

#if defined(__AVX512F__)

// All dwords of eight blocks of 16 rows, which follow each other: a block need not begin at one.
template <int BLOCK_BYTES> struct Blocks {
    static constexpr int all_bytes = 8 * BLOCK_BYTES;
    u32x16 dwords[all_bytes / 4 + 1];

    ALWAYS_INLINE Blocks(const Rows &rows, size_t at, int count) {
        dwords[all_bytes / 4] = u32x16{};
        if (count == 8) {
            gather<all_bytes>(rows, at, dwords);
            return;
        }
        Copies<BLOCK_BYTES> copies;
        gather<all_bytes>(copies.of(rows, at, count), 0, dwords);
    }

    // The four bytes at `offset` (even) of a block.
    ALWAYS_INLINE u32x16 four(int block, int offset) const {
        const int where = block * BLOCK_BYTES + offset;
        if (where % 4 == 0) return dwords[where / 4];
        return (dwords[where / 4] >> 16) | (dwords[where / 4 + 1] << 16);
    }
    template <int N> ALWAYS_INLINE void bytes(int block, int offset, u32x16 t[N / 4]) const {
        for (int i = 0; i < N / 4; i++) t[i] = four(block, offset + 4 * i);
    }
};

#else

// Where the same blocks lie: each is read from where it begins.
template <int BLOCK_BYTES> struct Blocks {
    Rows rows;
    size_t at;
    Copies<BLOCK_BYTES> copies;

    ALWAYS_INLINE Blocks(const Rows &from, size_t first, int count) : rows(from), at(first) {
        if (count < 8) rows = copies.of(from, first, count), at = 0;
        for (size_t line = 0; line < 8 * BLOCK_BYTES; line += 64) rows.ask(at + line);
    }

    ALWAYS_INLINE u32x16 four(int block, int offset) const { return gather_u32(rows, at + (size_t)(block * BLOCK_BYTES + offset)); }
    template <int N> ALWAYS_INLINE void bytes(int block, int offset, u32x16 t[N / 4]) const {
        for (int i = 0; i < N; i += 16) gather_dwords(rows, at + (size_t)(block * BLOCK_BYTES + offset + i), t + i / 4);
    }
};

#endif

// d of each block, and m of each where there is one behind it.
template <bool HAS_MINIMUM, class B> ALWAYS_INLINE void unpack_scales(const B &blocks, Unpacked &out) {
    for (int b = 0; b < 8; b++) {
        const u32x16 both = blocks.four(b, 0);
        out.scale[b] = f16_lanes_to_f32(both);
        if constexpr (HAS_MINIMUM) out.minimum[b] = f16_lanes_to_f32(both >> 16);
    }
}

// The nibbles, from `offset` of each block on: byte i holds values i and i + 16.
template <class B, class Change>
ALWAYS_INLINE void unpack_nibbles(const B &blocks, int offset, Unpacked &out, Change change) {
    for (int b = 0; b < 8; b++) {
        u32x16 t[4];
        blocks.template bytes<16>(b, offset, t);
        for (int i = 0; i < 4; i++) {
            out.bytes[8 * b + i] = change(low_nibbles(t[i]), b, i);
            out.bytes[8 * b + 4 + i] = change(high_nibbles(t[i]), b, 4 + i);
        }
    }
}

// The fifth bits of values 4 group to 4 group + 3 of a block, as bit 4 of their bytes. Bit k is that of value k.
ALWAYS_INLINE u8x64 fifth_bits(u32x16 bits_of_block, int group) {
    const u32x16 four = (bits_of_block >> (4 * group)) & 15u;
    return bits<u8x64>(((four * 0x00204081u) & 0x01010101u) << 4);
}

struct Q4_0 {
    static constexpr int type = 2, block_values = 32, block_bytes = 18, offset = 8;
    static constexpr bool has_minimum = false;
    static constexpr int largest = 15; // byte

    static ALWAYS_INLINE u8x64 bytes(const Unpacked &w, int scale, int four) { return w.bytes[8 * scale + four]; }

    static ALWAYS_INLINE void unpack(const Rows &rows, size_t at, int count, Unpacked &out) {
        const Blocks<block_bytes> blocks(rows, at, count);
        unpack_scales<false>(blocks, out);
        unpack_nibbles(blocks, 2, out, [](u8x64 v, int, int) { return v; });
    }
};

struct Q4_1 {
    static constexpr int type = 3, block_values = 32, block_bytes = 20, offset = 0;
    static constexpr bool has_minimum = true;
    static constexpr int largest = 15; // byte

    static ALWAYS_INLINE u8x64 bytes(const Unpacked &w, int scale, int four) { return w.bytes[8 * scale + four]; }

    static ALWAYS_INLINE void unpack(const Rows &rows, size_t at, int count, Unpacked &out) {
        const Blocks<block_bytes> blocks(rows, at, count);
        unpack_scales<true>(blocks, out);
        unpack_nibbles(blocks, 4, out, [](u8x64 v, int, int) { return v; });
    }
};

struct Q5_0 {
    static constexpr int type = 6, block_values = 32, block_bytes = 22, offset = 16;
    static constexpr bool has_minimum = false;
    static constexpr int largest = 31; // byte

    static ALWAYS_INLINE u8x64 bytes(const Unpacked &w, int scale, int four) { return w.bytes[8 * scale + four]; }

    static ALWAYS_INLINE void unpack(const Rows &rows, size_t at, int count, Unpacked &out) {
        const Blocks<block_bytes> blocks(rows, at, count);
        unpack_scales<false>(blocks, out);
        u32x16 fifths[8];
        for (int b = 0; b < 8; b++) fifths[b] = blocks.four(b, 2);
        unpack_nibbles(blocks, 6, out, [&](u8x64 v, int b, int group) { return v | fifth_bits(fifths[b], group); });
    }
};

struct Q5_1 {
    static constexpr int type = 7, block_values = 32, block_bytes = 24, offset = 0;
    static constexpr bool has_minimum = true;
    static constexpr int largest = 31; // byte

    static ALWAYS_INLINE u8x64 bytes(const Unpacked &w, int scale, int four) { return w.bytes[8 * scale + four]; }

    static ALWAYS_INLINE void unpack(const Rows &rows, size_t at, int count, Unpacked &out) {
        const Blocks<block_bytes> blocks(rows, at, count);
        unpack_scales<true>(blocks, out);
        u32x16 fifths[8];
        for (int b = 0; b < 8; b++) fifths[b] = blocks.four(b, 4);
        unpack_nibbles(blocks, 8, out, [&](u8x64 v, int b, int group) { return v | fifth_bits(fifths[b], group); });
    }
};

struct Q8_0 {
    static constexpr int type = 8, block_values = 32, block_bytes = 34, offset = 128;
    static constexpr bool has_minimum = false;
    static constexpr int largest = 255; // byte

    static ALWAYS_INLINE u8x64 bytes(const Unpacked &w, int scale, int four) { return w.bytes[8 * scale + four]; }

    static ALWAYS_INLINE void unpack(const Rows &rows, size_t at, int count, Unpacked &out) {
        const Blocks<block_bytes> blocks(rows, at, count);
        unpack_scales<false>(blocks, out);
        for (int b = 0; b < 8; b++) {
            u32x16 t[8];
            blocks.template bytes<32>(b, 2, t);
            for (int i = 0; i < 8; i++) out.bytes[8 * b + i] = bits<u8x64>(large_bytes_have_sign ? t[i] : t[i] ^ 0x80808080u);
        }
    }
};

// The sixteen values of IQ4_NL, each with 128 added; then as they are.
alignas(16) inline constexpr uint8_t iq4_values_and_128[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};
alignas(16) inline constexpr int8_t signed_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
inline const uint8_t *const iq4_values = large_bytes_have_sign ? (const uint8_t *)signed_iq4_values : iq4_values_and_128;

struct IQ4_NL {
    static constexpr int type = 20, block_values = 32, block_bytes = 18, offset = 128;
    static constexpr bool has_minimum = false;
    static constexpr int largest = 241; // byte

    static ALWAYS_INLINE u8x64 bytes(const Unpacked &w, int scale, int four) { return w.bytes[8 * scale + four]; }

    static ALWAYS_INLINE void unpack(const Rows &rows, size_t at, int count, Unpacked &out) {
        const Blocks<block_bytes> blocks(rows, at, count);
        unpack_scales<false>(blocks, out);
        unpack_nibbles(blocks, 2, out, [](u8x64 v, int, int) { return lookup16(iq4_values, v); });
    }
};

struct IQ4_XS {
    static constexpr int type = 23, block_values = 256, block_bytes = 136;
    static constexpr int values_per_scale = 32, offset = 128, minimum_pairs = 0;
    static constexpr int largest = 241; // byte

    static ALWAYS_INLINE u8x64 bytes(const Unpacked &w, int scale, int four) { return w.bytes[8 * scale + four]; }

    static ALWAYS_INLINE void unpack(const Rows &rows, size_t at, Unpacked &out) {
        const u32x16 head = gather_u32(rows, at), low = gather_u32(rows, at + 4); // d and two high bits of each scale; four low ones
        const f32x16 d = f16_lanes_to_f32(head);
        for (int j = 0; j < 8; j++) {
            const u32x16 scale = ((low >> (4 * j)) & 15u) | (((head >> (16 + 2 * j)) & 3u) << 4);
            out.scale[j] = d * to_f32(bits<i32x16>(scale) - 32);
        }
        for (int half = 0; half < 2; half++) {
            u32x16 t[16];
            gather16(rows, at + 8 + 64 * half, t);
            for (int j = 0; j < 16; j++) {
                const int to = 32 * half + 8 * (j / 4) + j % 4;
                out.bytes[to] = lookup16(iq4_values, low_nibbles(t[j]));
                out.bytes[to + 4] = lookup16(iq4_values, high_nibbles(t[j]));
            }
        }
    }
};

} // namespace VARIANT
