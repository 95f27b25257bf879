// Which cells a few rows see, sorted by which of the rows see them.
//
// Cells that nobody sees are in no list; those that all see are read once for all. Knows masks; knows
// nothing of what cells hold.

#pragma once

#include "../simd/vector.h"

namespace VARIANT {

constexpr int most_rows = 16;    // of a tile: one bit each
constexpr int most_segments = 24;
constexpr int least_cells = 16;  // for a list of their own; fewer join those that are masked

// Cells that the same rows see: then no mask is needed. Or, if it is mixed, what is left: there each cell
// has its own rows.
struct Segment {
    uint16_t rows; // bits
    bool is_mixed;
    int first, count; // in cells
    int slot;         // where its scores begin: at a multiple of 16
};

struct Visible {
    uint16_t *rows_of_cell; // [cells]: bits of the rows that see it
    int32_t *cells;         // sorted by segment
    Segment segments[most_segments + 1];
    int segment_count;
    int slots;      // of all segments, each rounded up to 16
    bool is_biased; // the mask says more than yes and no

    static size_t bytes(int64_t cells) { return (size_t)(cells + 64) * (sizeof(uint16_t) + sizeof(int32_t)); }

    Visible(uint8_t *memory, int64_t cells)
        : rows_of_cell((uint16_t *)memory), cells((int32_t *)(memory + (size_t)(cells + 64) * sizeof(uint16_t))) {}

    // Of `rows` rows from a mask in 16 bits, `stride` bytes from one to the next; no mask: all is seen.
    void look(const char *mask, size_t stride, int rows, int64_t count) {
        is_biased = false;
        read(mask, stride, rows, count);
        sort(count);
    }

  private:
    ALWAYS_INLINE void read(const char *mask, size_t stride, int rows, int64_t count) {
        const uint16_t all = (uint16_t)((1u << rows) - 1);
        if (!mask) {
            for (int64_t c = 0; c < count; c++) rows_of_cell[c] = all;
            return;
        }
        constexpr uint16_t minus_infinity = 0xfc00;
        u16x32 other{}; // bits of whatever is neither 0 nor -inf
        int64_t c = 0;
        for (; c + 32 <= count; c += 32) {
            u16x32 seen{};
            for (int r = 0; r < rows; r++) {
                const u16x32 value = load<u16x32>(mask + (size_t)r * stride + (size_t)c * 2);
                const u16x32 visible = bits<u16x32>(value != minus_infinity);
                seen |= visible & (uint16_t)(1u << r);
                other |= value & visible;
            }
            store(rows_of_cell + c, seen);
        }
        for (; c < count; c++) {
            rows_of_cell[c] = 0;
            for (int r = 0; r < rows; r++) {
                uint16_t value;
                memcpy(&value, mask + (size_t)r * stride + (size_t)c * 2, 2);
                if (value == minus_infinity) continue;
                rows_of_cell[c] = (uint16_t)(rows_of_cell[c] | (1u << r));
                other[0] |= value;
            }
        }
        for (int i = 0; i < 32; i++) is_biased = is_biased || (other[i] & 0x7fff);
    }

    // Calls f(first, past the last, rows) for each run of cells that the same rows see.
    template <class F> ALWAYS_INLINE void for_each_run(int64_t count, F f) const {
        for (int64_t c = 0; c < count;) {
            const uint16_t rows = rows_of_cell[c];
            int64_t end = c + 1;
            while (end < count) {
                if (end + 32 <= count) {
                    const u16x32 same = bits<u16x32>(load<u16x32>(rows_of_cell + end) == rows);
                    bool is_all = true;
                    const auto words = bits<Split<uint64_t, u16x32>>(same);
                    for (int i = 0; i < words.count; i++) is_all = is_all && words.part[i] == ~0ull;
                    if (is_all) {
                        end += 32;
                        continue;
                    }
                }
                if (rows_of_cell[end] != rows) break;
                end++;
            }
            if (rows) f(c, end, rows);
            c = end;
        }
    }

    void sort(int64_t count) {
        uint16_t patterns[most_segments];
        int sizes[most_segments + 1] = {}, pattern_count = 0;
        const auto number_of = [&](uint16_t rows, bool may_add) {
            for (int i = 0; i < pattern_count; i++)
                if (patterns[i] == rows) return i;
            if (!may_add || pattern_count == most_segments) return most_segments;
            patterns[pattern_count] = rows;
            return pattern_count++;
        };
        uint16_t mixed_rows = 0;
        for_each_run(count, [&](int64_t first, int64_t end, uint16_t rows) {
            const int number = number_of(rows, true);
            sizes[number] += (int)(end - first);
            if (number == most_segments) mixed_rows |= rows;
        });
        int place[most_segments + 1], first = 0;
        segment_count = slots = 0;
        for (int i = 0; i < pattern_count; i++) {
            if (sizes[i] < least_cells && (sizes[most_segments] > 0 || pattern_count > 1)) {
                sizes[most_segments] += sizes[i];
                mixed_rows |= patterns[i];
                place[i] = -1;
                continue;
            }
            place[i] = first;
            add_segment(patterns[i], false, first, sizes[i]);
            first += sizes[i];
        }
        place[most_segments] = first;
        if (sizes[most_segments]) add_segment(mixed_rows, true, first, sizes[most_segments]);
        for_each_run(count, [&](int64_t begin, int64_t end, uint16_t rows) {
            int number = number_of(rows, false);
            if (place[number] < 0) number = most_segments;
            for (int64_t c = begin; c < end; c++) cells[place[number]++] = (int32_t)c;
        });
    }

    void add_segment(uint16_t rows, bool is_mixed, int first, int count) {
        segments[segment_count++] = {rows, is_mixed, first, count, slots};
        slots += (count + 15) / 16 * 16;
    }
};

} // namespace VARIANT
