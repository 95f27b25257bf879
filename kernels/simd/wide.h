// Sixteen lanes of 32 bits (or 32 of 16, 64 of 8), kept in registers.
//
// With AVX-512 they are one register, and the compiler's own vectors. Elsewhere they are several, and as
// a vector of 64 bytes compilers keep them in memory, so that each operation reads and writes 64 bytes:
// there they are a class of the registers' own vectors. Its operators are those of the compiler's vectors,
// but for `?:`, which is choose(), and for lanes, which cannot be written one by one.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#define ALWAYS_INLINE inline __attribute__((always_inline))

namespace VARIANT {

// The lanes that comparisons of such lanes have: all bits set, or none.
template <size_t bytes> struct MaskOf;
template <> struct MaskOf<1> {
    typedef int8_t type;
};
template <> struct MaskOf<2> {
    typedef int16_t type;
};
template <> struct MaskOf<4> {
    typedef int32_t type;
};

#if defined(__AVX512F__)

constexpr size_t register_bytes = 64;

template <class Lane> struct WideOf {
    typedef Lane type __attribute__((vector_size(64)));
};
template <class Lane> using Wide = typename WideOf<Lane>::type;

#else

#if defined(__AVX2__)
constexpr size_t register_bytes = 32;
#else
constexpr size_t register_bytes = 16;
#endif

template <class Lane> struct Wide {
    typedef Lane Part __attribute__((vector_size(register_bytes)));
    typedef Wide<typename MaskOf<sizeof(Lane)>::type> Mask;
    static constexpr int count = 64 / register_bytes, lanes = register_bytes / sizeof(Lane);

    Part part[count];

    Wide() = default;
    // (Compilers copy a structure in pieces that are smaller than registers, for which who reads it next has to wait.)
    ALWAYS_INLINE Wide(const Wide &other) { *this = other; }
    ALWAYS_INLINE Wide &operator=(const Wide &other) {
        for (int i = 0; i < count; i++) part[i] = other.part[i];
        return *this;
    }

    static ALWAYS_INLINE Wide of(Lane x) {
        Wide all;
        for (int i = 0; i < count; i++) all.part[i] = x - Part{};
        return all;
    }
    ALWAYS_INLINE Lane operator[](int i) const { return part[i / lanes][i % lanes]; }

#define APPLIANCE_OPERATOR(op)                                                                                \
    friend ALWAYS_INLINE Wide operator op(Wide a, Wide b) {                                                   \
        for (int i = 0; i < count; i++) a.part[i] = a.part[i] op b.part[i];                                   \
        return a;                                                                                             \
    }                                                                                                         \
    friend ALWAYS_INLINE Wide operator op(Wide a, Lane b) {                                                   \
        for (int i = 0; i < count; i++) a.part[i] = a.part[i] op b;                                           \
        return a;                                                                                             \
    }                                                                                                         \
    friend ALWAYS_INLINE Wide operator op(Lane a, Wide b) {                                                   \
        for (int i = 0; i < count; i++) b.part[i] = a op b.part[i];                                           \
        return b;                                                                                             \
    }                                                                                                         \
    template <class B> ALWAYS_INLINE Wide &operator op##=(B b) { return *this = *this op b; }
    APPLIANCE_OPERATOR(+)
    APPLIANCE_OPERATOR(-)
    APPLIANCE_OPERATOR(*)
    APPLIANCE_OPERATOR(/)
    APPLIANCE_OPERATOR(&)
    APPLIANCE_OPERATOR(|)
    APPLIANCE_OPERATOR(^)
    APPLIANCE_OPERATOR(>>)
    APPLIANCE_OPERATOR(<<)
#undef APPLIANCE_OPERATOR
#define APPLIANCE_COMPARISON(op)                                                                              \
    friend ALWAYS_INLINE Mask operator op(Wide a, Wide b) {                                                   \
        Mask is;                                                                                              \
        for (int i = 0; i < count; i++) is.part[i] = (typename Mask::Part)(a.part[i] op b.part[i]);           \
        return is;                                                                                            \
    }                                                                                                         \
    friend ALWAYS_INLINE Mask operator op(Wide a, Lane b) { return a op of(b); }
    APPLIANCE_COMPARISON(<)
    APPLIANCE_COMPARISON(>)
    APPLIANCE_COMPARISON(==)
    APPLIANCE_COMPARISON(!=)
#undef APPLIANCE_COMPARISON
    friend ALWAYS_INLINE Wide operator-(Wide a) {
        for (int i = 0; i < count; i++) a.part[i] = -a.part[i];
        return a;
    }
};

#endif

typedef Wide<float> f32x16;
typedef Wide<int32_t> i32x16;
typedef Wide<uint32_t> u32x16;
typedef Wide<int16_t> i16x32;
typedef Wide<uint16_t> u16x32;
typedef Wide<int8_t> i8x64;
typedef Wide<uint8_t> u8x64;

// A vector in registers of another name, or of another size.
template <class Part, class Whole> struct Split {
    static constexpr int count = sizeof(Whole) / sizeof(Part);
    Part part[count];
};

// How many registers a value is, if it is made of such.
template <class T> struct Registers {
    static constexpr int count = 1;
};
template <class Part, class Whole> struct Registers<Split<Part, Whole>> {
    static constexpr int count = Split<Part, Whole>::count;
};
#if !defined(__AVX512F__)
template <class Lane> struct Registers<Wide<Lane>> {
    static constexpr int count = Wide<Lane>::count;
};
#endif

// (Register by register, or compilers would go by way of memory.)
template <class To, class From> ALWAYS_INLINE To bits(From value) {
    static_assert(sizeof(To) == sizeof(From), "bits() keeps all of them");
    constexpr int count = Registers<To>::count;
    To result;
    if constexpr (count > 1 && count == Registers<From>::count)
        for (int i = 0; i < count; i++) result.part[i] = (std::remove_reference_t<decltype(result.part[i])>)value.part[i];
    else
        memcpy((void *)&result, (const void *)&value, sizeof result);
    return result;
}

// 64 bytes from anywhere: no alignment is asked for.
template <class V> ALWAYS_INLINE V load(const void *from) {
    V value;
    if constexpr (Registers<V>::count > 1)
        for (int i = 0; i < Registers<V>::count; i++)
            memcpy(&value.part[i], (const char *)from + (size_t)i * sizeof value.part[i], sizeof value.part[i]);
    else
        memcpy((void *)&value, from, sizeof value);
    return value;
}

template <class V> ALWAYS_INLINE void store(void *to, V value) {
    if constexpr (Registers<V>::count > 1)
        for (int i = 0; i < Registers<V>::count; i++)
            memcpy((char *)to + (size_t)i * sizeof value.part[i], &value.part[i], sizeof value.part[i]);
    else
        memcpy(to, &value, sizeof value);
}

// Lane i is lane at[i] of both, one behind the other.
template <int... at, class V> ALWAYS_INLINE V shuffle_register(V a, V b) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, at...);
#else // GCC has the other one from 12 on
    typedef typename MaskOf<sizeof(a[0])>::type Lane;
    typedef Lane Places __attribute__((vector_size(sizeof(V))));
    return __builtin_shuffle(a, b, Places{at...});
