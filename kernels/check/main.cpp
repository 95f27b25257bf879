// Runs every kernel of this CPU's instruction set on fixed inputs, and prints a digest of each result.
//
// All instruction sets promise the same bits (docs/decisions/0031): so what this prints is the same on each,
// but for the first line, which names it. Not a part of the library: `python kernels/build.py --check`.

#include <cstdio>

#include "cases.h"

int main() {
    const Kernels *const kernels = best_kernels();
    if (!kernels) {
        fprintf(stderr, "There are no kernels for this CPU.\n");
        return 1;
    }
    printf("variant %s\n", kernels->variant);
    check_products(*kernels);
    check_attention(*kernels);
    check_rows(*kernels);
    return 0;
}
