// Norms, sums, products and gates.

#include <cmath>

#include "../simd/exp.h"
#include "rows.h"
#include "walk.h"

namespace VARIANT {

namespace {

// Of the same shape; or rows that repeat, of as many values or of one.
bool repeats_in(const ggml_tensor *small, const ggml_tensor *large) {
    if (small->ne[0] != large->ne[0] && small->ne[0] != 1) return false;
    for (int i = 1; i < GGML_MAX_DIMS; i++)
        if (small->ne[i] < 1 || large->ne[i] % small->ne[i] != 0) return false;
    return true;
}

const float *repeated_row(const ggml_tensor *t, int64_t i1, int64_t i2, int64_t i3) {
    return (const float *)row_at(t, i1 % t->ne[1], i2 % t->ne[2], i3 % t->ne[3]);
}

float sum_of_squares(const float *x, int64_t count) {
    f32x16 sums[4] = {};
    int64_t i = 0;
    for (; i + 64 <= count; i += 64)
        for (int j = 0; j < 4; j++) {
            const f32x16 v = load<f32x16>(x + i + 16 * j);
            sums[j] = fma(v, v, sums[j]);
        }
    for (; i < count; i += 16) {
        const f32x16 v = load_part(x + i, count - i < 16 ? count - i : 16);
        sums[0] = fma(v, v, sums[0]);
    }
    const f32x16 all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    double sum = 0;
    for (int j = 0; j < 16; j++) sum += (double)all[j];
    return (float)sum;
}

} // namespace

bool rms_norm_supports(const ggml_tensor *node, const ggml_tensor *times) {
    return is_f32(node) && is_f32(node->src[0]) && (!times || (is_f32(times) && times->ne[0] == node->ne[0] && repeats_in(times, node)));
}

void rms_norm(const ggml_tensor *node, const ggml_tensor *product, Thread &thread) {
    const ggml_tensor *const norm = product && product->src[0]->op == GGML_OP_RMS_NORM ? product->src[0] : product ? product->src[1] : node;
    const ggml_tensor *const times = !product ? nullptr : product->src[0] == norm ? product->src[1] : product->src[0];
    const ggml_tensor *const from = norm->src[0], *const to = product ? product : node;
    float eps;
    memcpy(&eps, norm->op_params, sizeof eps);
    const int64_t count = from->ne[0];
    for_each_row(from, thread, [&](int64_t i1, int64_t i2, int64_t i3) {
        const float *x = (const float *)row_at(from, i1, i2, i3);
        const float factor = 1.0f / std::sqrt(sum_of_squares(x, count) / (float)count + eps);
        const float *w = times ? repeated_row(times, i1, i2, i3) : nullptr;
        map_row((float *)row_at(to, i1, i2, i3), count, [&](int64_t i, auto read) {
            const f32x16 y = read(x + i) * factor;
            return w ? y * read(w + i) : y;
        });
    });
}

bool add_or_multiply_supports(const ggml_tensor *node) {
    const ggml_tensor *a = node->src[0], *b = node->src[1];
    return is_f32(node) && is_f32(a) && b->type == GGML_TYPE_F32 && (b->nb[0] == sizeof(float) || b->ne[0] == 1) && same_shape(node, a) && repeats_in(b, a);
}

void add_or_multiply(const ggml_tensor *node, Thread &thread) {
    const ggml_tensor *a = node->src[0], *b = node->src[1];
    const bool is_sum = node->op == GGML_OP_ADD, is_single = b->ne[0] == 1 && a->ne[0] != 1;
    for_each_row(node, thread, [&](int64_t i1, int64_t i2, int64_t i3) {
        const float *x = (const float *)row_at(a, i1, i2, i3), *y = repeated_row(b, i1, i2, i3);
        map_row((float *)row_at(node, i1, i2, i3), node->ne[0], [&](int64_t i, auto read) {
            const f32x16 u = read(x + i), v = is_single ? splat(*y) : read(y + i);
            return is_sum ? u + v : u * v;
        });
    });
}

bool scale_supports(const ggml_tensor *node) { return is_f32(node) && is_f32(node->src[0]) && same_shape(node, node->src[0]); }

void scale(const ggml_tensor *node, Thread &thread) {
    float factor, offset;
    memcpy(&factor, node->op_params, sizeof factor);
    memcpy(&offset, node->op_params + 1, sizeof offset);
    for_each_row(node, thread, [&](int64_t i1, int64_t i2, int64_t i3) {
        const float *x = (const float *)row_at(node->src[0], i1, i2, i3);
        map_row((float *)row_at(node, i1, i2, i3), node->ne[0],
                [&](int64_t i, auto read) { return read(x + i) * factor + offset; });
    });
}

bool swiglu_supports(const ggml_tensor *node) {
    const ggml_tensor *gate = node->src[0], *up = node->src[1];
    return node->op_params[0] == GGML_GLU_OP_SWIGLU && is_f32(node) && is_f32(gate) && (!up || (is_f32(up) && same_shape(gate, up)));
}

void swiglu(const ggml_tensor *node, Thread &thread) {
    const ggml_tensor *const gates = node->src[0], *const ups = node->src[1];
    const int64_t count = node->ne[0];
    const bool swapped = node->op_params[1] != 0;
    for_each_row(node, thread, [&](int64_t i1, int64_t i2, int64_t i3) {
        const float *gate = (const float *)row_at(gates, i1, i2, i3), *up;
        if (ups) {
            up = (const float *)row_at(ups, i1, i2, i3);
        } else {
            up = gate + (swapped ? 0 : count);
            gate += swapped ? count : 0;
        }
        map_row((float *)row_at(node, i1, i2, i3), count, [&](int64_t i, auto read) {
            const f32x16 g = read(gate + i);
            return g / (1.0f + exp(-g)) * read(up + i);
        });
    });
}

} // namespace VARIANT
