// A whole product out of tiles: which thread computes which weight rows, and in which order.

#pragma once

#include "matmul.h"
#include "tile.h"

namespace VARIANT {

constexpr int64_t tiles_at_once = matmul_rows_at_once / tile_rows;
constexpr int lanes = 16 * groups; // weight rows that are computed together

// The rows from `first` on; where there are fewer, the last one stands for the rest. Those from `next`
// on come after them, if there are such.
ALWAYS_INLINE void rows_of(const Product &p, int64_t first, int64_t next, Rows rows[groups]) {
    for (int r = 0; r < lanes; r++) {
        const int64_t row = first + r < p.n ? first + r : p.n - 1;
        rows[r / 16].row[r % 16] = p.weights + (size_t)row * p.row_bytes;
    }
    const ptrdiff_t ahead = next + lanes <= p.n ? (ptrdiff_t)(next - first) * (ptrdiff_t)p.row_bytes : 0;
    for (int g = 0; g < groups; g++) rows[g].ahead = ahead;
}

ALWAYS_INLINE void store_totals(const Product &p, int64_t first, int64_t m0, int64_t count, const f32x16 *totals) {
    const int64_t width = p.n - first < lanes ? p.n - first : lanes;
    for (int64_t m = 0; m < count; m++) {
        float *to = p.out[m0 + m] + first;
        if (width == lanes)
            for (int g = 0; g < groups; g++) store(to + 16 * g, totals[groups * m + g]);
        else
            memcpy(to, &totals[groups * m], (size_t)width * sizeof(float));
    }
}

// The next product's weights are asked for before the threads wait for each other and for what lies between.
ALWAYS_INLINE void fetch_soon(const Product &p, const Thread &thread) {
    constexpr size_t most_bytes = 24 << 10;
    const size_t share = p.soon_bytes / (size_t)thread.count() < most_bytes ? p.soon_bytes / (size_t)thread.count() : most_bytes;
    const uint8_t *from = p.soon + share * (size_t)thread.index();
    for (size_t at = 0; at < share; at += 64) __builtin_prefetch(from + at, 0, 2);
}

// Which rows a thread computes: first those with its own number, then what is left.
class Share {
  public:
    Share(const Product &p, Thread &thread) : thread_(thread), count_((p.n + lanes - 1) / lanes) {
        const int64_t fair = count_ / (8 * thread.count());
        many_ = fair < 1 ? 1 : fair > 4 ? 4 : fair;
        at_ = thread.index() * many_;
    }

    bool has_work() const { return at_ < count_; }
    int64_t first_row() const { return at_ * lanes; }

    // What comes after, so that it can be fetched while this is computed.
    int64_t next() {
        const int64_t behind = at_ + 1;
        if (behind % many_ != 0) return behind;
        return (thread_.count() + thread_.take()) * many_;
    }
    void go_to(int64_t next) { at_ = next; }

  private:
    Thread &thread_;
    const int64_t count_;
    int64_t many_, at_;
};

template <class F> size_t packed_bytes(int64_t k, int64_t m) { return 4 * (size_t)m * Packed<F>::row_dwords(k); }

template <class F> void pack(const Product &p, uint8_t *packed, Thread &thread) {
    const Tiles tiles(p.m);
    for (int64_t t = 0; t < tiles.count; t++) {
        uint32_t *tile = (uint32_t *)packed + (size_t)tiles.first(t) * Packed<F>::row_dwords(p.k);
        for (int m = 0; m < tiles.size(t); m++) {
            const int64_t row = tiles.first(t) + m;
            if (row % thread.count() == thread.index()) pack_row<F>(p.x[row], p.k, tile, m, tiles.size(t));
        }
    }
}

// Blocks of a row that are unpacked together: `count` of them from value `at` on are meant. At the end of
// a row, where fewer than a step's are left, it is the last step's worth of the row, if it has so many:
// what was multiplied before is unpacked again, and nothing beyond the row is read.
struct Chunk {
    int64_t at;
    int count, from, unpacked; // blocks; those meant begin at number `from` of the unpacked ones

    template <class F> static ALWAYS_INLINE Chunk of(int64_t at, int64_t k) {
        constexpr int step = 256 / F::block_values;
        const int64_t left = (k - at) / F::block_values;
        if (left >= step) return {at, step, 0, step};
        const int count = (int)left, back = k >= 256 ? step - count : 0;
        return {at, count, back, count + back};
    }
};

// totals[rows of the tile] += weights x tile `t`, for the values of the chunk.
template <class F>
ALWAYS_INLINE void multiply_tile(const Product &p, const uint8_t *packed, const Unpacked *w, const Tiles &tiles,
                                 int64_t t, const Chunk &chunk, f32x16 *totals) {
    const uint32_t *tile = (const uint32_t *)packed + (size_t)tiles.first(t) * Packed<F>::row_dwords(p.k);
    const Packed<F> x(tile, tiles.size(t), p.k);
    with_rows(tiles.size(t), [&](auto rows) {
        if constexpr (Packed<F>::by_256)
            multiply_256<F, rows.value>(w, x, chunk.at / 256, totals);
        else
            multiply_32<F, rows.value>(w, chunk.from, x, chunk.at / 32, chunk.count, totals);
    });
}

template <class F> void multiply(const Product &p, const uint8_t *packed, uint8_t *totals_memory, Thread &thread) {
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
            Unpacked w[groups];
            for (int64_t at = 0; at < p.k; at += 256) {
                const Chunk chunk = Chunk::of<F>(at, p.k);
                const size_t where = (size_t)(at / F::block_values - chunk.from) * F::block_bytes;
                for (int g = 0; g < groups; g++)
                    if constexpr (Packed<F>::by_256)
                        F::unpack(rows[g], where, w[g]);
                    else
                        F::unpack(rows[g], where, chunk.unpacked, w[g]);
                for (int64_t t = t0; t < t1; t++)
                    multiply_tile<F>(p, packed, w, tiles, t, chunk, totals + groups * (tiles.first(t) - m0));
            }
            store_totals(p, first, m0, count, totals);
        }
        share.go_to(next);
    }
    fetch_soon(p, thread);
}

template <class F> constexpr MatmulFormat format_of(const char *name) {
    return {F::type, name, F::block_values, packed_bytes<F>, pack<F>, multiply<F>};
}

} // namespace VARIANT
