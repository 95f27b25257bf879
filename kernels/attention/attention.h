// Attention (FLASH_ATTN_EXT): what the graph walk asks for, and what it gets.
//
//   q    f32 [head_size, rows, heads, streams]
//   k, v     [head_size, cells, kv_heads, streams], of any type that can be turned into floats
//   mask f16 [cells, at least rows, 1 or heads, 1 or streams]: 0, -inf or a bias; or none
//   out  f32 [v_head_size, heads, rows, streams]
//   out[row][head] = sum over cells of softmax(softcap(scale * q . k) + slope(head) * mask) * v
//
// A row's result is the same bits whatever rows are computed beside it, in whatever order its cells lie,
// between whatever others, and by however many threads.

#pragma once

#include <cstddef>
#include <cstdint>

#include "../rows/rows.h"
#include "../threads/team.h"

struct ggml_tensor;

struct AttentionNode {
    const ggml_tensor *node;
    RowToFloat k_to_float, v_to_float; // of their types
};

#ifdef VARIANT
namespace VARIANT {

bool attention_supports(const ggml_tensor *node);

// Memory that all threads together want.
size_t attention_scratch_bytes(const ggml_tensor *node, int threads);

// Every thread calls it with the same arguments, with nothing taken since the last wait; it waits within.
// Ends without waiting.
void attention(const AttentionNode &, uint8_t *scratch, Thread &);

} // namespace VARIANT
#endif
