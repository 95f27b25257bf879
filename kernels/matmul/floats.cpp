// Weights of 16 and 32 bits: products in 32 bits.
//
// A lane sums every sixteenth value of a row, and the lanes are added at the end, always in the same order:
// so weights are used as they lie, and activations too.

#include "product.h"

namespace VARIANT {

namespace {

#if defined(__AVX512F__)
constexpr int rows_together = 4, activations_together = 6;
#elif defined(__AVX2__)
constexpr int rows_together = 2, activations_together = 3;
#else
constexpr int rows_together = 2, activations_together = 2;
#endif

struct F16 {
    static constexpr int type = 1, bytes = 2;
    static ALWAYS_INLINE f32x16 read(const uint8_t *from) { return load_f16(from); }
};

struct BF16 {
    static constexpr int type = 30, bytes = 2;
    static ALWAYS_INLINE f32x16 read(const uint8_t *from) { return bits<f32x16>(load_u16(from) << 16); }
};

struct F32 {
    static constexpr int type = 0, bytes = 4;
    static ALWAYS_INLINE f32x16 read(const uint8_t *from) { return load<f32x16>(from); }
};

// The last values of a row, fewer than sixteen, and zeros.
template <class F> ALWAYS_INLINE f32x16 read_part(const uint8_t *from, int64_t count) {
    uint8_t copy[64] = {};
    memcpy(copy, from, (size_t)count * F::bytes);
    return F::read(copy);
}

// Halves are added to halves, four times.
ALWAYS_INLINE float sum_of_lanes(f32x16 x) {
    x += shuffle<8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7>(x, x);
    x += shuffle<4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11>(x, x);
    return (x[0] + x[2]) + (x[1] + x[3]);
}

template <class F, int M>
void multiply_rows(const Product &p, int64_t first, const float *const *x, float *const *out) {
    const uint8_t *rows[rows_together];
    for (int r = 0; r < rows_together; r++) rows[r] = p.weights + (size_t)(first + r < p.n ? first + r : p.n - 1) * p.row_bytes;
    f32x16 sum[rows_together][M];
    for (int r = 0; r < rows_together; r++)
        for (int m = 0; m < M; m++) sum[r][m] = f32x16{};
    const auto add = [&](auto weights_at, auto activations_at) {
        f32x16 w[rows_together];
        for (int r = 0; r < rows_together; r++) w[r] = weights_at(r);
        for (int m = 0; m < M; m++) {
            const f32x16 a = activations_at(m);
            for (int r = 0; r < rows_together; r++) sum[r][m] = fma(w[r], a, sum[r][m]);
        }
    };
    int64_t k = 0;
    for (; k + 16 <= p.k; k += 16)
        add([&](int r) { return F::read(rows[r] + k * F::bytes); }, [&](int m) { return load<f32x16>(x[m] + k); });
    if (k < p.k)
        add([&](int r) { return read_part<F>(rows[r] + k * F::bytes, p.k - k); },
            [&](int m) { return read_part<F32>((const uint8_t *)(x[m] + k), p.k - k); });
    for (int m = 0; m < M; m++)
        for (int r = 0; r < rows_together && first + r < p.n; r++) out[m][first + r] = sum_of_lanes(sum[r][m]);
}

template <class F, int M = 1>
ALWAYS_INLINE void multiply_some(const Product &p, int64_t first, int count, const float *const *x, float *const *out) {
    if constexpr (M == activations_together)
        multiply_rows<F, M>(p, first, x, out);
    else if (count == M)
        multiply_rows<F, M>(p, first, x, out);
    else
        multiply_some<F, M + 1>(p, first, count, x, out);
}

template <class F> void multiply_matrix(const Product &p, const uint8_t *, uint8_t *, Thread &thread) {
    for (Share share(p, thread); share.has_work();) {
        const int64_t begin = share.first_row(), next = share.next();
        const int64_t end = begin + lanes < p.n ? begin + lanes : p.n;
        for (int64_t m0 = 0; m0 < p.m; m0 += activations_together) {
            const int count = (int)(p.m - m0 < activations_together ? p.m - m0 : activations_together);
            const float *x[activations_together];
            float *out[activations_together];
            for (int m = 0; m < count; m++) x[m] = p.x[m0 + m], out[m] = p.out[m0 + m];
            for (int64_t first = begin; first < end; first += rows_together) multiply_some<F>(p, first, count, x, out);
        }
        share.go_to(next);
    }
    fetch_soon(p, thread);
}

size_t nothing_packed(int64_t, int64_t) { return 0; }
void pack_nothing(const Product &, uint8_t *, Thread &) {}

} // namespace

const MatmulFormat float_formats[3] = {
    {F32::type, "matmul f32", 1, nothing_packed, pack_nothing, multiply_matrix<F32>},
    {F16::type, "matmul f16", 1, nothing_packed, pack_nothing, multiply_matrix<F16>},
    {BF16::type, "matmul bf16", 1, nothing_packed, pack_nothing, multiply_matrix<BF16>},
};

} // namespace VARIANT
