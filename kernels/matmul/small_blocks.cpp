#include "product.h"
#include "small_blocks.h"

namespace VARIANT {

const MatmulFormat small_block_formats[6] = {
    format_of<Q4_0>("matmul q4_0"), format_of<Q4_1>("matmul q4_1"), format_of<Q5_0>("matmul q5_0"),
    format_of<Q5_1>("matmul q5_1"), format_of<Q8_0>("matmul q8_0"), format_of<IQ4_NL>("matmul iq4_nl"),
};

} // namespace VARIANT
