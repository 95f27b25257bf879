// The order of a graph's operations, before memory is given to their results.

#pragma once

#include "ggml_abi.h"

// Products of the same activations come right after each other (queries, keys, values): their threads then
// need not wait in between. Only what needs nothing in between is moved up.
void bring_products_together(ggml_cgraph &graph);
