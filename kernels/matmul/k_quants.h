// The K-quants: super-blocks of 256 values, scales that are themselves quantized (ggml-common.h,
// block_q2_K to block_q6_K; dequantize_row_q*_K of ggml-quants.c say what the bits mean).

#pragma once

#include "unpacked.h"

namespace VARIANT {

// What q4_K and q5_K have in common: 16 bytes of scales and minimums of 6 bits.
ALWAYS_INLINE void unpack_scales_6bit(const Rows &rows, size_t at, Unpacked &out) {
    u32x16 t[4]; // d and dmin; then 12 bytes
    gather4(rows, at, t);
    const f32x16 d = f16_lanes_to_f32(t[0]);
    out.minimum_scale = f16_lanes_to_f32(t[0] >> 16);
    const u32x16 scales[2] = {t[1] & 0x3f3f3f3fu, (t[3] & 0x0f0f0f0fu) | ((t[1] >> 2) & 0x30303030u)};
    const u32x16 minimums[2] = {t[2] & 0x3f3f3f3fu, ((t[3] >> 4) & 0x0f0f0f0fu) | ((t[2] >> 2) & 0x30303030u)};
    for (int j = 0; j < 8; j++) out.scale[j] = d * to_f32(bits<i32x16>(byte_of(scales[j / 4], j % 4)));
    for (int j = 0; j < 4; j++) out.minimums[j] = pair_of(minimums[j / 2], 2 * (j % 2));
}

struct Q4_K {
    static constexpr int type = 12, block_values = 256, block_bytes = 144;
    static constexpr int values_per_scale = 32, offset = 0, minimum_pairs = 4;
    static constexpr int largest = 15; // byte

    // Nibbles stay as they are in the file: writing 32 vectors and taking them apart where they are used is
    // less than writing 64.
    static ALWAYS_INLINE u8x64 bytes(const Unpacked &w, int scale, int four) {
        const u32x16 both = bits<u32x16>(w.bytes[8 * (scale / 2) + four]);
        return scale % 2 ? high_nibbles(both) : low_nibbles(both);
    }

    static ALWAYS_INLINE void unpack(const Rows &rows, size_t at, Unpacked &out) {
        unpack_scales_6bit(rows, at, out);
        for (int half = 0; half < 2; half++) gather16(rows, at + 16 + 64 * half, (u32x16 *)out.bytes + 16 * half);
    }
};

struct Q5_K {
    static constexpr int type = 13, block_values = 256, block_bytes = 176;
    static constexpr int values_per_scale = 32, offset = 0, minimum_pairs = 4;
    static constexpr int largest = 31; // byte

    static ALWAYS_INLINE u8x64 bytes(const Unpacked &w, int scale, int four) { return w.bytes[8 * scale + four]; }

    static ALWAYS_INLINE void unpack(const Rows &rows, size_t at, Unpacked &out) {
        unpack_scales_6bit(rows, at, out);
        u32x16 high[8]; // bit 2 c + h of byte i: the fifth of value 64 c + 32 h + i
        {
            u32x16 t[4];
            for (int part = 0; part < 2; part++) {
                gather4(rows, at + 16 + 16 * part, t);
                for (int i = 0; i < 4; i++) high[4 * part + i] = t[i];
            }
        }
        for (int half = 0; half < 2; half++) {
            u32x16 t[16];
            gather16(rows, at + 48 + 64 * half, t);
            for (int j = 0; j < 16; j++) {
                const int chunk = 2 * half + j / 8, to = 16 * chunk + j % 8;
                const u32x16 fifth = high[j % 8] >> (2 * chunk);
                out.bytes[to] = low_nibbles(t[j]) | bits<u8x64>((fifth & 0x01010101u) << 4);
                out.bytes[to + 8] = high_nibbles(t[j]) | bits<u8x64>((fifth & 0x02020202u) << 3);
            }
        }
    }
};

struct Q6_K {
    static constexpr int type = 14, block_values = 256, block_bytes = 210;
    static constexpr int values_per_scale = 16, offset = 32, minimum_pairs = 0;
    static constexpr int largest = 63; // byte

    static ALWAYS_INLINE u8x64 bytes(const Unpacked &w, int scale, int four) { return w.bytes[4 * scale + four]; }

