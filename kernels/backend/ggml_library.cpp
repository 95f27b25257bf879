#include "ggml_library.h"

#include <dlfcn.h>

#include <cstring>
#include <initializer_list>

namespace {

// A library that the process has loaded already, by a name that it may have.
void *find_loaded(std::initializer_list<const char *> names) {
    for (const char *name : names)
        if (void *const handle = dlopen(name, RTLD_NOLOAD | RTLD_NOW)) return handle;
    return nullptr;
}

// The library of ggml's CPU: linked to ggml, or the one of several that ggml has loaded for this CPU.
void *find_cpu_library(void *ggml) {
    ggml_backend_dev_t (*dev_by_type)(ggml_backend_dev_type) = nullptr;
    void *const found = dlsym(ggml, "ggml_backend_dev_by_type");
    memcpy(&dev_by_type, &found, sizeof found);
    const ggml_backend_dev_t device = found ? dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU) : nullptr;
    Dl_info where = {};
    if (!device || !dladdr((void *)device->iface.get_name, &where)) return nullptr;
    return find_loaded({where.dli_fname});
}

bool find_all(GgmlLibrary &library) {
#if defined(__APPLE__)
    void *const ggml = find_loaded({"libggml.dylib"});
#else
    void *const ggml = find_loaded({"libggml.so.0", "libggml.so"});
#endif
    void *const cpu = ggml ? find_cpu_library(ggml) : nullptr;
    if (!cpu) return false;
    bool all = true;
    const auto find = [&](auto &function, const char *name) {
        void *found = dlsym(ggml, name); // also in what it depends on
        if (!found) found = dlsym(cpu, name);
        memcpy(&function, &found, sizeof found);
        all = all && found;
    };
    find(library.op_name, "ggml_op_name");
    find(library.type_name, "ggml_type_name");
    find(library.version, "ggml_version");
    find(library.tensor_overhead, "ggml_tensor_overhead");
    find(library.type_traits, "ggml_get_type_traits");
    find(library.type_traits_cpu, "ggml_get_type_traits_cpu");
    find(library.dev_by_type, "ggml_backend_dev_by_type");
    find(library.dev_supports_op, "ggml_backend_dev_supports_op");
    find(library.dev_supports_buft, "ggml_backend_dev_supports_buft");
    find(library.cpu_buffer_type, "ggml_backend_cpu_buffer_type");
    find(library.cpu_buffer_from_ptr, "ggml_backend_cpu_buffer_from_ptr");
    find(library.buffer_is_host, "ggml_backend_buffer_is_host");
    find(library.cpu_init, "ggml_backend_cpu_init");
    find(library.cpu_set_n_threads, "ggml_backend_cpu_set_n_threads");
    find(library.cpu_set_abort_callback, "ggml_backend_cpu_set_abort_callback");
    find(library.graph_compute, "ggml_backend_graph_compute");
    find(library.backend_free, "ggml_backend_free");
    return all;
}

struct NamedOp {
    ggml_op op;
    const char *name;
};

struct NamedType {
    ggml_type type;
    const char *name;
    size_t bytes;
};

constexpr NamedOp ops[] = {
    {GGML_OP_ADD, "ADD"},           {GGML_OP_MUL, "MUL"},
    {GGML_OP_RMS_NORM, "RMS_NORM"}, {GGML_OP_MUL_MAT, "MUL_MAT"},
    {GGML_OP_SCALE, "SCALE"},       {GGML_OP_MUL_MAT_ID, "MUL_MAT_ID"},
    {GGML_OP_CPY, "CPY"},           {GGML_OP_CONT, "CONT"},
    {GGML_OP_RESHAPE, "RESHAPE"},   {GGML_OP_VIEW, "VIEW"},
    {GGML_OP_PERMUTE, "PERMUTE"},   {GGML_OP_TRANSPOSE, "TRANSPOSE"},
    {GGML_OP_GET_ROWS, "GET_ROWS"}, {GGML_OP_SET_ROWS, "SET_ROWS"},
    {GGML_OP_ROPE, "ROPE"},         {GGML_OP_FLASH_ATTN_EXT, "FLASH_ATTN_EXT"},
    {GGML_OP_GLU, "GLU"},           {GGML_OP_UNARY, "UNARY"},
};

constexpr NamedType types[] = {
    {GGML_TYPE_F32, "f32", 4},     {GGML_TYPE_F16, "f16", 2},       {GGML_TYPE_Q4_0, "q4_0", 18},
    {GGML_TYPE_Q4_1, "q4_1", 20},  {GGML_TYPE_Q5_0, "q5_0", 22},    {GGML_TYPE_Q5_1, "q5_1", 24},
    {GGML_TYPE_Q8_0, "q8_0", 34},  {GGML_TYPE_Q2_K, "q2_K", 84},    {GGML_TYPE_Q3_K, "q3_K", 110},
    {GGML_TYPE_Q4_K, "q4_K", 144}, {GGML_TYPE_Q5_K, "q5_K", 176},   {GGML_TYPE_Q6_K, "q6_K", 210},
    {GGML_TYPE_BF16, "bf16", 2},   {GGML_TYPE_IQ4_NL, "iq4_nl", 18}, {GGML_TYPE_IQ4_XS, "iq4_xs", 136},
};

// Its version is the pinned one, a tensor has our size, and our numbers of operations and types are its.
bool is_known(const GgmlLibrary &library) {
    constexpr size_t object_bytes = 32; // of ggml's allocator, before each tensor
    if (strcmp(library.version(), GGML_KNOWN_VERSION) != 0) return false;
    if (library.tensor_overhead() != object_bytes + sizeof(ggml_tensor)) return false;
    for (const NamedOp &known : ops)
        if (strcmp(library.op_name(known.op), known.name) != 0) return false;
    for (const NamedType &known : types)
        if (strcmp(library.type_name(known.type), known.name) != 0 ||
            library.type_traits(known.type)->type_size != known.bytes)
            return false;
    return true;
}

} // namespace

const GgmlLibrary *ggml_library() {
    static GgmlLibrary library;
    static const bool usable = find_all(library) && is_known(library);
    return usable ? &library : nullptr;
}
