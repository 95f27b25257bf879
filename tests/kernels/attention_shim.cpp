// Attention as tests call it: one node, computed by a team of its own.

#include <omp.h>

#include <cstdlib>

#include "../../kernels/attention/attention.h"
#include "../../kernels/backend/ggml_abi.h"
#include "../../kernels/simd/vector.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

using namespace VARIANT;

// Instead of ggml's converters.
static void bf16_to_float(const void *from, float *to, int64_t count) {
    for (int64_t i = 0; i < count; i++) to[i] = bits<float>((uint32_t)((const uint16_t *)from)[i] << 16);
}

static RowToFloat to_float(const ggml_tensor *t) { return t->type == GGML_TYPE_BF16 ? bf16_to_float : nullptr; }

EXPORTED size_t tensor_bytes() { return sizeof(ggml_tensor); }

EXPORTED int supports(const ggml_tensor *node) { return attention_supports(node); }

EXPORTED size_t scratch_bytes(const ggml_tensor *node, int threads) { return attention_scratch_bytes(node, threads); }

// Computes `node` `times` times (as many layers that share a view); returns the seconds that one took, and
// in `view_seconds` those of the view. -1: memory beyond what was said to be needed was written.
EXPORTED double compute(const ggml_tensor *node, int layers, int threads, int times, double *view_seconds) {
    const size_t view_bytes = attention_view_bytes(node), bytes = attention_scratch_bytes(node, threads);
    uint8_t *const view = (uint8_t *)aligned_alloc(64, (view_bytes + 127) / 64 * 64);
    uint8_t *const scratch = (uint8_t *)aligned_alloc(64, (bytes + 127) / 64 * 64);
    const uint64_t guard = 0x0123456789abcdef;
    *(uint64_t *)(view + (view_bytes + 7) / 8 * 8) = *(uint64_t *)(scratch + (bytes + 7) / 8 * 8) = guard;
    double begin = 0, made = 0, end = 0;
    Team team;
#pragma omp parallel num_threads(threads)
    {
        Thread thread(team, omp_get_thread_num(), omp_get_num_threads());
        thread.wait();
        if (thread.index() == 0) begin = omp_get_wtime();
        make_attention_view(node, view, thread);
        thread.wait();
        if (thread.index() == 0) made = omp_get_wtime();
        for (int i = 0; i < times; i++)
            for (int layer = 0; layer < layers; layer++) {
                attention({node + layer, to_float(node[layer].src[1]), to_float(node[layer].src[2]), view}, scratch, thread);
                thread.wait();
            }
        if (thread.index() == 0) end = omp_get_wtime();
    }
    if (view_seconds) *view_seconds = made - begin;
    const bool kept = *(uint64_t *)(view + (view_bytes + 7) / 8 * 8) == guard && *(uint64_t *)(scratch + (bytes + 7) / 8 * 8) == guard;
    free(view);
    free(scratch);
    return kept ? (end - made) / times : -1;
}
