// Which kernels are in use: those that differed from ggml's, or lost against them, on this machine are not.

#pragma once

#include <bitset>
#include <cstddef>

// In the order of `kernel_name`.
enum class Kernel : int {
    matmul_f32, matmul_f16, matmul_bf16,
    matmul_q4_0, matmul_q4_1, matmul_q5_0, matmul_q5_1, matmul_q8_0, matmul_iq4_nl,
    matmul_q2_k, matmul_q3_k, matmul_q4_k, matmul_q5_k, matmul_q6_k, matmul_iq4_xs,
    attention_f16, attention_q8_0, attention_other,
    rows,
    count,
};

using OperationSet = std::bitset<128>; // of ggml_op

const char *kernel_name(Kernel);
bool is_enabled(Kernel);
Kernel matmul_kernel(int type); // Kernel::count for a type without one
Kernel attention_kernel(int type); // of keys or values
bool is_in_use();               // false: the device takes no operation at all

// Operations whose rows may depend on each other, or on where they lie, that were handed to ggml so far:
// while there are none, every row's result is its own.
void count_foreign(long operations, const OperationSet &kinds);
long foreign_count();
bool was_foreign(int operation); // a ggml_op

bool enable_kernel(const char *name, bool on); // false: no such name
void use_kernels(bool on);
