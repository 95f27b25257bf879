// Weights of 16 and 32 bits: products in 32 bits, one multiply-add after the other along k.

#include "product.h"

namespace VARIANT {

namespace {

// Values k and k + 1 of sixteen rows.
struct F16 {
    static constexpr int type = 1, bytes = 2;
    static ALWAYS_INLINE void widen(u32x16 pair, f32x16 &even, f32x16 &odd) {
        even = f16_lanes_to_f32(pair);
        odd = f16_lanes_to_f32(pair >> 16);
    }
};

struct BF16 {
    static constexpr int type = 30, bytes = 2;
    static ALWAYS_INLINE void widen(u32x16 pair, f32x16 &even, f32x16 &odd) {
        even = bits<f32x16>(pair << 16);
        odd = bits<f32x16>(pair & 0xffff0000u);
    }
};

struct F32 {
    static constexpr int type = 0, bytes = 4;
};

constexpr int step = 64; // values of a row that are unpacked at a time

// `count` values (at most `step`) of each row from `at` bytes on, as [value][row].
template <class F> ALWAYS_INLINE void unpack(const Rows &rows, size_t at, int count, f32x16 *out) {
    constexpr int per_load = 64 / F::bytes;
    for (int first = 0; first < count; first += per_load) {
        u32x16 t[16] = {};
        const int bytes = (count - first < per_load ? count - first : per_load) * F::bytes;
        for (int r = 0; r < 16; r++)
            if (bytes == 64)
                t[r] = rows.read<u32x16>(r, at + (size_t)(first * F::bytes));
            else
                memcpy(&t[r], rows.row[r] + at + (size_t)(first * F::bytes), (size_t)bytes);
        transpose16(t);
        for (int j = 0; j < 16; j++) {
            if constexpr (F::bytes == 4)
                out[first + j] = bits<f32x16>(t[j]);
            else
                F::widen(t[j], out[first + 2 * j], out[first + 2 * j + 1]);
        }
    }
}

size_t packed_floats(int64_t k, int64_t m) { return 4 * (size_t)(k * m); }

// A tile holds [k][rows of the tile] floats.
void pack_floats(const Product &p, uint8_t *packed, Thread &thread) {
    const Tiles tiles(p.m);
    for (int64_t t = 0; t < tiles.count; t++) {
        const int64_t first = tiles.first(t), rows = tiles.size(t);
        float *tile = (float *)packed + first * p.k;
        for (int64_t m = 0; m < rows; m++) {
            if ((first + m) % thread.count() != thread.index()) continue;
            const float *x = p.x[first + m];
            for (int64_t k = 0; k < p.k; k++) tile[k * rows + m] = x[k];
        }
    }
}

template <int M> void multiply_floats(const f32x16 (*w)[step], const float *x, int count, f32x16 *totals) {
    f32x16 part[M][groups];
    for (int m = 0; m < M; m++)
        for (int g = 0; g < groups; g++) part[m][g] = totals[groups * m + g];
    for (int k = 0; k < count; k++)
        for (int m = 0; m < M; m++)
            for (int g = 0; g < groups; g++) part[m][g] = fma(w[g][k], splat(x[k * M + m]), part[m][g]);
    for (int m = 0; m < M; m++)
        for (int g = 0; g < groups; g++) totals[groups * m + g] = part[m][g];
}

template <class F>
void multiply_matrix(const Product &p, const uint8_t *packed, uint8_t *totals_memory, Thread &thread) {
    const Tiles tiles(p.m);
    f32x16 *const totals = (f32x16 *)totals_memory;
    for (Share share(p, thread); share.has_work();) {
        const int64_t first = share.first_row(), next = share.next();
        Rows rows[groups];
        rows_of(p, first, next * lanes, rows);
        for (int64_t t0 = 0; t0 < tiles.count; t0 += tiles_at_once) {
            const int64_t t1 = t0 + tiles_at_once < tiles.count ? t0 + tiles_at_once : tiles.count;
            const int64_t m0 = tiles.first(t0), count = tiles.first(t1) - m0;
            for (int64_t i = 0; i < groups * count; i++) totals[i] = f32x16{};
            f32x16 w[groups][step];
            for (int64_t at = 0; at < p.k; at += step) {
                const int many = (int)(p.k - at < step ? p.k - at : step);
                for (int g = 0; g < groups; g++) unpack<F>(rows[g], (size_t)at * F::bytes, many, w[g]);
                for (int64_t t = t0; t < t1; t++) {
                    const float *x = (const float *)packed + tiles.first(t) * p.k + at * tiles.size(t);
                    with_rows(tiles.size(t), [&](auto m) {
                        multiply_floats<m.value>(w, x, many, totals + groups * (tiles.first(t) - m0));
                    });
                }
            }
            store_totals(p, first, m0, count, totals);
        }
        share.go_to(next);
    }
    fetch_soon(p, thread);
}

} // namespace

const MatmulFormat float_formats[3] = {
    {F32::type, "matmul f32", 1, packed_floats, pack_floats, multiply_matrix<F32>},
    {F16::type, "matmul f16", 1, packed_floats, pack_floats, multiply_matrix<F16>},
    {BF16::type, "matmul bf16", 1, packed_floats, pack_floats, multiply_matrix<BF16>},
};

} // namespace VARIANT
