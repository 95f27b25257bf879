// Rows of a tensor by number, and vectors of which the last may be partial.

#pragma once

#include "../backend/ggml_abi.h"
#include "../simd/vector.h"

namespace VARIANT {

inline int64_t row_count(const ggml_tensor *t) { return t->ne[1] * t->ne[2] * t->ne[3]; }

inline char *row_at(const ggml_tensor *t, int64_t i1, int64_t i2, int64_t i3) {
    return (char *)t->data + (size_t)i1 * t->nb[1] + (size_t)i2 * t->nb[2] + (size_t)i3 * t->nb[3];
}

// Calls f(i1, i2, i3) for each row of `t` that is this thread's.
template <class F> ALWAYS_INLINE void for_each_row(const ggml_tensor *t, Thread &thread, F f) {
    const int64_t rows = row_count(t);
    for (int64_t r = thread.index(); r < rows; r += thread.count())
        f(r % t->ne[1], r / t->ne[1] % t->ne[2], r / (t->ne[1] * t->ne[2]));
}

ALWAYS_INLINE f32x16 load_part(const float *from, int64_t count) {
    f32x16 value{};
    memcpy((void *)&value, from, (size_t)count * sizeof(float));
    return value;
}

ALWAYS_INLINE void store_part(float *to, f32x16 value, int64_t count) { memcpy(to, &value, (size_t)count * sizeof(float)); }

// out[i] = f(i, load) with load(x) the 16 values x[i..]: whole vectors, and one that is not whole.
template <class F> ALWAYS_INLINE void map_row(float *out, int64_t count, F f) {
    int64_t i = 0;
    for (; i + 16 <= count; i += 16) store(out + i, f(i, [](const float *x) { return load<f32x16>(x); }));
    if (i < count) {
        const int64_t left = count - i;
        store_part(out + i, f(i, [left](const float *x) { return load_part(x, left); }), left);
    }
}

inline bool is_f32(const ggml_tensor *t) { return t->type == GGML_TYPE_F32 && t->nb[0] == sizeof(float); }

inline bool same_shape(const ggml_tensor *a, const ggml_tensor *b) {
    for (int i = 0; i < GGML_MAX_DIMS; i++)
        if (a->ne[i] != b->ne[i]) return false;
    return true;
}

} // namespace VARIANT
