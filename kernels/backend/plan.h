// What a graph's operations become: steps that all threads walk together, and runs that ggml computes.
//
// Knows which operations have kernels and which steps must wait for the ones before. Computes nothing.

#pragma once

#include <vector>

#include "../variant/kernels.h"
#include "enabled.h"
#include "ggml_library.h"

enum class StepKind : uint8_t {
    pack, // a product's activations, which several products may share
    multiply,
    rms_norm, // and the product with its weights, where that follows
    add_or_multiply,
    scale,
    swiglu,
    rotation,
    rope,
    get_rows,
    set_rows,
    copy,
    attention_view, // which rows see which cells
    attention,
    route, // rows to experts, which several products may share
    pack_for_experts,
    multiply_by_experts,
};

struct Step {
    StepKind kind;
    const ggml_tensor *node;
    const ggml_tensor *product = nullptr; // rms_norm: the MUL that is computed with it
    const MatmulFormat *format = nullptr;
    size_t offset = 0;                 // of what it writes, or reads, in the scratch memory
    size_t routing = 0;                // the same: which rows experts have
    size_t view = 0;                   // the same: which rows see which cells
    const ggml_tensor *soon = nullptr; // multiply: the weights of the next product
    bool waits = false;                // all threads, before it

    // Its pieces are taken: what comes after it without waiting counts from 0 again.
    bool is_job() const { return kind == StepKind::multiply || kind == StepKind::attention || kind == StepKind::multiply_by_experts; }
};

// A run of steps, or of nodes that ggml's own backend computes.
struct Segment {
    bool is_ours;
    int first, count; // steps or nodes
};

class Plan {
  public:
    Plan(const Kernels &kernels, const GgmlLibrary &library) : kernels_(kernels), library_(library) {}

    // Of `graph`, for `threads`; forgets the last one.
    void make(const ggml_cgraph &graph, int threads);

    const std::vector<Step> &steps() const { return steps_; }
    const std::vector<Segment> &segments() const { return segments_; }
    size_t scratch_bytes() const { return scratch_bytes_; }      // that all threads share
    int64_t most_activations() const { return most_activations_; } // rows of a product

    long foreign_count() const { return foreign_count_; } // operations left to ggml that are not by row
    const OperationSet &foreign_kinds() const { return foreign_kinds_; }

  private:
    // Memory that a step reads or writes. `rows`: each thread only those of so many rows that have its
    // number; 0: anything.
    struct Touch {
        const char *begin, *end;
        int64_t rows;
        bool is_written;
    };
    struct Packed {
        const ggml_tensor *source;
        const MatmulFormat *format;
        size_t offset;
    };
    struct Table {
        const ggml_tensor *node; // the first that is rotated by it, or has this view
        size_t offset;
        bool is_made;
    };

    bool add(const ggml_cgraph &graph, int &at);
    const MatmulFormat *format_for(const ggml_tensor *weights) const;
    bool add_product(const ggml_tensor *node);
    bool add_experts(const ggml_tensor *node);
    bool add_norm(const ggml_cgraph &graph, int &at);
    bool add_rope(const ggml_tensor *node);
    bool add_attention(const ggml_tensor *node);
    void add_foreign(int at);
    void push(Step step, const std::vector<Touch> &touches);
    bool must_wait(const std::vector<Touch> &touches) const;
    Touch read(const ggml_tensor *t, int64_t rows = 0) const { return touch(t, rows, false); }
    Touch written(const ggml_tensor *t, int64_t rows = 0) const { return touch(t, rows, true); }
    Touch touch(const ggml_tensor *t, int64_t rows, bool is_written) const;
    Touch scratch(size_t offset, size_t bytes, int64_t rows, bool is_written) const;
    void reserve_tables(const ggml_cgraph &graph);
    Table *table_of(const ggml_tensor *node);
    Table *view_of(const ggml_tensor *node);
    size_t pack_once(const ggml_tensor *source, const MatmulFormat *format, const ggml_tensor *node);
    int next_computed(const ggml_cgraph &graph, int after) const;

    const Kernels &kernels_;
    const GgmlLibrary &library_;
    int threads_ = 1;
    std::vector<Step> steps_;
    std::vector<Segment> segments_;
    std::vector<Touch> touched_; // since the last wait
    std::vector<Packed> packed_;
    std::vector<Table> tables_, views_;
    size_t scratch_bytes_ = 0, tables_bytes_ = 0, pack_end_ = 0;
    int64_t most_activations_ = 0;
    long foreign_count_ = 0;
    OperationSet foreign_kinds_;
    int jobs_ = 0; // since the last wait
    int last_product_ = -1; // its step
};
