// Rotary position embedding (RoFormer, arXiv:2104.09864), with YaRN's scaling (arXiv:2309.00071), in the
// two orders that text models have.

#include <cmath>

#include "rows.h"
#include "walk.h"

namespace VARIANT {

namespace {

struct Params {
    int dims, mode, trained_context, offset;
    float base, frequency_scale, extrapolation, magnitude, beta_fast, beta_slow;

    explicit Params(const ggml_tensor *node) {
        const int32_t *p = node->op_params;
        dims = p[1], mode = p[2], trained_context = p[4], offset = p[15];
        float *const floats[] = {&base, &frequency_scale, &extrapolation, &magnitude, &beta_fast, &beta_slow};
        for (int i = 0; i < 6; i++) memcpy(floats[i], p + 5 + i, sizeof(float));
    }

    // The dimension that turns `rotations` times within the trained context.
    float dim_of(float rotations) const {
        return (float)dims * std::log((float)trained_context / (rotations * 2 * (float)M_PI)) / (2 * std::log(base));
    }
};

} // namespace

bool rope_supports(const ggml_tensor *node) {
    const Params p(node);
    const ggml_tensor *factors = node->src[2];
    return is_f32(node) && is_f32(node->src[0]) && (p.mode == GGML_ROPE_TYPE_NORMAL || p.mode == GGML_ROPE_TYPE_NEOX) && p.offset == 0 && node->ne[3] == 1 &&
           (!factors || factors->type == GGML_TYPE_F32) && p.dims % 2 == 0;
}

int64_t rotation_floats(const ggml_tensor *node) { return node->ne[2] * node->op_params[1]; }

void make_rotation(const ggml_tensor *node, float *table, Thread &thread) {
    const Params p(node);
    const int32_t *positions = (const int32_t *)node->src[1]->data;
    const float *factors = node->src[2] ? (const float *)node->src[2]->data : nullptr;
    const float step = std::pow(p.base, -2.0f / (float)p.dims);
    const float low = std::fmax(0.0f, std::floor(p.dim_of(p.beta_fast)));
    const float high = std::fmin((float)(p.dims - 1), std::ceil(p.dim_of(p.beta_slow)));
    const float magnitude = p.extrapolation != 0 ? p.magnitude * (1 + 0.1f * std::log(1 / p.frequency_scale)) : p.magnitude;
    for (int64_t row = thread.index(); row < node->ne[2]; row += thread.count()) {
        float theta = (float)positions[row];
        float *out = table + row * p.dims;
        for (int i = 0; i < p.dims / 2; i++, theta *= step) {
            const float extrapolated = factors ? theta / factors[i] : theta;
            float angle = p.frequency_scale * extrapolated;
            if (p.extrapolation != 0) {
                const float ramp = ((float)i - low) / std::fmax(0.001f, high - low);
                const float mix = (1 - std::fmin(1.0f, std::fmax(0.0f, ramp))) * p.extrapolation;
                angle = angle * (1 - mix) + extrapolated * mix;
            }
            out[2 * i] = std::cos(angle) * magnitude;
            out[2 * i + 1] = std::sin(angle) * magnitude;
        }
    }
}

void rope(const ggml_tensor *node, const float *table, Thread &thread) {
    const int dims = node->op_params[1], half = dims / 2;
    const bool is_neox = node->op_params[2] == GGML_ROPE_TYPE_NEOX;
    const int64_t heads = node->ne[1], rows = node->ne[2];
    // A row here is a token with all its heads: as in the products before.
    for (int64_t row = thread.index(); row < rows; row += thread.count())
        for (int64_t head = 0; head < heads; head++) {
            const float *x = (const float *)row_at(node->src[0], head, row, 0), *turn = table + row * dims;
            float *y = (float *)row_at(node, head, row, 0);
            for (int i = 0; i < half; i++) {
                const int a = is_neox ? i : 2 * i, b = is_neox ? i + half : 2 * i + 1;
                const float u = x[a], v = x[b];
                y[a] = u * turn[2 * i] - v * turn[2 * i + 1];
                y[b] = u * turn[2 * i + 1] + v * turn[2 * i];
            }
            if (y != x)
                for (int64_t i = dims; i < node->ne[0]; i++) y[i] = x[i];
        }
}

} // namespace VARIANT
