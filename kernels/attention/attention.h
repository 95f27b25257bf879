// Attention (FLASH_ATTN_EXT): what the graph walk asks for, and what it gets.
//
//   q    f32  [head_size, rows, heads, streams]
//   k, v      [head_size, cells, kv_heads, streams], each of any type that llama.cpp has for them
//   mask f16  [cells, at least rows, 1, streams]: 0, -inf, or a bias; or none
//   out  f32  [v_head_size, heads, rows, streams]
//   out[row][head] = sum over cells of softmax(softcap(scale * q . k) + slope(head) * mask) * v
//
// A row's result is the same bits whatever the rows beside it, the order and the places of its cells,
// and the number of threads: no sum here depends on the order of what is added (see softmax.h and
// values.h).

#pragma once

#include <cstddef>
#include <cstdint>

#include "../rows/rows.h"
#include "../threads/team.h"

struct ggml_tensor;

struct AttentionNode {
    const ggml_tensor *node;
    RowToFloat k_to_float, v_to_float; // of their types; f32 has none
    const uint8_t *view;               // made for it, or for one that has the same
};

#ifdef VARIANT
namespace VARIANT {

// True if `node` can be computed here: its types, sizes and mask are known ones.
bool attention_supports(const ggml_tensor *node);

// What a node's mask says: which rows see which cells. Made once, for all nodes that have the same view.
// The threads share it out; it ends without waiting, and may be read after a wait.
size_t attention_view_bytes(const ggml_tensor *node);
bool attention_has_same_view(const ggml_tensor *a, const ggml_tensor *b);
void make_attention_view(const ggml_tensor *node, uint8_t *view, Thread &thread);

// Bytes of memory that all threads together need for `node`, at most.
size_t attention_scratch_bytes(const ggml_tensor *node, int threads);

// Computes `node`: a job, called by every thread of a team with the same arguments (both memories at a
// multiple of 64 bytes). May wait inside; ends without waiting.
void attention(const AttentionNode &node, uint8_t *scratch, Thread &thread);

} // namespace VARIANT
#endif
