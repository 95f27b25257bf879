#include "order.h"

namespace {

constexpr int look_ahead = 24; // operations: those of three products with norms and rotations in between

bool is_product_of(const ggml_tensor *node, const ggml_tensor *activations) {
    return node->op == GGML_OP_MUL_MAT && node->src[1] == activations && node->src[0]->op == GGML_OP_NONE && !node->src[0]->view_src;
}

} // namespace

void bring_products_together(ggml_cgraph &graph) {
    for (int i = 0; i < graph.n_nodes; i++) {
        const ggml_tensor *first = graph.nodes[i];
        if (first->op != GGML_OP_MUL_MAT || !is_product_of(first, first->src[1])) continue;
        int next = i + 1;
        for (int j = next; j < graph.n_nodes && j <= i + look_ahead; j++) {
            ggml_tensor *const node = graph.nodes[j];
            if (!is_product_of(node, first->src[1])) continue;
            for (int k = j; k > next; k--) graph.nodes[k] = graph.nodes[k - 1];
            graph.nodes[next++] = node;
        }
        i = next - 1;
    }
}
