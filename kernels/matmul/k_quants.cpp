#include "k_quants.h"
#include "product.h"
#include "small_blocks.h"

namespace VARIANT {

const MatmulFormat k_quant_formats[6] = {
    format_of<Q2_K>("matmul q2_k"), format_of<Q3_K>("matmul q3_k"), format_of<Q4_K>("matmul q4_k"),
    format_of<Q5_K>("matmul q5_k"), format_of<Q6_K>("matmul q6_k"), format_of<IQ4_XS>("matmul iq4_xs"),
};

} // namespace VARIANT
