// The exponential function, sixteen at a time, the same bits on every instruction set.

#pragma once

#include "vector.h"

namespace VARIANT {

// e^x for x <= 88, within two units of the last place; 0 below -103; not a number of what is none.
// x = n ln 2 + r with |r| <= ln 2 / 2; e^r by its Taylor polynomial; 2^n by the exponent's bits, in two
// steps, so that results below the normal numbers come out too.
ALWAYS_INLINE f32x16 exp(f32x16 x) {
    const f32x16 bounded = max(splat(-104.0f), min(splat(88.72f), x));
    const i32x16 n = round_to_i32(bounded * 1.44269504f);
    const f32x16 whole = to_f32(n);
    f32x16 r = fma(whole, splat(-0.693145752f), bounded); // ln 2 in two parts
    r = fma(whole, splat(-1.42860677e-6f), r);
    f32x16 p = splat(1.0f / 5040);
    p = fma(p, r, splat(1.0f / 720));
    p = fma(p, r, splat(1.0f / 120));
    p = fma(p, r, splat(1.0f / 24));
    p = fma(p, r, splat(1.0f / 6));
    p = fma(p, r, splat(0.5f));
    p = fma(p, r, splat(1.0f));
    p = fma(p, r, splat(1.0f));
    const i32x16 half = n >> 1, rest = n - half;
    return p * bits<f32x16>((half + 127) << 23) * bits<f32x16>((rest + 127) << 23);
}

} // namespace VARIANT
