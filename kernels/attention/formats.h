// Keys and values as they lie in the cache, made floats in L1.
//
// A format has
//   values(row, i): the values i .. i + 15 of a row;
//   keys(rows, i, count, out): the values i .. i + count - 1 (at most 64) of 16 rows, as [value][4] vectors
//     of which the first of each four is written (lanes are rows);
//   bound(rows, cells, count): a number that no magnitude of some cells' values is above; infinity where a
//     value is not finite.

#pragma once

#include "../rows/rows.h"
#include "../simd/vector.h"
#include "shape.h"

namespace VARIANT {

typedef uint8_t u8x16 __attribute__((vector_size(16)));

constexpr int chunk = 64; // values of a head that are made floats together
constexpr int key_blocks = piece_cells / 16;

// Of a value of 16 bits; infinity for what is not a number.
ALWAYS_INLINE float magnitude(uint16_t h) { return f16_to_f32(std::min<uint16_t>(h & 0x7fff, 0x7c00)); }

template <class Format> ALWAYS_INLINE void keys_by_values(const Format &format, const char *const rows[16], int i, int count, f32x16 *out) {
    for (int j = 0; j < count; j += 16) {
        u32x16 t[16];
        for (int r = 0; r < 16; r++) t[r] = bits<u32x16>(format.values(rows[r], i + j, count - j));
        transpose16(t);
        for (int n = 0; n < 16; n++) out[(j + n) * key_blocks] = bits<f32x16>(t[n]);
    }
}

struct F16Cells {
    static constexpr ggml_type type = GGML_TYPE_F16;
    explicit F16Cells(RowToFloat) {}
    static size_t row_bytes(int count) { return 2 * (size_t)count; }

    static ALWAYS_INLINE f32x16 values(const char *row, int i, int left) {
        if (left >= 16) return load_f16(row + 2 * i);
        uint16_t part[16] = {};
        memcpy(part, row + 2 * i, 2 * (size_t)(left & 15));
        return load_f16(part);
    }

    static ALWAYS_INLINE void keys(const char *const rows[16], int i, int count, f32x16 *out) {
        for (int j = 0; j < count; j += 32) {
            u32x16 t[16];
            const int many = count - j < 32 ? count - j : 32;
            if (many == 32)
                for (int r = 0; r < 16; r++) t[r] = load<u32x16>(rows[r] + 2 * (i + j));
            else
                for (int r = 0; r < 16; r++) {
                    t[r] = u32x16{};
                    memcpy(&t[r], rows[r] + 2 * (i + j), 2 * (size_t)many);
                }
            transpose16(t);
            for (int n = 0; n < many / 2; n++)
                f16_pairs_to_f32(t[n], out[(j + 2 * n) * key_blocks], out[(j + 2 * n + 1) * key_blocks]);
        }
    }

    static ALWAYS_INLINE float bound(const char *const *rows, int cells, int count) {
        u16x32 most{};
        for (int c = 0; c < cells; c++) {
            const char *const row = rows[c];
            int i = 0;
            for (; i + 32 <= count; i += 32) most = larger(most, load<u16x32>(row + 2 * i) & (uint16_t)0x7fff);
            if (i == count) continue;
            u16x32 part{};
            memcpy(&part, row + 2 * i, 2 * (size_t)(count - i));
            most = larger(most, part & (uint16_t)0x7fff);
        }
        return magnitude(largest(most));
    }

