// The operations on rows: whole vectors, and rows that end in a part of one.

#include "cases.h"
#include "digest.h"
#include "tensors.h"

namespace {

constexpr ggml_type F32 = GGML_TYPE_F32;

void set_float(ggml_tensor &node, int index, float value) { memcpy(node.op_params + index, &value, sizeof value); }

struct Alone {
    Team team;
    Thread thread{team, 0, 1};
};

void check_elementwise(const Kernels &kernels, int64_t width) {
    constexpr int64_t rows = 5;
    Random random((uint64_t)width);
    const std::string at = ", " + std::to_string(width);
    std::vector<float> a = random_floats(random, (size_t)(width * rows), 8), b = random_floats(random, (size_t)(width * rows), 8);
    std::vector<float> out((size_t)(width * rows));
    ggml_tensor x = tensor(F32, {width, rows}, a.data()), y = tensor(F32, {width, rows}, b.data());
    ggml_tensor repeated = tensor(F32, {width, 1}, b.data()), single = tensor(F32, {1, rows}, b.data());
    Alone alone;

    ggml_tensor norm = tensor(F32, {width, rows}, out.data());
    norm.op = GGML_OP_RMS_NORM;
    norm.src[0] = &x;
    set_float(norm, 0, 1e-5f);
    kernels.rms_norm(&norm, nullptr, alone.thread);
    report("rms_norm" + at, out);
    ggml_tensor times = tensor(F32, {width, rows}, out.data());
    times.op = GGML_OP_MUL;
    times.src[0] = &norm, times.src[1] = &repeated;
    kernels.rms_norm(&norm, &times, alone.thread);
    report("rms_norm times a row" + at, out);

    for (const ggml_op op : {GGML_OP_ADD, GGML_OP_MUL})
        for (ggml_tensor *second : {&y, &repeated, &single}) {
            ggml_tensor node = tensor(F32, {width, rows}, out.data());
            node.op = op;
            node.src[0] = &x, node.src[1] = second;
            kernels.add_or_multiply(&node, alone.thread);
            report(std::string(op == GGML_OP_ADD ? "add" : "multiply") + " " + std::to_string(second->ne[0] * second->ne[1]) + at, out);
        }

    ggml_tensor scaled = tensor(F32, {width, rows}, out.data());
    scaled.op = GGML_OP_SCALE;
    scaled.src[0] = &x;
    set_float(scaled, 0, 0.3f);
    set_float(scaled, 1, -1.7f);
    kernels.scale(&scaled, alone.thread);
    report("scale" + at, out);
}

void check_swiglu(const Kernels &kernels, int64_t width) {
    constexpr int64_t rows = 3;
    Random random((uint64_t)width + 1);
    std::vector<float> gates = random_floats(random, (size_t)(2 * width * rows)), ups = random_floats(random, (size_t)(2 * width * rows));
    const float strange[] = {0x1p120f, -0x1p120f, -88.9f, -103.5f, 0x1p-140f, float_of(0x7f800000), float_of(0xff800000), float_of(0x7fc00000)};
    memcpy(gates.data(), strange, sizeof strange);
    std::vector<float> out((size_t)(width * rows));
    ggml_tensor gate = tensor(F32, {width, rows}, gates.data()), up = tensor(F32, {width, rows}, ups.data());
    ggml_tensor both = tensor(F32, {2 * width, rows}, gates.data()), node = tensor(F32, {width, rows}, out.data());
    Alone alone;
    node.op = GGML_OP_GLU;
    node.op_params[0] = GGML_GLU_OP_SWIGLU;
    for (const int way : {0, 1, 2}) {
        node.src[0] = way ? &both : &gate, node.src[1] = way ? nullptr : &up;
        node.op_params[1] = way == 2;
        kernels.swiglu(&node, alone.thread);
        report(std::string("swiglu ") + (way ? way == 2 ? "swapped" : "of halves" : "of two") + ", " + std::to_string(width), out);
    }
}

// Angles are by the C library, whose last bit is not promised: they are reported with fewer bits.
void check_rope(const Kernels &kernels, int mode, bool is_extended) {
    constexpr int64_t size = 80, dims = 64, heads = 3, rows = 5;
    Random random((uint64_t)mode + 77);
    std::vector<float> from = random_floats(random, (size_t)(size * heads * rows)), out(from.size());
    std::vector<int32_t> positions{0, 1, 17, 2049, 30000};
    std::vector<float> factors((size_t)dims / 2);
    for (float &f : factors) f = 1.5f + random.uniform() / 2;
    ggml_tensor x = tensor(F32, {size, heads, rows}, from.data()), node = tensor(F32, {size, heads, rows}, out.data());
    ggml_tensor at = tensor(GGML_TYPE_I32, {rows}, positions.data()), factor = tensor(F32, {dims / 2}, factors.data());
    node.op = GGML_OP_ROPE;
    node.src[0] = &x, node.src[1] = &at, node.src[2] = is_extended ? &factor : nullptr;
    node.op_params[1] = dims, node.op_params[2] = mode, node.op_params[4] = 4096;
    const float params[] = {10000.0f, is_extended ? 0.25f : 1.0f, is_extended ? 1.0f : 0.0f, 1.0f, 32.0f, 1.0f};
    for (int i = 0; i < 6; i++) set_float(node, 5 + i, params[i]);
    const std::string name = std::string(mode == GGML_ROPE_TYPE_NEOX ? "neox" : "normal") + (is_extended ? ", extended" : "");
    Alone alone;
    std::vector<float> table((size_t)kernels.rotation_floats(&node));
    kernels.make_rotation(&node, table.data(), alone.thread);
    std::vector<float> coarse(table);
    for (float &t : coarse) t = (float)(int)(t * 4096 + 8192.5f);
    report("rotation " + name, coarse);
    for (float &t : table) t = random.uniform();
    kernels.rope(&node, table.data(), alone.thread);
    report("rope " + name, out);
}

// Instead of ggml's converters.
void some_bytes(const float *from, void *to, int64_t count) {
    for (int64_t i = 0; i < count; i++) ((uint16_t *)to)[i] = (uint16_t)(int)(from[i] * 256);
}
void some_floats(const void *from, float *to, int64_t count) {
    for (int64_t i = 0; i < count; i++) to[i] = (float)((const uint16_t *)from)[i] / 3;
}

void check_copies(const Kernels &kernels) {
    constexpr int64_t width = 37, rows = 6, table_rows = 9;
    Random random(99);
    std::vector<float> table = random_floats(random, (size_t)(width * table_rows)), out((size_t)(width * rows));
    std::vector<int32_t> numbers{8, 0, 3, 3, 7, 1};
    std::vector<int64_t> places{5, 8, 0, 2, 7, 1};
    ggml_tensor from = tensor(F32, {width, table_rows}, table.data()), halves = tensor(GGML_TYPE_F16, {width, table_rows}, table.data());
    ggml_tensor number = tensor(GGML_TYPE_I32, {rows}, numbers.data()), place = tensor(GGML_TYPE_I64, {rows}, places.data());
    ggml_tensor got = tensor(F32, {width, rows}, out.data());
    Alone alone;
    for (ggml_tensor *source : {&from, &halves}) {
        got.src[0] = source, got.src[1] = &number;
        kernels.get_rows(&got, some_floats, alone.thread);
        report(std::string("get_rows ") + (source == &from ? "f32" : "f16"), out);
    }
    std::vector<float> cache((size_t)(width * table_rows));
    ggml_tensor rows_from = tensor(F32, {width, rows}, table.data());
    for (const ggml_type type : {F32, GGML_TYPE_F16}) {
        ggml_tensor set = tensor(type, {width, table_rows}, cache.data());
        set.src[0] = &rows_from, set.src[1] = &place;
        kernels.set_rows(&set, some_bytes, alone.thread);
        report(std::string("set_rows ") + (type == F32 ? "f32" : "f16"), cache);
    }
    ggml_tensor turned = tensor(F32, {table_rows, width}, table.data()), copied = tensor(F32, {table_rows, width}, cache.data());
    turned.nb[0] = width * sizeof(float), turned.nb[1] = sizeof(float);
    copied.src[0] = &turned;
    kernels.copy(&copied, some_bytes, alone.thread);
    report("copy of columns", cache);
}

} // namespace

void check_rows(const Kernels &kernels) {
    for (const int64_t width : {64, 203, 7}) check_elementwise(kernels, width);
    for (const int64_t width : {64, 25}) check_swiglu(kernels, width);
    for (const int mode : {GGML_ROPE_TYPE_NORMAL, GGML_ROPE_TYPE_NEOX})
        for (const bool is_extended : {false, true}) check_rope(kernels, mode, is_extended);
    check_copies(kernels);
}
