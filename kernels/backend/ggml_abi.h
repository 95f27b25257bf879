// ggml's public and private structures, as far as a backend needs them, for the pinned version.
//
// ggml has no stable interface for backends that are built apart from it: these are declarations of
// its memory layout (ggml.h, ggml-impl.h, ggml-backend-impl.h of ggml 0.25.3, in the sources of
// llama-cpp-python 0.3.36). backend/abi_check.cpp compares them with the library that is loaded.

#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

enum ggml_type : int {
    GGML_TYPE_F32 = 0,
    GGML_TYPE_F16 = 1,
    GGML_TYPE_Q4_0 = 2,
    GGML_TYPE_Q4_1 = 3,
    GGML_TYPE_Q5_0 = 6,
    GGML_TYPE_Q5_1 = 7,
    GGML_TYPE_Q8_0 = 8,
    GGML_TYPE_Q2_K = 10,
    GGML_TYPE_Q3_K = 11,
    GGML_TYPE_Q4_K = 12,
    GGML_TYPE_Q5_K = 13,
    GGML_TYPE_Q6_K = 14,
    GGML_TYPE_IQ4_NL = 20,
    GGML_TYPE_IQ4_XS = 23,
    GGML_TYPE_I32 = 26,
    GGML_TYPE_I64 = 27,
    GGML_TYPE_BF16 = 30,
};

enum ggml_op : int {
    GGML_OP_NONE = 0,
    GGML_OP_ADD = 2,
    GGML_OP_MUL = 7,
    GGML_OP_RMS_NORM = 25,
    GGML_OP_MUL_MAT = 29,
    GGML_OP_MUL_MAT_ID = 30,
    GGML_OP_SCALE = 32,
    GGML_OP_CPY = 34,
    GGML_OP_CONT = 35,
    GGML_OP_RESHAPE = 36,
    GGML_OP_VIEW = 37,
    GGML_OP_PERMUTE = 38,
    GGML_OP_TRANSPOSE = 39,
    GGML_OP_GET_ROWS = 40,
    GGML_OP_SET_ROWS = 42,
    GGML_OP_ROPE = 48,
    GGML_OP_FLASH_ATTN_EXT = 74,
    GGML_OP_GLU = 100,
};

constexpr int GGML_MAX_DIMS = 4;
constexpr int GGML_MAX_SRC = 10;
constexpr int GGML_MAX_OP_PARAMS = 64;
constexpr int GGML_MAX_NAME = 64;

struct ggml_backend_buffer;

struct ggml_tensor {
    ggml_type type;
    ggml_backend_buffer *buffer;
    int64_t ne[GGML_MAX_DIMS]; // elements
    size_t nb[GGML_MAX_DIMS];  // strides, in bytes
    ggml_op op;
    int32_t op_params[GGML_MAX_OP_PARAMS / sizeof(int32_t)];
    int32_t flags;
    ggml_tensor *src[GGML_MAX_SRC];
    ggml_tensor *view_src;
    size_t view_offs;
    void *data;
    char name[GGML_MAX_NAME];
    void *extra;
    char padding[8];
};

} // extern "C"