  private:
    static ALWAYS_INLINE u16x32 larger(u16x32 a, u16x32 b) {
#if defined(__AVX512BW__)
        return bits<u16x32>(_mm512_max_epu16(bits<__m512i>(a), bits<__m512i>(b)));
#else
        const i16x32 x = bits<i16x32>(a), y = bits<i16x32>(b); // neither has the sign
        return bits<u16x32>(x > y ? x : y);
#endif
    }
    static ALWAYS_INLINE uint16_t largest(u16x32 v) {
        typedef int16_t i16x16 __attribute__((vector_size(32)));
        typedef int16_t i16x8 __attribute__((vector_size(16)));
        const auto a = bits<Split<i16x16, u16x32>>(v);
        const auto b = bits<Split<i16x8, i16x16>>(a.part[0] > a.part[1] ? a.part[0] : a.part[1]);
        i16x8 m = b.part[0] > b.part[1] ? b.part[0] : b.part[1];
#if defined(__SSE4_1__)
        // The least of the complements is the largest of all.
        const __m128i least = _mm_minpos_epu16(_mm_xor_si128(bits<__m128i>(m), _mm_set1_epi16(0x7fff)));
        return (uint16_t)(_mm_extract_epi16(least, 0) ^ 0x7fff);
#else
        int16_t most = m[0];
        for (int i = 1; i < 8; i++) most = most > m[i] ? most : m[i];
        return (uint16_t)most;
#endif
    }
};

// Blocks of 32 values.
template <int Bytes> struct Blocks {
    typedef uint32_t Half __attribute__((vector_size(32)));
    static size_t row_bytes(int count) { return (size_t)(count / 32 * Bytes); }
    static ALWAYS_INLINE const char *block(const char *row, int i) { return row + i / 32 * Bytes; }
    static ALWAYS_INLINE uint16_t half_bits(const char *from) {
        uint16_t h;
        memcpy(&h, from, 2);
        return h;
    }
    static ALWAYS_INLINE float half_at(const char *from) { return f16_to_f32(half_bits(from)); }
    // 32 bytes from each.
    static ALWAYS_INLINE u32x16 load_halves(const char *low, const char *high) {
        Split<Half, u32x16> both;
        memcpy(&both.part[0], low, sizeof(Half));
        memcpy(&both.part[1], high, sizeof(Half));
        return bits<u32x16>(both);
    }
    // The values of four bits: 0 .. 15 of a block are its low halves of bytes, 16 .. 31 the high ones.
    static ALWAYS_INLINE i32x16 nibbles(const char *from, int i) {
        u8x16 x;
        memcpy(&x, from, sizeof x);
        x = i & 16 ? x >> 4 : x & (uint8_t)15;
        return widen(bits<i8x16>(x));
    }

    // Of all blocks of some cells' rows.
    static ALWAYS_INLINE float largest_scale(const char *const *rows, int cells, int count) {
        uint16_t most = 0;
        for (int c = 0; c < cells; c++)
            for (int i = 0; i < count; i += 32) most = std::max<uint16_t>(most, half_bits(block(rows[c], i)) & 0x7fff);
        return magnitude(most);
    }
};

struct Q8Cells : Blocks<34> {
    static constexpr ggml_type type = GGML_TYPE_Q8_0;
    explicit Q8Cells(RowToFloat) {}

    static ALWAYS_INLINE f32x16 values(const char *row, int i, int) {
        const char *const b = block(row, i);
        i8x16 x;
        memcpy(&x, b + 2 + (i & 16), sizeof x);
        return to_f32(widen(x)) * splat(half_at(b));
    }

    static ALWAYS_INLINE void keys(const char *const rows[16], int i, int count, f32x16 *out) {
        u32x16 t[16];
        uint16_t scale[2][16];
        const int second = count > 32 ? 34 : 0; // where the next block is; if there is none, the same
        for (int r = 0; r < 16; r++) {
            const char *const b = block(rows[r], i);
            memcpy(&scale[0][r], b, 2);
            memcpy(&scale[1][r], b + second, 2);
            t[r] = load_halves(b + 2, b + second + 2);
        }
        transpose16(t);
        for (int n = 0; n < count / 4; n++) {
            const f32x16 d = load_f16(scale[n / 8]);
            const i32x16 x = bits<i32x16>(t[n]);
            out[(4 * n) * key_blocks] = to_f32((x << 24) >> 24) * d;
            out[(4 * n + 1) * key_blocks] = to_f32((x << 16) >> 24) * d;
            out[(4 * n + 2) * key_blocks] = to_f32((x << 8) >> 24) * d;
            out[(4 * n + 3) * key_blocks] = to_f32(x >> 24) * d;
        }
    }

