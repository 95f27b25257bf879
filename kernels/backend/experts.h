// Products in which each row of activations has its own choice of weights (MUL_MAT_ID): experts.
//
// Rows are sorted by expert first; then each expert's are a product like any other.
//   weights [k, n, experts], x f32 [k, 1 or used, tokens], ids i32 [used, tokens], out f32 [n, used, tokens]

#pragma once

#include "../matmul/matmul.h"
#include "ggml_abi.h"

// Which rows each expert has: row number = token * used + place. Made while computing, as only then the
// choice is known.
struct Routing {
    int32_t *first; // [experts + 1]: where an expert's rows begin
    int32_t *rows;  // [used * tokens]

    Routing(const ggml_tensor *node, uint8_t *memory)
        : first((int32_t *)memory), rows((int32_t *)memory + node->src[0]->ne[2] + 1) {}

    static size_t bytes(const ggml_tensor *node) {
        return 4 * (size_t)(node->src[0]->ne[2] + 1 + node->src[2]->ne[0] * node->src[2]->ne[1]);
    }
};

bool experts_supports(const ggml_tensor *node, const MatmulFormat &format);

// By the first thread; an expert's number that there is not has no rows, and its results stay as they are.
void route(const ggml_tensor *node, Routing routing, Thread &thread);

void pack_for_experts(const ggml_tensor *node, const Routing &routing, const MatmulFormat &format, uint8_t *packed, Thread &thread);

void multiply_by_experts(const ggml_tensor *node, const Routing &routing, const MatmulFormat &format, const uint8_t *packed, uint8_t *totals, Thread &thread);
