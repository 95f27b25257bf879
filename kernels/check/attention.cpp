// Attention of every format of cells, of masks and shapes that take each of its ways.

#include "cases.h"
#include "digest.h"
#include "tensors.h"

namespace {

constexpr uint16_t minus_infinity = 0xfc00;

enum class Mask { none, causal, streams, random, bias };

struct Case {
    const char *name;
    ggml_type k_type, v_type;
    int rows, cells, heads, kv_heads, size, v_size;
    Mask mask = Mask::causal;
    float max_bias = 0, softcap = 0;
    bool has_sinks = false, has_strange = false, has_outliers = false;
};

// Instead of ggml's converters of types that have no kernel: some number of each byte.
template <int Block, int Bytes> void to_float(const void *from, float *to, int64_t count) {
    for (int64_t i = 0; i < count; i++) to[i] = (float)((const uint8_t *)from)[i / Block * Bytes + i % Block / 2] / 64 - 1;
}

void bf16_to_float(const void *from, float *to, int64_t count) {
    for (int64_t i = 0; i < count; i++) to[i] = float_of((uint32_t)((const uint16_t *)from)[i] << 16);
}

RowToFloat converter(ggml_type type) {
    switch (type) {
    case GGML_TYPE_BF16: return bf16_to_float;
    case GGML_TYPE_Q4_1: return to_float<32, 20>;
    case GGML_TYPE_Q5_0: return to_float<32, 22>;
    case GGML_TYPE_IQ4_NL: return to_float<32, 18>;
    default: return nullptr;
    }
}

std::vector<uint8_t> cells_of(ggml_type type, Random &random, int64_t count, bool has_strange) {
    const BlockOf block = block_of(type);
    std::vector<uint8_t> bytes = random_bytes(random, (size_t)(count / block.values * block.bytes));
    for (uint8_t *at = bytes.data(); at < bytes.data() + bytes.size(); at += block.bytes) {
        const float value = random.number(3);
        uint32_t float_bits;
        memcpy(&float_bits, &value, sizeof float_bits);
        uint16_t half = random.half();
        if (has_strange && at == bytes.data() + bytes.size() / (size_t)block.bytes / 2 * (size_t)block.bytes) half = 0xfc00;
        const uint16_t second = random.half(), upper = (uint16_t)(float_bits >> 16);
        if (type == GGML_TYPE_F32) memcpy(at, &value, 4);
        else if (type == GGML_TYPE_BF16) memcpy(at, &upper, 2);
        else memcpy(at, &half, 2);
        if (type == GGML_TYPE_Q5_1) memcpy(at + 2, &second, 2);
    }
    return bytes;
}

// The first values (or block) of each row are large, and all those of a row in the middle.
void add_outliers(std::vector<uint8_t> &cells, ggml_type type, int row_size) {
    const size_t block = (size_t)block_of(type).bytes, row = (size_t)(row_size / block_of(type).values) * block;
    const uint16_t large = 0x6400, largest = 0x7b00;
    for (size_t at = 0; at < cells.size(); at += row) memcpy(&cells[at], &large, 2);
    const size_t middle = cells.size() / row / 2 * row;
    for (size_t at = middle; at < middle + row; at += block) memcpy(&cells[at], &largest, 2);
}

std::vector<uint16_t> mask_of(const Case &c, Random &random) {
    std::vector<uint16_t> mask((size_t)(c.rows * c.cells), 0);
    for (int row = 0; row < c.rows; row++)
        for (int cell = 0; cell < c.cells; cell++) {
            bool sees = cell <= row + c.cells - c.rows;
            if (c.mask == Mask::streams) sees = cell < c.cells / 3 || (cell % c.rows == row && cell < c.cells - 20);
            if (c.mask == Mask::random) sees = random.below(2);
            const uint16_t bias = c.mask == Mask::bias ? random.half() : 0;
            mask[(size_t)(row * c.cells + cell)] = sees ? bias : minus_infinity;
        }
    return mask;
}

void check(const Kernels &kernels, const Case &c, uint64_t seed) {
    Random random(seed);
    const std::vector<float> queries = random_floats(random, (size_t)(c.size * c.rows * c.heads));
    const std::vector<uint8_t> keys = cells_of(c.k_type, random, (int64_t)c.size * c.cells * c.kv_heads, c.has_strange);
    std::vector<uint8_t> values = cells_of(c.v_type, random, (int64_t)c.v_size * c.cells * c.kv_heads, c.has_strange);
    if (c.has_outliers) add_outliers(values, c.v_type, c.v_size);
    const std::vector<uint16_t> masks = mask_of(c, random);
    const std::vector<float> sinks = random_floats(random, (size_t)c.heads);
    std::vector<float> out((size_t)(c.v_size * c.heads * c.rows), 7.0f);
    ggml_tensor q = tensor(GGML_TYPE_F32, {c.size, c.rows, c.heads}, queries.data());
    ggml_tensor k = tensor(c.k_type, {c.size, c.cells, c.kv_heads}, keys.data());
    ggml_tensor v = tensor(c.v_type, {c.v_size, c.cells, c.kv_heads}, values.data());
    ggml_tensor mask = tensor(GGML_TYPE_F16, {c.cells, c.rows}, masks.data());
    ggml_tensor sink = tensor(GGML_TYPE_F32, {c.heads}, sinks.data());
    ggml_tensor node = tensor(GGML_TYPE_F32, {c.v_size, c.heads, c.rows}, out.data());
    node.op = GGML_OP_FLASH_ATTN_EXT;
    node.src[0] = &q, node.src[1] = &k, node.src[2] = &v;
    if (c.mask != Mask::none) node.src[3] = &mask;
    if (c.has_sinks) node.src[4] = &sink;
    const float params[] = {0.125f, c.max_bias, c.softcap};
    memcpy(node.op_params, params, sizeof params);
    if (!kernels.attention_supports(&node)) {
        printf("%s is refused\n", c.name);
        return;
    }
    Memory view(kernels.attention_view_bytes(&node)), scratch(kernels.attention_scratch_bytes(&node, 1));
    Team team;
    Thread thread(team, 0, 1);
    kernels.make_attention_view(&node, view.at(), thread);
    thread.wait();
    kernels.attention({&node, converter(c.k_type), converter(c.v_type), view.at()}, scratch.at(), thread);
    report(std::string("attention ") + c.name, out);
}

constexpr ggml_type F16 = GGML_TYPE_F16, Q8 = GGML_TYPE_Q8_0, Q5 = GGML_TYPE_Q5_1, Q4 = GGML_TYPE_Q4_0, F32 = GGML_TYPE_F32,
                    BF16 = GGML_TYPE_BF16;

const Case cases[] = {
    {"f16, 1 row", F16, F16, 1, 257, 4, 2, 64, 64},
    {"f16, 2 rows", F16, F16, 2, 130, 4, 2, 64, 64},
    {"f16, 19 rows", F16, F16, 19, 200, 4, 2, 64, 64},
    {"f16, 70 rows", F16, F16, 70, 90, 2, 1, 32, 32},
    {"f16, streams", F16, F16, 5, 200, 4, 2, 64, 64, Mask::streams},
    {"f16, random", F16, F16, 7, 150, 4, 2, 64, 64, Mask::random},
    {"f16, bias", F16, F16, 4, 100, 6, 2, 64, 64, Mask::bias, 8.0f},
    {"f16, softcap, sinks", F16, F16, 4, 100, 4, 2, 64, 64, Mask::causal, 0, 20.0f, true},
    {"f16, no mask, head of 8", F16, F16, 3, 65, 7, 1, 8, 8, Mask::none},
    {"f16, head of 40", F16, F16, 3, 70, 4, 2, 40, 40, Mask::random},
    {"f16, heads of 192 and 128", F16, F16, 3, 70, 4, 4, 192, 128},
    {"f16, what is not finite", F16, F16, 5, 120, 4, 2, 64, 64, Mask::random, 0, 0, false, true},
    {"f16, outliers", F16, F16, 5, 120, 4, 2, 64, 64, Mask::random, 0, 0, false, false, true},
    {"f16, outliers, head of 80", F16, F16, 5, 120, 4, 2, 80, 80, Mask::streams, 0, 0, false, false, true},
    {"q8_0, outliers", Q8, Q8, 17, 120, 4, 2, 64, 64, Mask::causal, 0, 0, false, false, true},
    {"q8_0", Q8, Q8, 5, 200, 4, 2, 64, 64, Mask::streams},
    {"q8_0, 1 row", Q8, Q8, 1, 140, 4, 2, 96, 96},
    {"q8_0, 17 rows", Q8, Q8, 17, 90, 4, 2, 64, 64, Mask::random},
    {"q8_0, what is not finite", Q8, Q8, 5, 120, 4, 2, 64, 64, Mask::random, 0, 0, false, true},
    {"q5_1", Q5, Q5, 5, 200, 4, 2, 96, 96, Mask::streams},
    {"q5_1, 1 row", Q5, Q5, 1, 80, 4, 2, 64, 64},
    {"q4_0", Q4, Q4, 5, 200, 4, 2, 96, 96, Mask::streams},
    {"q4_0, 1 row", Q4, Q4, 1, 80, 4, 2, 64, 64},
    {"q8_0 and f16", Q8, F16, 3, 80, 4, 2, 64, 64, Mask::random},
    {"q5_1 and q4_0", Q5, Q4, 3, 80, 4, 2, 64, 64, Mask::random},
    {"f32", F32, F32, 5, 100, 4, 2, 64, 64, Mask::streams},
    {"f32, head of 40", F32, F32, 1, 70, 4, 2, 40, 40},
    {"bf16", BF16, BF16, 5, 100, 4, 2, 64, 64, Mask::streams},
    {"q4_1", GGML_TYPE_Q4_1, GGML_TYPE_Q4_1, 5, 100, 4, 2, 64, 64, Mask::streams},
    {"q5_0", GGML_TYPE_Q5_0, GGML_TYPE_Q5_0, 5, 100, 4, 2, 64, 64, Mask::streams},
    {"iq4_nl", GGML_TYPE_IQ4_NL, GGML_TYPE_IQ4_NL, 5, 100, 4, 2, 64, 64, Mask::streams},
};

} // namespace

void check_attention(const Kernels &kernels) {
    uint64_t seed = 1000;
    for (const Case &c : cases) check(kernels, c, seed++);
}
