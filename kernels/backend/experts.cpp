#include "experts.h"

#include <cstring>

namespace {

constexpr int64_t rows_per_piece = 256; // of an expert's weights

int64_t used(const ggml_tensor *node) { return node->src[2]->ne[0]; }
int64_t tokens(const ggml_tensor *node) { return node->src[2]->ne[1]; }

int32_t expert_of(const ggml_tensor *node, int64_t row) {
    const ggml_tensor *ids = node->src[2];
    int32_t expert;
    memcpy(&expert, (const char *)ids->data + (size_t)(row % used(node)) * ids->nb[0] + (size_t)(row / used(node)) * ids->nb[1], sizeof expert);
    return expert;
}

// An expert's product, of weight rows `n0` to `n1`.
Product product_of(const ggml_tensor *node, const Routing &routing, int64_t expert, int64_t n0, int64_t n1) {
    const ggml_tensor *weights = node->src[0], *x = node->src[1];
    const int32_t first = routing.first[expert];
    const int32_t *rows = routing.rows + first;
    Product p = {};
    p.weights = (const uint8_t *)weights->data + (size_t)expert * weights->nb[2] + (size_t)n0 * weights->nb[1];
    p.row_bytes = weights->nb[1];
    p.n = n1 - n0;
    p.k = weights->ne[0];
    p.m = routing.first[expert + 1] - first;
    p.x = {(char *)x->data, used(node), x->ne[1] == 1 ? 0 : x->nb[1], x->nb[2], rows};
    p.out = {(char *)node->data + (size_t)n0 * sizeof(float), used(node), node->nb[1], node->nb[2], rows};
    return p;
}

} // namespace

bool experts_supports(const ggml_tensor *node, const MatmulFormat &format) {
    const ggml_tensor *weights = node->src[0], *x = node->src[1], *ids = node->src[2];
    return weights->ne[3] == 1 && weights->ne[0] % format.block_values == 0 && x->type == GGML_TYPE_F32 && x->nb[0] == sizeof(float) && x->ne[3] == 1 &&
           (x->ne[1] == 1 || x->ne[1] == ids->ne[0]) && ids->type == GGML_TYPE_I32 && node->type == GGML_TYPE_F32 && node->nb[0] == sizeof(float);
}

void route(const ggml_tensor *node, Routing routing, Thread &thread) {
    if (thread.index() != 0) return;
    const int64_t experts = node->src[0]->ne[2], count = used(node) * tokens(node);
    const auto is_known = [&](int32_t expert) { return expert >= 0 && expert < experts; };
    memset(routing.first, 0, (size_t)(experts + 1) * sizeof(int32_t));
    for (int64_t row = 0; row < count; row++)
        if (is_known(expert_of(node, row))) routing.first[expert_of(node, row) + 1]++;
    for (int64_t e = 0; e < experts; e++) routing.first[e + 1] += routing.first[e];
    for (int64_t row = 0; row < count; row++) // each begins where it will end when all have been put
        if (is_known(expert_of(node, row))) routing.rows[routing.first[expert_of(node, row)]++] = (int32_t)row;
    for (int64_t e = experts; e > 0; e--) routing.first[e] = routing.first[e - 1];
    routing.first[0] = 0;
}

void pack_for_experts(const ggml_tensor *node, const Routing &routing, const MatmulFormat &format, uint8_t *packed, Thread &thread) {
    for (int64_t e = thread.index(); e < node->src[0]->ne[2]; e += thread.count()) {
        const Product p = product_of(node, routing, e, 0, node->src[0]->ne[1]);
        if (p.m == 0) continue;
        Team alone;
        Thread one(alone, 0, 1);
        format.pack(p, packed + format.packed_bytes(p.k, routing.first[e]), one);
    }
}

void multiply_by_experts(const ggml_tensor *node, const Routing &routing, const MatmulFormat &format, const uint8_t *packed, uint8_t *totals, Thread &thread) {
    const int64_t n = node->src[0]->ne[1], pieces = (n + rows_per_piece - 1) / rows_per_piece;
    int64_t next = thread.take(), piece = 0;
    for (int64_t e = 0; e < node->src[0]->ne[2]; e++) {
        if (routing.first[e + 1] == routing.first[e]) continue;
        for (int64_t i = 0; i < pieces; i++, piece++) {
            if (piece != next) continue;
            next = thread.take();
            const int64_t n0 = i * rows_per_piece, n1 = n0 + rows_per_piece < n ? n0 + rows_per_piece : n;
            const Product p = product_of(node, routing, e, n0, n1);
            Team alone;
            Thread one(alone, 0, 1);
            format.multiply(p, packed + format.packed_bytes(p.k, routing.first[e]), totals, one);
        }
    }
}
