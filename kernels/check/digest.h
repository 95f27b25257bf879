// Numbers from a fixed generator, and a digest of what was made of them.
//
// Knows no kernel. Both are the same on every machine: no library function whose last bit depends on it.

#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

inline float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// SplitMix64 (Steele, Lea, Flood 2014).
class Random {
  public:
    explicit Random(uint64_t seed) : state_(seed) {}

    uint64_t next() {
        uint64_t z = state_ += 0x9e3779b97f4a7c15;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        return z ^ z >> 31;
    }
    int below(int most) { return (int)(next() >> 33) % most; }
    float uniform() { return (float)((int32_t)(next() >> 40) - (1 << 23)) * 0x1p-23f; } // from -1 to 1
    // Of either sign, magnitudes from 2^-(2 * spread) to 2: what activations look like.
    float number(int spread) { return uniform() * float_of((uint32_t)(128 - below(2 * spread)) << 23); }
    // Sixteen bits of a finite number below 4; some of them below the normal ones.
    uint16_t half() { return (uint16_t)((next() & 0x83ff) | (uint64_t)below(16) << 10); }

  private:
    uint64_t state_;
};

inline std::vector<float> random_floats(Random &random, size_t count, int spread = 4) {
    std::vector<float> floats(count);
    for (float &x : floats) x = random.number(spread);
    return floats;
}

inline std::vector<uint8_t> random_bytes(Random &random, size_t count) {
    std::vector<uint8_t> bytes(count);
    for (uint8_t &x : bytes) x = (uint8_t)random.next();
    return bytes;
}

// FNV-1a of the bits. What is not a number counts as one: which of them it is differs between machines.
inline uint64_t digest(const std::vector<float> &values) {
    uint64_t hash = 0xcbf29ce484222325;
    for (const float value : values) {
        uint32_t bits = 0x7fc00000;
        if (value == value) memcpy(&bits, &value, sizeof bits);
        for (int i = 0; i < 4; i++) hash = (hash ^ (bits >> 8 * i & 0xff)) * 0x100000001b3;
    }
    return hash;
}

inline void report(const std::string &name, const std::vector<float> &values) {
    int strange = 0; // infinite, or not a number: a case that has such by accident would prove little
    for (const float value : values) strange += !(value - value == 0);
    printf("%-44s %016llx %d\n", name.c_str(), (unsigned long long)digest(values), strange);
    fflush(stdout);
}

// Memory as the kernels get it: at a multiple of 64 bytes.
class Memory {
  public:
    explicit Memory(size_t bytes) : at_((uint8_t *)aligned_alloc(64, (bytes + 127) / 64 * 64)) {
        if (!at_) abort();
    }
    ~Memory() { free(at_); }
    Memory(const Memory &) = delete;
    Memory &operator=(const Memory &) = delete;
    uint8_t *at() { return at_; }

  private:
    uint8_t *const at_;
};
