// Which kernels these are. The build compiles this file with KERNELS_VERSION: a hash of all sources.

extern "C" __attribute__((visibility("default"))) const char *appliance_kernels_version() { return KERNELS_VERSION; }
