// ggml's functions that we call, found in the library that the process has loaded already.
//
// We link with nothing of ggml: the bindings load its libraries privately, so they are asked for by name.

#pragma once

#include "ggml_abi.h"

struct GgmlLibrary {
    const char *(*op_name)(ggml_op);
    const char *(*type_name)(ggml_type);
    const char *(*version)();
    size_t (*tensor_overhead)();
    const ggml_type_traits *(*type_traits)(ggml_type);
    const ggml_type_traits_cpu *(*type_traits_cpu)(ggml_type);
    ggml_backend_dev_t (*dev_by_type)(ggml_backend_dev_type);
    bool (*dev_supports_op)(ggml_backend_dev_t, const ggml_tensor *);
    bool (*dev_supports_buft)(ggml_backend_dev_t, ggml_backend_buffer_type_t);
    ggml_backend_buffer_type_t (*cpu_buffer_type)();
    ggml_backend_buffer_t (*cpu_buffer_from_ptr)(void *, size_t);
    bool (*buffer_is_host)(ggml_backend_buffer_t);
    ggml_backend_t (*cpu_init)();
    void (*cpu_set_n_threads)(ggml_backend_t, int);
    void (*cpu_set_abort_callback)(ggml_backend_t, ggml_abort_callback, void *);
    ggml_status (*graph_compute)(ggml_backend_t, ggml_cgraph *);
    void (*backend_free)(ggml_backend_t);
};

// Nothing if a function is missing, or if ggml is not the one that ggml_abi.h describes. Looked for once.
const GgmlLibrary *ggml_library();
