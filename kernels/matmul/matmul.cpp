#include "matmul.h"

namespace VARIANT {

const MatmulFormat *matmul_format(int type) {
    for (const MatmulFormat &f : k_quant_formats)
        if (f.type == type) return &f;
    for (const MatmulFormat &f : small_block_formats)
        if (f.type == type) return &f;
    for (const MatmulFormat &f : float_formats)
        if (f.type == type) return &f;
    return nullptr;
}

} // namespace VARIANT
