// Products of every format, of so many rows that each kind of tile is used, with blocks that fill no step.

#include "../backend/ggml_abi.h"
#include "cases.h"
#include "digest.h"

namespace {

struct Format {
    ggml_type type;
    int values, bytes; // of a block
    int scales[2];     // where its numbers of 16 bits are
};

constexpr Format formats[] = {
    {GGML_TYPE_F32, 1, 4, {-1, -1}},        {GGML_TYPE_F16, 1, 2, {-1, -1}},       {GGML_TYPE_BF16, 1, 2, {-1, -1}},
    {GGML_TYPE_Q4_0, 32, 18, {0, -1}},      {GGML_TYPE_Q4_1, 32, 20, {0, 2}},      {GGML_TYPE_Q5_0, 32, 22, {0, -1}},
    {GGML_TYPE_Q5_1, 32, 24, {0, 2}},       {GGML_TYPE_Q8_0, 32, 34, {0, -1}},     {GGML_TYPE_IQ4_NL, 32, 18, {0, -1}},
    {GGML_TYPE_Q2_K, 256, 84, {80, 82}},    {GGML_TYPE_Q3_K, 256, 110, {108, -1}}, {GGML_TYPE_Q4_K, 256, 144, {0, 2}},
    {GGML_TYPE_Q5_K, 256, 176, {0, 2}},     {GGML_TYPE_Q6_K, 256, 210, {208, -1}}, {GGML_TYPE_IQ4_XS, 256, 136, {0, -1}},
};

std::vector<uint8_t> weights_of(const Format &format, Random &random, int64_t count) {
    std::vector<uint8_t> bytes = random_bytes(random, (size_t)(count / format.values * format.bytes));
    for (uint8_t *block = bytes.data(); block < bytes.data() + bytes.size(); block += format.bytes) {
        if (format.type == GGML_TYPE_F32) {
            const float value = random.number(4);
            memcpy(block, &value, 4);
        } else if (format.type == GGML_TYPE_BF16) {
            const uint16_t value = (uint16_t)((random.next() & 0x807f) | (uint64_t)(118 + random.below(10)) << 7);
            memcpy(block, &value, 2);
        }
        for (const int at : format.scales) {
            const uint16_t value = random.half();
            if (at >= 0) memcpy(block + at, &value, 2);
        }
        if (format.type == GGML_TYPE_F16) {
            const uint16_t value = random.half();
            memcpy(block, &value, 2);
        }
    }
    return bytes;
}

std::vector<float> product(const MatmulFormat &kernel, const Format &format, const std::vector<uint8_t> &weights, int64_t n, int64_t k,
                           std::vector<float> &x) {
    const int64_t m = (int64_t)x.size() / k;
    std::vector<float> out((size_t)(n * m), 7.0f);
    const Product p{weights.data(), (size_t)(k / format.values * format.bytes), n, k, m,
                    {(char *)x.data(), m, (size_t)k * 4, 0, nullptr}, {(char *)out.data(), m, (size_t)n * 4, 0, nullptr}, nullptr, 0};
    Memory packed(kernel.packed_bytes(k, m)), totals(matmul_totals_bytes(m));
    Team team;
    Thread thread(team, 0, 1);
    kernel.pack(p, packed.at(), thread);
    thread.wait();
    kernel.multiply(p, packed.at(), totals.at(), thread);
    return out;
}

} // namespace

void check_products(const Kernels &kernels) {
    for (const Format &format : formats) {
        const MatmulFormat &kernel = *kernels.matmul_format(format.type);
        Random random((uint64_t)format.type + 1);
        const auto check = [&](int64_t n, int64_t k, int64_t m) {
            const std::vector<uint8_t> weights = weights_of(format, random, n * k);
            std::vector<float> x = random_floats(random, (size_t)(k * m));
            report(std::string(kernel.name) + " " + std::to_string(n) + " x " + std::to_string(k) + " x " + std::to_string(m),
                   product(kernel, format, weights, n, k, x));
        };
        const int64_t widths[] = {format.values == 256 ? 768 : 576, format.values == 256 ? 256 : format.values == 32 ? 96 : 41};
        for (const int64_t width : widths)
            for (const int64_t m : {1, 2, 3, 5, 6, 7}) check(50, width, m);
        check(33, widths[1], 21);
        check(3, 256, matmul_rows_at_once + 2);

        // Rows of zeros, of numbers below the normal ones, and with what is not finite.
        std::vector<float> x = random_floats(random, 7 * 256);
        for (int i = 0; i < 256; i++) {
            x[(size_t)i] = 0;
            x[(size_t)i + 256] *= 0x1p-130f;
            x[(size_t)i + 512] *= 0x1p-145f;
            x[(size_t)i + 768] *= 0x1p100f;
        }
        x[4 * 256 + 7] = float_of(0x7f800000);
        x[5 * 256 + 255] = float_of(0x7fc00000);
        x[6 * 256 + 33] = float_of(0xff800000);
        report(std::string(kernel.name) + " of strange rows", product(kernel, format, weights_of(format, random, 18 * 256), 18, 256, x));
    }
}
