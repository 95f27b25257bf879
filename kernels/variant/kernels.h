// All kernels of one instruction set, as the graph walk calls them.

#pragma once

#include "../attention/attention.h"
#include "../matmul/matmul.h"
#include "../rows/rows.h"

struct Kernels {
    const char *variant;

    const MatmulFormat *(*matmul_format)(int type);

    bool (*attention_supports)(const ggml_tensor *);
    size_t (*attention_view_bytes)(const ggml_tensor *);
    bool (*attention_has_same_view)(const ggml_tensor *, const ggml_tensor *);
    void (*make_attention_view)(const ggml_tensor *, uint8_t *view, Thread &);
    size_t (*attention_scratch_bytes)(const ggml_tensor *, int threads);
    void (*attention)(const AttentionNode &, uint8_t *scratch, Thread &);

    bool (*rms_norm_supports)(const ggml_tensor *, const ggml_tensor *);
    void (*rms_norm)(const ggml_tensor *, const ggml_tensor *, Thread &);
    bool (*add_or_multiply_supports)(const ggml_tensor *);
    void (*add_or_multiply)(const ggml_tensor *, Thread &);
    bool (*scale_supports)(const ggml_tensor *);
    void (*scale)(const ggml_tensor *, Thread &);
    bool (*swiglu_supports)(const ggml_tensor *);
    void (*swiglu)(const ggml_tensor *, Thread &);
    bool (*rope_supports)(const ggml_tensor *);
    int64_t (*rotation_floats)(const ggml_tensor *);
    void (*make_rotation)(const ggml_tensor *, float *, Thread &);
    void (*rope)(const ggml_tensor *, const float *, Thread &);
    bool (*get_rows_supports)(const ggml_tensor *);
    void (*get_rows)(const ggml_tensor *, RowToFloat, Thread &);
    bool (*set_rows_supports)(const ggml_tensor *);
    void (*set_rows)(const ggml_tensor *, RowFromFloat, Thread &);
    bool (*copy_supports)(const ggml_tensor *);
    void (*copy)(const ggml_tensor *, RowFromFloat, Thread &);
};

// Those of the best instruction set that this CPU has; nothing for one that is older than all.
const Kernels *best_kernels();
