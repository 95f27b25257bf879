// Keys and values as they lie in the cache, made floats in L1.
//
// A format has
//   values(row, i): the values i .. i + 15 of a row;
//   keys(rows, i, count, out): the values i .. i + count - 1 (at most 64) of 16 rows, as [value][4] vectors
//     of which the first of each four is written (lanes are rows);
//   bounds(rows, cells, i, count, of_value, of_cell): raises of_value[j] to what no magnitude of the rows'
//     values i + j is above (j < count, at most 128), and of_cell[c] to that of row c's. Infinity where a value
//     is not finite. What is said of some rows is the largest of what is said of each alone. of_cell may be
//     null; else `rows` are whole vectors, and it has room for 64.

#pragma once

#include "../rows/rows.h"
#include "../simd/vector.h"
#include "shape.h"
#include "tiles.h"

namespace VARIANT {

typedef uint8_t u8x16 __attribute__((vector_size(16)));

constexpr int chunk = 64; // values of a head that are made floats together
constexpr int key_blocks = piece_cells / 16;
constexpr int bounds_chunk = 128; // values of a head whose bounds are found together

// Of a value of 16 bits; infinity for what is not a number.
ALWAYS_INLINE float magnitude(uint16_t h) { return f16_to_f32(std::min<uint16_t>(h & 0x7fff, 0x7c00)); }

ALWAYS_INLINE void raise(float *most, f32x16 x) { store(most, max(load<f32x16>(most), x)); }

// Of numbers of 16 bits that have no sign.
ALWAYS_INLINE u16x32 larger(u16x32 a, u16x32 b) {
#if defined(__AVX512BW__)
    return bits<u16x32>(_mm512_max_epu16(bits<__m512i>(a), bits<__m512i>(b)));
#elif defined(__AVX2__)
    auto x = bits<Split<__m256i, u16x32>>(a);
    const auto y = bits<Split<__m256i, u16x32>>(b);
    for (int i = 0; i < 2; i++) x.part[i] = _mm256_max_epu16(x.part[i], y.part[i]);
    return bits<u16x32>(x);
#else
    const i16x32 x = bits<i16x32>(a), y = bits<i16x32>(b);
    return bits<u16x32>(choose(x > y, x, y));
#endif
}

ALWAYS_INLINE uint16_t largest(u16x32 v) {
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

// Infinity for what is not a number.
ALWAYS_INLINE u16x32 bounded(u16x32 magnitudes) { return choose(magnitudes < (uint16_t)0x7c00, magnitudes, all_lanes<u16x32>((uint16_t)0x7c00)); }

template <class Format> ALWAYS_INLINE void keys_by_values(const Format &format, const char *const rows[16], int i, int count, f32x16 *out) {
    for (int j = 0; j < count; j += 16) {
        alignas(64) float values[16][16];
        const float *row[16];
        for (int r = 0; r < 16; r++) {
            store(values[r], format.values(rows[r], i + j, count - j));
            row[r] = values[r];
        }
        u32x16 t[16];
        transpose_rows(row, 0, t);
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
            if (many == 32) {
                transpose_rows(rows, 2 * (size_t)(i + j), t);
            } else {
                uint16_t values[16][32] = {};
                const uint16_t *row[16];
                for (int r = 0; r < 16; r++) {
                    memcpy(values[r], rows[r] + 2 * (i + j), 2 * (size_t)many);
                    row[r] = values[r];
                }
                transpose_rows(row, 0, t);
            }
            for (int n = 0; n < many / 2; n++)
                f16_pairs_to_f32(t[n], out[(j + 2 * n) * key_blocks], out[(j + 2 * n + 1) * key_blocks]);
        }
    }

    static ALWAYS_INLINE void bounds(const char *const *rows, int cells, int i, int count, float *of_value, float *of_cell) {
        with_constant<bounds_chunk / 32>((count + 31) / 32, [&](auto vectors) {
            u16x32 most[vectors.value] = {};
            for (int c = 0; c < cells; c += 16) {
                u16x32 of_row[16];
                const int many = of_cell ? 16 : std::min(16, cells - c);
                for (int r = 0; r < many; r++) {
                    for (int n = 0; n < vectors.value; n++) {
                        const u16x32 x = magnitudes(rows[c + r] + 2 * (i + 32 * n), n + 1 < vectors.value ? 32 : count - 32 * n);
                        most[n] = larger(most[n], x);
                        of_row[r] = n ? larger(of_row[r], x) : x;
                    }
                }
                if (of_cell) raise(of_cell + c, f16_lanes_to_f32(largest_of_each(of_row)));
            }
            for (int n = 0; n < vectors.value; n++) {
                uint16_t bound[32];
                store(bound, bounded(most[n]));
                raise(of_value + 32 * n, load_f16(bound));
                if (32 * n + 16 < count) raise(of_value + 32 * n + 16, load_f16(bound + 16));
            }
        });
    }

  private:
    static ALWAYS_INLINE u16x32 magnitudes(const char *from, int left) {
        if (left >= 32) return load<u16x32>(from) & (uint16_t)0x7fff;
        uint16_t part[32] = {};
        memcpy(part, from, 2 * (size_t)(left & 31));
        return load<u16x32>(part) & (uint16_t)0x7fff;
    }
    static ALWAYS_INLINE u32x16 larger_of(u32x16 a, u32x16 b) { return bits<u32x16>(larger(bits<u16x32>(a), bits<u16x32>(b))); }
    // Of 16 vectors: lane i is the largest of vector i. Four times, two vectors become one of half as many lanes of
    // each: within 16 bytes first, as that is cheapest.
    static ALWAYS_INLINE u32x16 largest_of_each(const u16x32 of[16]) {
        u32x16 v[16];
        for (int i = 0; i < 16; i++) v[i] = bits<u32x16>(of[i]);
        const auto halve = [&](int count, auto low, auto high) {
            for (int i = 0; i < count; i++) v[i] = larger_of(low(v[2 * i], v[2 * i + 1]), high(v[2 * i], v[2 * i + 1]));
        };
#define APPLIANCE_LANES(...) [](u32x16 a, u32x16 b) { return shuffle<__VA_ARGS__>(a, b); }
        halve(8, APPLIANCE_LANES(0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29),
              APPLIANCE_LANES(2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31));
        halve(4, APPLIANCE_LANES(0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29),
              APPLIANCE_LANES(2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31));
        halve(2, APPLIANCE_LANES(0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23),
              APPLIANCE_LANES(8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31));
        halve(1, APPLIANCE_LANES(0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27),
              APPLIANCE_LANES(4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31));
#undef APPLIANCE_LANES
        const u32x16 both = larger_of(v[0], v[0] >> 16) & 0xffffu;
        return choose(both < 0x7c00u, both, all_lanes<u32x16>(0x7c00u));
    }
};

// Blocks of 32 values.
template <int Bytes> struct Blocks {
    static size_t row_bytes(int count) { return (size_t)(count / 32 * Bytes); }
    static ALWAYS_INLINE const char *block(const char *row, int i) { return row + i / 32 * Bytes; }
    static ALWAYS_INLINE uint16_t half_bits(const char *from) {
        uint16_t h;
        memcpy(&h, from, 2);
        return h;
    }
    static ALWAYS_INLINE float half_at(const char *from) { return f16_to_f32(half_bits(from)); }
    // The values of four bits: 0 .. 15 of a block are its low halves of bytes, 16 .. 31 the high ones.
    static ALWAYS_INLINE i32x16 nibbles(const char *from, int i) {
        u8x16 x;
        memcpy(&x, from, sizeof x);
        x = i & 16 ? x >> 4 : x & (uint8_t)15;
        return widen(bits<i8x16>(x));
    }

    // Where no value is more than `times` its block's scale.
    static ALWAYS_INLINE void bounds_of_scales(const char *const *rows, int cells, int i, int count, float times, float *of_value,
                                               float *of_cell) {
        alignas(64) uint16_t scale[bounds_chunk / 32][piece_cells] = {};
        for (int c = 0; c < cells; c++)
            for (int j = 0; j < count; j += 32) memcpy(&scale[j / 32][c], block(rows[c], i + j), 2);
        u16x32 of_row[piece_cells / 32] = {};
        for (int j = 0; j < count; j += 32) {
            u16x32 most{};
            for (int c = 0; c < piece_cells; c += 32) {
                const u16x32 x = load<u16x32>(scale[j / 32] + c) & (uint16_t)0x7fff;
                most = larger(most, x);
                of_row[c / 32] = larger(of_row[c / 32], x);
            }
            for (int n = 0; n < 32; n += 16) raise(of_value + j + n, splat(magnitude(largest(most)) * times));
        }
        for (int c = 0; of_cell && c < piece_cells; c += 32) {
            uint16_t bound[32];
            store(bound, bounded(of_row[c / 32]));
            for (int n = 0; n < 32; n += 16) raise(of_cell + c + n, load_f16(bound + n) * times);
        }
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
        uint16_t scale[2][16];
        const size_t first = row_bytes(i), second = first + (count > 32 ? 34 : 0); // if there is no next block, the same
        for (int r = 0; r < 16; r++) {
            memcpy(&scale[0][r], rows[r] + first, 2);
            memcpy(&scale[1][r], rows[r] + second, 2);
        }
        u32x16 t[16];
        transpose_halves(rows, first + 2, second + 2, t);
        for (int n = 0; n < count / 4; n++) {
            const f32x16 d = load_f16(scale[n / 8]);
            const i32x16 x = bits<i32x16>(t[n]);
            out[(4 * n) * key_blocks] = to_f32((x << 24) >> 24) * d;
            out[(4 * n + 1) * key_blocks] = to_f32((x << 16) >> 24) * d;
            out[(4 * n + 2) * key_blocks] = to_f32((x << 8) >> 24) * d;
            out[(4 * n + 3) * key_blocks] = to_f32(x >> 24) * d;
        }
    }

    static ALWAYS_INLINE void bounds(const char *const *rows, int cells, int i, int count, float *of_value, float *of_cell) {
        bounds_of_scales(rows, cells, i, count, 128, of_value, of_cell);
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
    static ALWAYS_INLINE void bounds(const char *const *rows, int cells, int i, int count, float *of_value, float *of_cell) {
        bounds_of_scales(rows, cells, i, count, 8, of_value, of_cell);
    }
};

struct Q5Cells : Blocks<24> {
    static constexpr ggml_type type = GGML_TYPE_Q5_1;
    explicit Q5Cells(RowToFloat) {}

    static ALWAYS_INLINE f32x16 values(const char *row, int i, int) {
        const char *const b = block(row, i);
        uint16_t high[2];
        memcpy(high, b + 4, 4);
        alignas(64) static constexpr int32_t lane[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
        const i32x16 fifth = (splat((int32_t)high[i / 16 & 1]) >> load<i32x16>(lane) & 1) << 4;
        return fma(to_f32(nibbles(b + 8, i) | fifth), splat(half_at(b)), splat(half_at(b + 2)));
    }
    static ALWAYS_INLINE void keys(const char *const rows[16], int i, int count, f32x16 *out) {
        keys_by_values(Q5Cells(nullptr), rows, i, count, out);
    }
    static ALWAYS_INLINE void bounds(const char *const *rows, int cells, int i, int count, float *of_value, float *of_cell) {
        for (int j = 0; j < count; j += 32) {
            float most = 0;
            for (int c = 0; c < cells; c++) {
                const char *const b = block(rows[c], i + j);
                const float least = half_at(b + 2), largest = std::fma(31.0f, half_at(b), least);
                const float further = std::max(std::fabs(largest), std::fabs(least)), here = further < INFINITY ? further : INFINITY;
                most = std::max(most, here);
                if (of_cell) of_cell[c] = std::max(of_cell[c], here);
            }
            for (int n = 0; n < 32; n += 16) raise(of_value + j + n, splat(most));
        }
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
    ALWAYS_INLINE void bounds(const char *const *rows, int cells, int i, int count, float *of_value, float *of_cell) const {
        for (int c = 0; c < cells; c++)
            for (int j = 0; j < count; j += 16) {
                const u32x16 x = bits<u32x16>(values(rows[c], i + j, count - j)) & 0x7fffffffu;
                const f32x16 here = bits<f32x16>(choose(x < 0x7f800000u, x, all_lanes<u32x16>(0x7f800000u)));
                raise(of_value + j, here);
                if (of_cell) of_cell[c] = std::max(of_cell[c], largest_lane(here));
            }
    }
};

} // namespace VARIANT
