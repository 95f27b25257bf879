// ggml's public and private structures, as far as a backend needs them, for the pinned version.
//
// ggml has no stable interface for backends that are built apart from it: these are declarations of
// its memory layout (ggml.h, ggml-impl.h, ggml-backend-impl.h of ggml 0.25.3, in the sources of
// llama-cpp-python 0.3.36). backend/abi_check.cpp compares them with the library that is loaded.

#pragma once

#include <cstddef>
#include <cstdint>

#define GGML_KNOWN_VERSION "0.25.3"

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
    GGML_OP_CUMSUM = 16,
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
    GGML_OP_SSM_CONV = 76,
    GGML_OP_SSM_SCAN = 77,
    GGML_OP_GATED_DELTA_NET = 86,
    GGML_OP_LAST_OF_SEQUENCES = 90, // from FLASH_ATTN_EXT on: states and windows of sequences
    GGML_OP_UNARY = 91,
    GGML_OP_GLU = 100,
};

constexpr int GGML_MAX_DIMS = 4;
constexpr int GGML_MAX_SRC = 10;
constexpr int GGML_MAX_OP_PARAMS = 64;
constexpr int GGML_MAX_NAME = 64;

constexpr int GGML_TENSOR_FLAG_OUTPUT = 2;
constexpr int GGML_TENSOR_FLAG_COMPUTE = 16;
constexpr int GGML_HINT_SRC0_IS_HADAMARD = 1; // in op_params[1] of a product
constexpr int GGML_GLU_OP_SWIGLU = 2;
constexpr int GGML_ROPE_TYPE_NORMAL = 0;
constexpr int GGML_ROPE_TYPE_NEOX = 2;

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

struct ggml_hash_set {
    size_t size;
    uint32_t *used;
    ggml_tensor **keys;
};

struct ggml_cgraph {
    int size;
    int n_nodes;
    int n_leafs;
    ggml_tensor **nodes;
    ggml_tensor **grads;
    ggml_tensor **grad_accs;
    ggml_tensor **leafs;
    int32_t *use_counts; // by slot of the hash set
    ggml_hash_set visited_hash_set;
    int order;
    uint64_t uid;
};

typedef void (*ggml_to_float_t)(const void *from, float *to, int64_t count);
typedef void (*ggml_from_float_t)(const float *from, void *to, int64_t count);

struct ggml_type_traits {
    const char *type_name;
    int64_t blck_size;
    int64_t blck_size_interleave;
    size_t type_size;
    bool is_quantized;
    ggml_to_float_t to_float;
    ggml_from_float_t from_float_ref;
};

struct ggml_type_traits_cpu {
    ggml_from_float_t from_float;
    void *vec_dot;
    ggml_type vec_dot_type;
    int64_t nrows;
};

enum ggml_status : int {
    GGML_STATUS_ALLOC_FAILED = -2,
    GGML_STATUS_FAILED = -1,
    GGML_STATUS_SUCCESS = 0,
    GGML_STATUS_ABORTED = 1,
};

typedef bool (*ggml_abort_callback)(void *data);

typedef uint8_t ggml_guid[16];
typedef struct ggml_backend *ggml_backend_t;
typedef struct ggml_backend_device *ggml_backend_dev_t;
typedef struct ggml_backend_reg *ggml_backend_reg_t;
typedef struct ggml_backend_buffer *ggml_backend_buffer_t;
typedef struct ggml_backend_buffer_type *ggml_backend_buffer_type_t;
typedef struct ggml_backend_event *ggml_backend_event_t;

struct ggml_backend_graph_optimize_params;

struct ggml_backend_i {
    const char *(*get_name)(ggml_backend_t);
    void (*free)(ggml_backend_t);
    void *set_tensor_async, *get_tensor_async, *set_tensor_2d_async, *get_tensor_2d_async, *cpy_tensor_async;
    void *synchronize;
    void *graph_plan_create, *graph_plan_free, *graph_plan_update, *graph_plan_compute;
    ggml_status (*graph_compute)(ggml_backend_t, ggml_cgraph *);
    void *event_record, *event_wait;
    void (*graph_optimize)(ggml_backend_t, ggml_cgraph *, ggml_backend_graph_optimize_params *);
};

struct ggml_backend {
    ggml_guid *guid;
    ggml_backend_i iface;
    ggml_backend_dev_t device;
    void *context;
};

enum ggml_backend_dev_type : int { GGML_BACKEND_DEVICE_TYPE_CPU = 0, GGML_BACKEND_DEVICE_TYPE_ACCEL = 3 };

struct ggml_backend_dev_caps {
    bool async, host_buffer, buffer_from_host_ptr, events, mmap_support;
};

struct ggml_backend_dev_props {
    const char *name, *description;
    size_t memory_free, memory_total;
    ggml_backend_dev_type type;
    const char *device_id;
    ggml_backend_dev_caps caps;
};

struct ggml_backend_device_i {
    const char *(*get_name)(ggml_backend_dev_t);
    const char *(*get_description)(ggml_backend_dev_t);
    void (*get_memory)(ggml_backend_dev_t, size_t *free, size_t *total);
    ggml_backend_dev_type (*get_type)(ggml_backend_dev_t);
    void (*get_props)(ggml_backend_dev_t, ggml_backend_dev_props *);
    ggml_backend_t (*init_backend)(ggml_backend_dev_t, const char *);
    ggml_backend_buffer_type_t (*get_buffer_type)(ggml_backend_dev_t);
    void *get_host_buffer_type;
    ggml_backend_buffer_t (*buffer_from_host_ptr)(ggml_backend_dev_t, void *, size_t, size_t);
    bool (*supports_op)(ggml_backend_dev_t, const ggml_tensor *);
    bool (*supports_buft)(ggml_backend_dev_t, ggml_backend_buffer_type_t);
    void *offload_op, *event_new, *event_free, *event_synchronize;
};

struct ggml_backend_device {
    ggml_backend_device_i iface;
    ggml_backend_reg_t reg;
    void *context;
};

struct ggml_backend_reg_i {
    const char *(*get_name)(ggml_backend_reg_t);
    size_t (*get_device_count)(ggml_backend_reg_t);
    ggml_backend_dev_t (*get_device)(ggml_backend_reg_t, size_t);
    void *(*get_proc_address)(ggml_backend_reg_t, const char *);
};

constexpr int GGML_BACKEND_API_VERSION = 2;

struct ggml_backend_reg {
    int api_version;
    ggml_backend_reg_i iface;
    void *context;
};

} // extern "C"
