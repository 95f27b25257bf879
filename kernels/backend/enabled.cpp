#include "enabled.h"

#include <atomic>
#include <cstring>

namespace {

constexpr int count = (int)Kernel::count;

struct Entry {
    const char *name;
    int type; // of a product's weights, or -1
};

constexpr Entry entries[count] = {
    {"matmul f32", 0},   {"matmul f16", 1},   {"matmul bf16", 30}, {"matmul q4_0", 2},
    {"matmul q4_1", 3},  {"matmul q5_0", 6},  {"matmul q5_1", 7},  {"matmul q8_0", 8},
    {"matmul iq4_nl", 20}, {"matmul q2_k", 10}, {"matmul q3_k", 11}, {"matmul q4_k", 12},
    {"matmul q5_k", 13}, {"matmul q6_k", 14}, {"matmul iq4_xs", 23},
    {"attention f16", -1}, {"attention q8_0", -1}, {"attention other", -1},
    {"rows", -1},
};

std::atomic<bool> is_off[count];
std::atomic<bool> nothing_is_used{false};
std::atomic<long> foreign_operations{0};
std::atomic<bool> is_foreign[OperationSet().size()]; // by ggml_op

} // namespace

const char *kernel_name(Kernel kernel) { return entries[(int)kernel].name; }

bool is_enabled(Kernel kernel) { return !is_off[(int)kernel].load(std::memory_order_relaxed); }

Kernel matmul_kernel(int type) {
    for (int i = 0; i < count; i++)
        if (entries[i].type == type) return (Kernel)i;
    return Kernel::count;
}

Kernel attention_kernel(int type) {
    return type == 1 ? Kernel::attention_f16 : type == 8 ? Kernel::attention_q8_0 : Kernel::attention_other;
}

bool is_in_use() { return !nothing_is_used.load(std::memory_order_relaxed); }

void count_foreign(long operations, const OperationSet &kinds) {
    foreign_operations.fetch_add(operations, std::memory_order_relaxed);
    for (size_t i = 0; i < kinds.size(); i++)
        if (kinds[i]) is_foreign[i].store(true, std::memory_order_relaxed);
}

bool was_foreign(int operation) { return is_foreign[operation].load(std::memory_order_relaxed); }

long foreign_count() { return foreign_operations.load(std::memory_order_relaxed); }

bool enable_kernel(const char *name, bool on) {
    for (int i = 0; i < count; i++)
        if (strcmp(entries[i].name, name) == 0) {
            is_off[i].store(!on, std::memory_order_relaxed);
            return true;
        }
    return false;
}

void use_kernels(bool on) { nothing_is_used.store(!on, std::memory_order_relaxed); }
