// Operations that compute each row of a tensor by itself: norms, sums, gates, rotations, copies.
//
// Thread t of n computes rows t, t + n, ...: so one such operation can follow another without waiting,
// where a row needs only the same row. All end without waiting.

#pragma once

#include <cstdint>

#include "../threads/team.h"

struct ggml_tensor;

// Converters of a type's rows, which ggml has.
typedef void (*RowFromFloat)(const float *from, void *to, int64_t count);
typedef void (*RowToFloat)(const void *from, float *to, int64_t count);

#ifdef VARIANT
namespace VARIANT {

// y = x / sqrt(mean(x^2) + eps), times `weight` (one row, or as many as x has) if there is one.
void rms_norm(const ggml_tensor *node, const ggml_tensor *times, Thread &);
bool rms_norm_supports(const ggml_tensor *node, const ggml_tensor *times);

// ADD, MUL: src1 has the shape of src0, or rows of one or as many values that repeat.
void add_or_multiply(const ggml_tensor *node, Thread &);
bool add_or_multiply_supports(const ggml_tensor *node);

void scale(const ggml_tensor *node, Thread &);
bool scale_supports(const ggml_tensor *node);

// GLU: silu(gate) * up, of two tensors or of the two halves of one.
void swiglu(const ggml_tensor *node, Thread &);
bool swiglu_supports(const ggml_tensor *node);

// A rotation: cosines and sines of the positions, the same in all layers, so made once.
// [rows][head_size / 2][2] floats.
bool rope_supports(const ggml_tensor *node);
int64_t rotation_floats(const ggml_tensor *node);
void make_rotation(const ggml_tensor *node, float *table, Thread &);
void rope(const ggml_tensor *node, const float *table, Thread &);

// Rows by their numbers, out of a table or into one.
bool get_rows_supports(const ggml_tensor *node);
void get_rows(const ggml_tensor *node, RowToFloat, Thread &);
bool set_rows_supports(const ggml_tensor *node);
void set_rows(const ggml_tensor *node, RowFromFloat, Thread &);

// CPY and CONT of floats, from any strides into rows.
bool copy_supports(const ggml_tensor *node);
void copy(const ggml_tensor *node, RowFromFloat, Thread &);

} // namespace VARIANT
#endif
