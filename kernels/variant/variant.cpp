#include "kernels.h"

namespace VARIANT {

#define APPLIANCE_TEXT_OF(x) #x
#define APPLIANCE_TEXT(x) APPLIANCE_TEXT_OF(x)

extern const Kernels kernels;
const Kernels kernels = {
    APPLIANCE_TEXT(VARIANT),
    matmul_format,
    attention_supports,
    attention_view_bytes,
    attention_has_same_view,
    make_attention_view,
    attention_scratch_bytes,
    attention,
    rms_norm_supports,
    rms_norm,
    add_or_multiply_supports,
    add_or_multiply,
    scale_supports,
    scale,
    swiglu_supports,
    swiglu,
    rope_supports,
    rotation_floats,
    make_rotation,
    rope,
    get_rows_supports,
    get_rows,
    set_rows_supports,
    set_rows,
    copy_supports,
    copy,
};

} // namespace VARIANT
