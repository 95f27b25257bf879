// Questions about ggml's tensors and graphs that several parts of the backend ask.

#pragma once

#include "ggml_abi.h"

inline bool is_view(const ggml_tensor *t) {
    switch (t->op) {
    case GGML_OP_NONE:
    case GGML_OP_RESHAPE:
    case GGML_OP_VIEW:
    case GGML_OP_PERMUTE:
    case GGML_OP_TRANSPOSE: return true;
    default: return false;
    }
}

inline int64_t rows_of(const ggml_tensor *t) { return t->ne[1] * t->ne[2] * t->ne[3]; }

// The end of the last byte that `t` may hold, for a type with blocks of `block` values of `bytes` each.
inline const char *end_of(const ggml_tensor *t, int64_t block, size_t bytes) {
    size_t length = (size_t)(t->ne[0] - 1) / (size_t)block * t->nb[0] + bytes;
    if (block > 1) length = (size_t)(t->ne[0] / block) * bytes;
    for (int i = 1; i < GGML_MAX_DIMS; i++) length += (size_t)(t->ne[i] - 1) * t->nb[i];
    return (const char *)t->data + length;
}

// Rows follow each other without gaps.
inline bool is_packed(const ggml_tensor *t) {
    size_t bytes = t->nb[1];
    for (int i = 2; i < GGML_MAX_DIMS; i++) {
        bytes *= (size_t)t->ne[i - 1];
        if (t->ne[i] > 1 && t->nb[i] != bytes) return false;
    }
    return t->type != GGML_TYPE_F32 || t->nb[1] == (size_t)t->ne[0] * sizeof(float);
}

// How many operations of the graph read `node`; 0 if that is not known. (ggml's hash set: open addressing
// by the pointer without its four lowest bits.)
inline int use_count(const ggml_cgraph &graph, const ggml_tensor *node) {
    const ggml_hash_set &set = graph.visited_hash_set;
    if (!graph.use_counts || set.size == 0) return 0;
    const size_t begin = ((uintptr_t)node >> 4) % set.size;
    for (size_t i = begin, looked = 0; looked < set.size; i = (i + 1) % set.size, looked++) {
        if (!(set.used[i / 32] >> (i % 32) & 1u)) return 0;
        if (set.keys[i] == node) return graph.use_counts[i];
    }
    return 0;
}

// Each row of the result is computed from the same row of what it is made of, or copied, or from the state that
// the rows in front of it left: also by ggml.
inline bool is_by_row(const ggml_tensor *t) {
    switch (t->op) {
    case GGML_OP_MUL_MAT: return t->op_params[1] == GGML_HINT_SRC0_IS_HADAMARD; // a transform of each row
    case GGML_OP_MUL_MAT_ID:
    case GGML_OP_CUMSUM: // of a delta net that is computed in chunks of tokens
    case GGML_OP_FLASH_ATTN_EXT: return false;
    // These go from token to token of one sequence, with the same arithmetic for each, whatever the number
    // of tokens, sequences and threads (ggml-cpu/ops.cpp: a thread has heads, or channels, of its own).
    case GGML_OP_SSM_CONV:
    case GGML_OP_SSM_SCAN:
    case GGML_OP_GATED_DELTA_NET: return true;
    default: return t->op < GGML_OP_FLASH_ATTN_EXT || t->op > GGML_OP_LAST_OF_SEQUENCES;
    }
}
