// ggml's tensors around memory of our own.

#pragma once

#include <initializer_list>

#include "../backend/ggml_abi.h"

struct BlockOf {
    int values, bytes;
};

inline BlockOf block_of(ggml_type type) {
    switch (type) {
    case GGML_TYPE_F16:
    case GGML_TYPE_BF16: return {1, 2};
    case GGML_TYPE_I64: return {1, 8};
    case GGML_TYPE_Q4_0:
    case GGML_TYPE_IQ4_NL: return {32, 18};
    case GGML_TYPE_Q4_1: return {32, 20};
    case GGML_TYPE_Q5_0: return {32, 22};
    case GGML_TYPE_Q5_1: return {32, 24};
    case GGML_TYPE_Q8_0: return {32, 34};
    default: return {1, 4};
    }
}

// Without gaps; `sizes` are ggml's `ne`.
inline ggml_tensor tensor(ggml_type type, std::initializer_list<int64_t> sizes, const void *data) {
    ggml_tensor t = {};
    t.type = type;
    t.data = (void *)data;
    for (int i = 0; i < GGML_MAX_DIMS; i++) t.ne[i] = i < (int)sizes.size() ? sizes.begin()[i] : 1;
    const BlockOf block = block_of(type);
    t.nb[0] = (size_t)block.bytes;
    t.nb[1] = (size_t)(t.ne[0] / block.values * block.bytes);
    for (int i = 2; i < GGML_MAX_DIMS; i++) t.nb[i] = t.nb[i - 1] * (size_t)t.ne[i - 1];
    return t;
}
