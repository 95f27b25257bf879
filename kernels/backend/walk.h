// Computes graphs: makes a plan of each, and lets a team of threads walk it.
//
// Knows the plan's steps and their kernels. Knows nothing of how ggml came to ask.

#pragma once

#include "plan.h"

class Walk {
  public:
    Walk(const Kernels &kernels, const GgmlLibrary &library);
    ~Walk();

    ggml_status compute(ggml_cgraph &graph);

    void set_threads(int threads);
    void set_abort_callback(ggml_abort_callback callback, void *data);

  private:
    bool make_room();
    void walk(const Segment &segment, Thread &thread);
    void run(const Step &step, Thread &thread);
    void multiply(const Step &step, Thread &thread);
    uint8_t *totals_of(const Thread &thread) const;
    AttentionNode attention_of(const Step &step) const;
    bool is_aborted();

    const Kernels &kernels_;
    const GgmlLibrary &library_;
    const ggml_backend_t cpu_;
    Plan plan_;
    int threads_ = 1;
    ggml_abort_callback abort_ = nullptr;
    void *abort_data_ = nullptr;
    int64_t asked_at_ns_ = 0;
    uint8_t *scratch_ = nullptr; // what the plan wants, then each thread's own
    size_t scratch_bytes_ = 0, totals_at_ = 0, totals_bytes_ = 0;
};
