// The cases: each prints its name, a digest of its result and how many numbers of it are not finite.

#pragma once

#include "../variant/kernels.h"

void check_products(const Kernels &kernels);
void check_attention(const Kernels &kernels);
void check_rows(const Kernels &kernels);