    static ALWAYS_INLINE void unpack(const Rows &rows, size_t at, Unpacked &out) {
        const f32x16 d = f16_lanes_to_f32(gather_u16(rows, at + 208));
        {
            u32x16 t[4];
            gather4(rows, at + 192, t);
            for (int j = 0; j < 16; j++) out.scale[j] = d * to_f32(signed_byte_of(t[j / 4], j % 4));
        }
        u32x16 high[16];
        gather16(rows, at + 128, high);
        for (int half = 0; half < 2; half++) {
            u32x16 t[16];
            gather16(rows, at + 64 * half, t);
            for (int i = 0; i < 8; i++) {
                const u32x16 two = high[8 * half + i];
                u8x64 *to = out.bytes + 32 * half + i;
                to[0] = low_nibbles(t[i]) | bits<u8x64>((two << 4) & 0x30303030u);
                to[8] = low_nibbles(t[i + 8]) | bits<u8x64>((two << 2) & 0x30303030u);
                to[16] = high_nibbles(t[i]) | bits<u8x64>(two & 0x30303030u);
                to[24] = high_nibbles(t[i + 8]) | bits<u8x64>((two >> 2) & 0x30303030u);
            }
        }
    }
};

struct Q3_K {
    static constexpr int type = 11, block_values = 256, block_bytes = 110;
    static constexpr int values_per_scale = 16, offset = 4, minimum_pairs = 0;
    static constexpr int largest = 7; // byte

    static ALWAYS_INLINE u8x64 bytes(const Unpacked &w, int scale, int four) { return w.bytes[4 * scale + four]; }

    static ALWAYS_INLINE void unpack(const Rows &rows, size_t at, Unpacked &out) {
        const f32x16 d = f16_lanes_to_f32(gather_u16(rows, at + 108));
        // Sixteen scales of 6 bits, less 32: four low bits of each in the first 8 bytes, then two of each.
        const u32x16 a = gather_u32(rows, at + 96), b = gather_u32(rows, at + 100), c = gather_u32(rows, at + 104);
        const u32x16 scales[4] = {
            (a & 0x0f0f0f0fu) | ((c << 4) & 0x30303030u),
            (b & 0x0f0f0f0fu) | ((c << 2) & 0x30303030u),
            ((a >> 4) & 0x0f0f0f0fu) | (c & 0x30303030u),
            ((b >> 4) & 0x0f0f0f0fu) | ((c >> 2) & 0x30303030u),
        };
        for (int j = 0; j < 16; j++) out.scale[j] = d * to_f32(bits<i32x16>(byte_of(scales[j / 4], j % 4)) - 32);
        u32x16 high[8]; // bit 4 half + s of byte i: the third of value 128 half + 32 s + i
        {
            u32x16 t[4];
            for (int part = 0; part < 2; part++) {
                gather4(rows, at + 16 * part, t);
                for (int i = 0; i < 4; i++) high[4 * part + i] = t[i];
            }
        }
        u32x16 t[16];
        gather16(rows, at + 32, t);
        for (int half = 0; half < 2; half++)
            for (int s = 0; s < 4; s++)
                for (int i = 0; i < 8; i++) {
                    const u32x16 third = (high[i] >> (4 * half + s)) & 0x01010101u;
                    out.bytes[32 * half + 8 * s + i] =
                        bits<u8x64>(((t[8 * half + i] >> (2 * s)) & 0x03030303u) | (third << 2));
                }
    }
};

struct Q2_K {
    static constexpr int type = 10, block_values = 256, block_bytes = 84;
    static constexpr int values_per_scale = 16, offset = 0, minimum_pairs = 8;
    static constexpr int largest = 3; // byte

    static ALWAYS_INLINE u8x64 bytes(const Unpacked &w, int scale, int four) { return w.bytes[4 * scale + four]; }

    static ALWAYS_INLINE void unpack(const Rows &rows, size_t at, Unpacked &out) {
        const u32x16 both = gather_u32(rows, at + 80);
        const f32x16 d = f16_lanes_to_f32(both);
        out.minimum_scale = f16_lanes_to_f32(both >> 16);
        {
            u32x16 t[4];
            gather4(rows, at, t);
            for (int j = 0; j < 16; j++)
                out.scale[j] = d * to_f32(bits<i32x16>(byte_of(t[j / 4], j % 4) & 15u));
            for (int j = 0; j < 8; j++) out.minimums[j] = pair_of((t[j / 2] >> 4) & 0x0f0f0f0fu, 2 * (j % 2));
        }
        u32x16 t[16];
        gather16(rows, at + 16, t);
        for (int half = 0; half < 2; half++)
            for (int s = 0; s < 4; s++)
                for (int i = 0; i < 8; i++)
                    out.bytes[32 * half + 8 * s + i] = bits<u8x64>((t[8 * half + i] >> (2 * s)) & 0x03030303u);
    }
};

} // namespace VARIANT
