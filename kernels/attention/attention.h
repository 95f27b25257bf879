// Attention (FLASH_ATTN_EXT): what the graph walk asks for, and what it gets.

#pragma once

#include <cstddef>
#include <cstdint>

#include "../threads/team.h"

struct ggml_tensor;

// Which cells which rows see: made from a mask once, used by all layers that have it.
class MaskView;

// What one FLASH_ATTN_EXT node says. Strides are in bytes.
//   q    f32  [head_size, rows, heads, streams]
//   k, v      [head_size, cells, kv_heads, streams], in f16, q8_0, q5_1 or q4_0 (each for itself)
//   mask f16  [cells, at least rows, 1 or heads, streams]: 0, -inf, or a bias; or none
//   out  f32  [v_head_size, heads, rows, streams], contiguous
//   out[row][head] = sum over cells of softmax(softcap(scale * q . k) + slope(head) * mask) * v
struct AttentionShapes; // TODO(attention)

namespace VARIANT {

// True if `node` can be computed here: its types, sizes and mask are known ones.
bool attention_supports(const ggml_tensor *node);

// Bytes of memory that all threads together need for `node`, at most.
size_t attention_scratch_bytes(const ggml_tensor *node, int threads);

// Computes `node`; called by every thread of a team with the same arguments. Everything that it reads
// was written before; returns without waiting for the others.
void attention(const ggml_tensor *node, uint8_t *scratch, Thread &thread);

} // namespace VARIANT
