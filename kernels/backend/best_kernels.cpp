// Which instruction set this CPU's kernels are compiled for.

#include <cstdlib>
#include <cstring>

#include "../variant/kernels.h"

#if defined(APPLIANCE_VARIANTS_X86)
namespace avx512 { extern const Kernels kernels; }
namespace avx2 { extern const Kernels kernels; }
#elif defined(APPLIANCE_VARIANTS_ARM)
#include <sys/auxv.h>
namespace dotprod { extern const Kernels kernels; }
#endif
namespace baseline { extern const Kernels kernels; }

namespace {

// For tests: another variant than the best one, if the CPU has it.
[[maybe_unused]] bool is_wanted(const Kernels &kernels) {
    const char *const wish = getenv("APPLIANCE_KERNELS_VARIANT");
    return !wish || strcmp(wish, kernels.variant) == 0;
}

#if defined(APPLIANCE_VARIANTS_X86)
// The levels of the x86-64 ABI, by their features: GCC knows the levels' own names from 12 on.
bool has_v2() { return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("popcnt"); }
bool has_v3() {
    return has_v2() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("f16c") && __builtin_cpu_supports("lzcnt") && __builtin_cpu_supports("movbe");
}
bool has_v4() {
    return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

} // namespace

const Kernels *best_kernels() {
#if defined(APPLIANCE_VARIANTS_X86)
    __builtin_cpu_init();
    if (has_v4() && __builtin_cpu_supports("avx512vnni") && is_wanted(avx512::kernels)) return &avx512::kernels;
    if (has_v3() && is_wanted(avx2::kernels)) return &avx2::kernels;
    if (!has_v2()) return nullptr;
#elif defined(APPLIANCE_VARIANTS_ARM)
    constexpr unsigned long asimddp = 1ul << 20; // HWCAP_ASIMDDP
    if ((getauxval(AT_HWCAP) & asimddp) && is_wanted(dotprod::kernels)) return &dotprod::kernels;
#endif
    return &baseline::kernels;
}