#endif
}

#if defined(__AVX512F__)

// (Not f32x16{} + x: a sum is no copy, of -0.)
ALWAYS_INLINE f32x16 splat(float x) { return f32x16{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
ALWAYS_INLINE i32x16 splat(int32_t x) { return i32x16{} + x; }
template <class V, class Lane> ALWAYS_INLINE V all_lanes(Lane x) { return V{} + x; }

// Lanes of `a` where `is` is set, of `b` elsewhere.
template <class Mask, class V> ALWAYS_INLINE V choose(Mask is, V a, V b) { return is ? a : b; }

// Lane i is lane at[i] of `a` or, from 16 on, at[i] - 16 of `b`.
template <int... at, class V> ALWAYS_INLINE V shuffle(V a, V b) { return shuffle_register<at...>(a, b); }

#else

ALWAYS_INLINE f32x16 splat(float x) { return f32x16::of(x); }
ALWAYS_INLINE i32x16 splat(int32_t x) { return i32x16::of(x); }
template <class V, class Lane> ALWAYS_INLINE V all_lanes(Lane x) { return V::of(x); }

template <class Lane> ALWAYS_INLINE Wide<Lane> choose(typename Wide<Lane>::Mask is, Wide<Lane> a, Wide<Lane> b) {
    for (int i = 0; i < Wide<Lane>::count; i++) a.part[i] = is.part[i] ? a.part[i] : b.part[i];
    return a;
}

// Where each register of a shuffle's result comes from: of two at most.
template <int lanes, int... at> struct Sources {
    static constexpr int all[] = {at...};
    static constexpr int first(int i) { return all[i * lanes] / lanes; }
    static constexpr int second(int i) {
        for (int j = 0; j < lanes; j++)
            if (all[i * lanes + j] / lanes != first(i)) return all[i * lanes + j] / lanes;
        return first(i);
    }
    static constexpr int place(int i, int j) {
        const int from = all[i * lanes + j];
        return from % lanes + (from / lanes == first(i) ? 0 : lanes);
    }
    static constexpr bool is_known(int i) {
        for (int j = 0; j < lanes; j++)
            if (all[i * lanes + j] / lanes != first(i) && all[i * lanes + j] / lanes != second(i)) return false;
        return true;
    }
};

template <class From, int i, class V, int... j> ALWAYS_INLINE typename V::Part shuffled_part(const V &a, const V &b, std::integer_sequence<int, j...>) {
    static_assert(From::is_known(i), "a register of the result comes from more than two");
    constexpr int first = From::first(i), second = From::second(i);
    const auto x = first < V::count ? a.part[first % V::count] : b.part[first % V::count];
    if constexpr (((From::place(i, j) == j) && ...)) return x;
    const auto y = second < V::count ? a.part[second % V::count] : b.part[second % V::count];
    return shuffle_register<From::place(i, j)...>(x, y);
}

template <int... at, class Lane> ALWAYS_INLINE Wide<Lane> shuffle(Wide<Lane> a, Wide<Lane> b) {
    typedef Wide<Lane> V;
    typedef Sources<V::lanes, at...> From;
    constexpr std::make_integer_sequence<int, V::lanes> lanes{};
    V result;
    result.part[0] = shuffled_part<From, 0>(a, b, lanes);
    result.part[1] = shuffled_part<From, 1>(a, b, lanes);
    if constexpr (V::count == 4) {
        result.part[2] = shuffled_part<From, 2>(a, b, lanes);
        result.part[3] = shuffled_part<From, 3>(a, b, lanes);
    }
    return result;
}

#endif

} // namespace VARIANT
