// Products of a matrix of weights with rows of activations, for each format of weights.
//
// What a row's product is does not depend on how many rows there are, nor on the threads.

#pragma once

#include <cstddef>
#include <cstdint>

#include "../threads/team.h"

// Rows of floats in memory: number i lies at base + (i % inner) * inner_stride + (i / inner) *
// outer_stride. With an index, row r is number index[r].
struct FloatRows {
    char *base;
    int64_t inner;
    size_t inner_stride, outer_stride;
    const int32_t *index;

    float *operator[](int64_t r) const {
        const int64_t i = index ? index[r] : r;
        return (float *)(base + (size_t)(i % inner) * inner_stride + (size_t)(i / inner) * outer_stride);
    }
};

// out[m][n] = sum over k of weights[n][k] * x[m][k].
struct Product {
    const uint8_t *weights;
    size_t row_bytes; // from one row of weights to the next
    int64_t n, k, m;
    FloatRows x, out;
    const uint8_t *soon; // weights that will be wanted next, or nothing
    size_t soon_bytes;
};

struct MatmulFormat {
    int type; // of ggml
    const char *name;
    int block_values;
    size_t (*packed_bytes)(int64_t k, int64_t m); // 0: activations are used as they are
    // Makes packed activations out of x: the threads share the rows out. Ends without waiting.
    void (*pack)(const Product &, uint8_t *packed, Thread &);
    // Computes out: the threads take pieces. Ends without waiting. `totals`: matmul_totals_bytes(m) of
    // this thread alone.
    void (*multiply)(const Product &, const uint8_t *packed, uint8_t *totals, Thread &);
};

constexpr int64_t matmul_rows_at_once = 240; // of activations, whole tiles: more take several passes

inline size_t matmul_totals_bytes(int64_t m) {
    return 128 * (size_t)(m < matmul_rows_at_once ? m : matmul_rows_at_once);
}

#ifdef VARIANT
namespace VARIANT {

// Nothing for a type that has no kernel.
const MatmulFormat *matmul_format(int type);

// In files of their own, so that they compile at once.
extern const MatmulFormat k_quant_formats[6];
extern const MatmulFormat small_block_formats[6];
extern const MatmulFormat float_formats[3];

} // namespace VARIANT
#endif
