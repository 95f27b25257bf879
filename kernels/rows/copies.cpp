// Rows that go from one place, and one type, to another.

#include "rows.h"
#include "walk.h"

namespace VARIANT {

bool get_rows_supports(const ggml_tensor *node) {
    const ggml_tensor *table = node->src[0], *numbers = node->src[1];
    return is_f32(node) && numbers->type == GGML_TYPE_I32 && table->ne[2] == 1 && table->ne[3] == 1 && numbers->ne[1] == 1 && numbers->ne[2] == 1 && numbers->ne[3] == 1;
}

void get_rows(const ggml_tensor *node, RowToFloat to_float, Thread &thread) {
    const ggml_tensor *table = node->src[0];
    const char *numbers = (const char *)node->src[1]->data;
    for (int64_t r = thread.index(); r < node->ne[1]; r += thread.count()) {
        int32_t number;
        memcpy(&number, numbers + (size_t)r * node->src[1]->nb[0], sizeof number);
        const char *from = row_at(table, number, 0, 0);
        float *to = (float *)row_at(node, r, 0, 0);
        if (table->type == GGML_TYPE_F32)
            memcpy(to, from, (size_t)node->ne[0] * sizeof(float));
        else
            to_float(from, to, node->ne[0]);
    }
}

bool set_rows_supports(const ggml_tensor *node) {
    const ggml_tensor *from = node->src[0], *numbers = node->src[1];
    return is_f32(from) && from->ne[2] == 1 && from->ne[3] == 1 && numbers->type == GGML_TYPE_I64 && numbers->ne[1] == 1;
}

void set_rows(const ggml_tensor *node, RowFromFloat from_float, Thread &thread) {
    const ggml_tensor *from = node->src[0];
    const char *numbers = (const char *)node->src[1]->data;
    for (int64_t r = thread.index(); r < from->ne[1]; r += thread.count()) {
        int64_t number;
        memcpy(&number, numbers + (size_t)r * node->src[1]->nb[0], sizeof number);
        void *to = row_at(node, number, 0, 0);
        const float *x = (const float *)row_at(from, r, 0, 0);
        if (node->type == GGML_TYPE_F32)
            memcpy(to, x, (size_t)from->ne[0] * sizeof(float));
        else
            from_float(x, to, from->ne[0]);
    }
}

bool copy_supports(const ggml_tensor *node) {
    const ggml_tensor *from = node->src[0];
    return from->type == GGML_TYPE_F32 && same_shape(node, from) && (is_f32(node) || (node->type == GGML_TYPE_F16 && is_f32(from)));
}

void copy(const ggml_tensor *node, RowFromFloat from_float, Thread &thread) {
    const ggml_tensor *from = node->src[0];
    for_each_row(node, thread, [&](int64_t i1, int64_t i2, int64_t i3) {
        const char *x = row_at(from, i1, i2, i3);
        void *to = row_at(node, i1, i2, i3);
        if (node->type != GGML_TYPE_F32)
            from_float((const float *)x, to, node->ne[0]);
        else if (from->nb[0] == sizeof(float))
            memcpy(to, x, (size_t)node->ne[0] * sizeof(float));
        else
            for (int64_t i = 0; i < node->ne[0]; i++) memcpy((float *)to + i, x + (size_t)i * from->nb[0], sizeof(float));
    });
}

} // namespace VARIANT
