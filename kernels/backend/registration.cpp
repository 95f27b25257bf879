// The device that ggml sees: an accelerator beside its CPU, with the same memory.
//
// It takes every operation that the CPU takes, so that a graph stays whole; what has no kernel here is
// handed to a CPU backend of its own.

#include <cstring>
#include <string>

#include "enabled.h"
#include "order.h"
#include "walk.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace {

const char *const device_name = "appliance";

ggml_backend_dev_t cpu_device() { return ggml_library()->dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU); }

Walk &walk_of(ggml_backend_t backend) { return *(Walk *)backend->context; }

// --- a backend: one for each context

const char *backend_name(ggml_backend_t) { return device_name; }

void free_backend(ggml_backend_t backend) {
    delete &walk_of(backend);
    delete backend;
}

ggml_status compute_graph(ggml_backend_t backend, ggml_cgraph *graph) { return walk_of(backend).compute(*graph); }

void optimize_graph(ggml_backend_t, ggml_cgraph *graph, ggml_backend_graph_optimize_params *) { bring_products_together(*graph); }

void set_n_threads(ggml_backend_t backend, int threads) { walk_of(backend).set_threads(threads); }

void set_abort_callback(ggml_backend_t backend, ggml_abort_callback callback, void *data) {
    walk_of(backend).set_abort_callback(callback, data);
}

ggml_guid guid = {0x61, 0x70, 0x70, 0x6c, 0x69, 0x61, 0x6e, 0x63, 0x65, 0x2d, 0x6b, 0x65, 0x72, 0x6e, 0x65, 0x6c};

// --- the device

const char *name_of_device(ggml_backend_dev_t) { return device_name; }
const char *description_of_device(ggml_backend_dev_t) { return best_kernels()->variant; }

void memory_of_device(ggml_backend_dev_t, size_t *free, size_t *total) { *free = *total = 0; }

ggml_backend_dev_type type_of_device(ggml_backend_dev_t) { return GGML_BACKEND_DEVICE_TYPE_ACCEL; }

void props_of_device(ggml_backend_dev_t device, ggml_backend_dev_props *props) {
    *props = {};
    props->name = name_of_device(device);
    props->description = description_of_device(device);
    props->type = type_of_device(device);
    props->caps.buffer_from_host_ptr = props->caps.mmap_support = true;
}

ggml_backend_t init_backend(ggml_backend_dev_t device, const char *) {
    ggml_backend_i interface = {};
    interface.get_name = backend_name;
    interface.free = free_backend;
    interface.graph_compute = compute_graph;
    interface.graph_optimize = optimize_graph;
    return new ggml_backend{&guid, interface, device, new Walk(*best_kernels(), *ggml_library())};
}

ggml_backend_buffer_type_t buffer_type(ggml_backend_dev_t) { return ggml_library()->cpu_buffer_type(); }

ggml_backend_buffer_t buffer_from_pointer(ggml_backend_dev_t, void *pointer, size_t size, size_t) {
    return ggml_library()->cpu_buffer_from_ptr(pointer, size);
}

bool supports_op(ggml_backend_dev_t, const ggml_tensor *node) {
    return is_in_use() && ggml_library()->dev_supports_op(cpu_device(), node);
}

bool supports_buffer_type(ggml_backend_dev_t, ggml_backend_buffer_type_t type) {
    return ggml_library()->dev_supports_buft(cpu_device(), type);
}

// --- registration

const char *name_of_registry(ggml_backend_reg_t) { return device_name; }

size_t device_count(ggml_backend_reg_t) { return 1; }

ggml_backend_dev_t device_of(ggml_backend_reg_t registry, size_t) {
    static ggml_backend_device device = {};
    device.iface.get_name = name_of_device;
    device.iface.get_description = description_of_device;
    device.iface.get_memory = memory_of_device;
    device.iface.get_type = type_of_device;
    device.iface.get_props = props_of_device;
    device.iface.init_backend = init_backend;
    device.iface.get_buffer_type = buffer_type;
    device.iface.buffer_from_host_ptr = buffer_from_pointer;
    device.iface.supports_op = supports_op;
    device.iface.supports_buft = supports_buffer_type;
    device.reg = registry;
    return &device;
}

void *address_of(ggml_backend_reg_t, const char *name) {
    if (strcmp(name, "ggml_backend_set_n_threads") == 0) return (void *)set_n_threads;
    if (strcmp(name, "ggml_backend_set_abort_callback") == 0) return (void *)set_abort_callback;
    return nullptr;
}

} // namespace

// 0: this is not the ggml, or not a CPU, that we know, so it must not load us.
EXPORTED int ggml_backend_score() { return ggml_library() && best_kernels() ? 1 : 0; }

EXPORTED ggml_backend_reg_t ggml_backend_init() {
    if (!ggml_backend_score()) return nullptr;
    static ggml_backend_reg registry = {GGML_BACKEND_API_VERSION, {name_of_registry, device_count, device_of, address_of}, nullptr};
    return &registry;
}

EXPORTED const char *appliance_kernels_variant() { return best_kernels() ? best_kernels()->variant : "none"; }

// Names of all kernels, one a line.
EXPORTED const char *appliance_kernels_list() {
    static const std::string names = [] {
        std::string all;
        for (int i = 0; i < (int)Kernel::count; i++) all += std::string(kernel_name((Kernel)i)) + "\n";
        return all;
    }();
    return names.c_str();
}

// Switches a kernel on or off, from the next graph on; 0 for a name that is none.
EXPORTED int appliance_kernels_enable(const char *name, int on) { return enable_kernel(name, on != 0); }

// 0: contexts that are made from now on are left to ggml.
EXPORTED void appliance_kernels_use(int on) { use_kernels(on != 0); }

// How many operations whose rows may depend on each other were left to ggml by this process so far.
EXPORTED long appliance_kernels_foreign_count() { return foreign_count(); }

// ggml's names of what these were, one a line.
EXPORTED const char *appliance_kernels_foreign_list() {
    static std::string names;
    names.clear();
    for (int i = 0; i < (int)OperationSet().size(); i++)
        if (was_foreign(i)) names += std::string(ggml_library()->op_name((ggml_op)i)) + "\n";
    return names.c_str();
}