    static ALWAYS_INLINE float bound(const char *const *rows, int cells, int count) {
        return 128 * largest_scale(rows, cells, count);
    }
};

struct Q4Cells : Blocks<18> {
    static constexpr ggml_type type = GGML_TYPE_Q4_0;
    explicit Q4Cells(RowToFloat) {}

    static ALWAYS_INLINE f32x16 values(const char *row, int i, int) {
        const char *const b = block(row, i);
        return to_f32(nibbles(b + 2, i) - 8) * splat(half_at(b));
    }
    static ALWAYS_INLINE void keys(const char *const rows[16], int i, int count, f32x16 *out) {
        keys_by_values(Q4Cells(nullptr), rows, i, count, out);
    }
    static ALWAYS_INLINE float bound(const char *const *rows, int cells, int count) {
        return 8 * largest_scale(rows, cells, count);
    }
};

struct Q5Cells : Blocks<24> {
    static constexpr ggml_type type = GGML_TYPE_Q5_1;
    explicit Q5Cells(RowToFloat) {}

    static ALWAYS_INLINE f32x16 values(const char *row, int i, int) {
        const char *const b = block(row, i);
        uint16_t high[2];
        memcpy(high, b + 4, 4);
        constexpr i32x16 lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
        const i32x16 fifth = (splat((int32_t)high[i / 16 & 1]) >> lane & 1) << 4;
        return fma(to_f32(nibbles(b + 8, i) | fifth), splat(half_at(b)), splat(half_at(b + 2)));
    }
    static ALWAYS_INLINE void keys(const char *const rows[16], int i, int count, f32x16 *out) {
        keys_by_values(Q5Cells(nullptr), rows, i, count, out);
    }
    static ALWAYS_INLINE float bound(const char *const *rows, int cells, int count) {
        float most = 0;
        for (int i = 0; i < cells * count; i += 32) {
            const char *const b = block(rows[i / count], i % count);
            const float least = half_at(b + 2), largest = std::fma(31.0f, half_at(b), least);
            const float here = std::max(std::fabs(largest), std::fabs(least));
            most = std::max(most, here < INFINITY ? here : INFINITY);
        }
        return most;
    }
};

// What is seldom used: by ggml's own converters. `Block` values have `Bytes`.
template <ggml_type Type, int Block, int Bytes> struct OtherCells {
    static constexpr ggml_type type = Type;
    const RowToFloat to_float;

    explicit OtherCells(RowToFloat to_float) : to_float(to_float) {}
    static size_t row_bytes(int count) { return (size_t)(count / Block * Bytes); }

    ALWAYS_INLINE f32x16 values(const char *row, int i, int left) const {
        float x[Block < 16 ? 16 : Block] = {};
        const char *const from = row + i / Block * Bytes;
        const int count = Block < 16 && left < 16 ? left : Block < 16 ? 16 : Block;
        if (type == GGML_TYPE_F32)
            memcpy(x, from, (size_t)count * sizeof *x);
        else
            to_float(from, x, count);
        return load<f32x16>(x + i % Block);
    }
    ALWAYS_INLINE void keys(const char *const rows[16], int i, int count, f32x16 *out) const { keys_by_values(*this, rows, i, count, out); }
    ALWAYS_INLINE float bound(const char *const *rows, int cells, int count) const {
        u32x16 most{};
        for (int c = 0; c < cells; c++)
            for (int i = 0; i < count; i += 16) {
                const u32x16 x = bits<u32x16>(values(rows[c], i, count - i)) & 0x7fffffffu;
                most = x > most ? x : most;
            }
        uint32_t result = 0;
        for (int lane = 0; lane < 16; lane++) result = std::max<uint32_t>(result, most[lane]);
        return bits<float>(std::min<uint32_t>(result, 0x7f800000));
    }
};

} // namespace VARIANT
