#include "plan.h"

#include <cstring>

#include "enabled.h"
#include "experts.h"
#include "tensors.h"

namespace {

constexpr size_t line = 64;

size_t lines(size_t bytes) { return (bytes + line - 1) / line * line; }

bool have_same_rotation(const ggml_tensor *a, const ggml_tensor *b) {
    return a->src[1] == b->src[1] && a->src[2] == b->src[2] && a->ne[2] == b->ne[2] &&
           memcmp(a->op_params, b->op_params, sizeof a->op_params) == 0;
}

} // namespace

void Plan::make(const ggml_cgraph &graph, int threads) {
    threads_ = threads;
    steps_.clear();
    segments_.clear();
    touched_.clear();
    packed_.clear();
    scratch_bytes_ = 0;
    most_activations_ = 0;
    foreign_count_ = 0;
    foreign_kinds_.reset();
    jobs_ = 0;
    last_product_ = -1;
    reserve_tables(graph);
    for (int i = 0; i < graph.n_nodes; i++) {
        const ggml_tensor *node = graph.nodes[i];
        if (is_view(node) || !(node->flags & GGML_TENSOR_FLAG_COMPUTE)) continue;
        if (add(graph, i)) continue;
        add_foreign(i);
        if (is_by_row(node)) continue;
        foreign_count_++;
        foreign_kinds_.set((size_t)node->op);
    }
}

// True if it became steps; `at` is then the last node that is done.
bool Plan::add(const ggml_cgraph &graph, int &at) {
    const ggml_tensor *node = graph.nodes[at];
    if (node->op == GGML_OP_MUL_MAT) return add_product(node);
    if (node->op == GGML_OP_MUL_MAT_ID) return add_experts(node);
    if (node->op == GGML_OP_FLASH_ATTN_EXT) return add_attention(node);
    if (!is_enabled(Kernel::rows)) return false;
    const int64_t rows = rows_of(node);
    switch (node->op) {
    case GGML_OP_RMS_NORM: return add_norm(graph, at);
    case GGML_OP_ROPE: return add_rope(node);
    case GGML_OP_ADD:
    case GGML_OP_MUL:
        if (!kernels_.add_or_multiply_supports(node)) return false;
        push({StepKind::add_or_multiply, node},
             {read(node->src[0], rows), read(node->src[1], rows_of(node->src[1]) == rows ? rows : 0), written(node, rows)});
        return true;
    case GGML_OP_SCALE:
        if (!kernels_.scale_supports(node)) return false;
        push({StepKind::scale, node}, {read(node->src[0], rows), written(node, rows)});
        return true;
    case GGML_OP_GLU:
        if (!kernels_.swiglu_supports(node)) return false;
        push({StepKind::swiglu, node},
             {read(node->src[0], rows), read(node->src[1] ? node->src[1] : node->src[0], rows), written(node, rows)});
        return true;
    case GGML_OP_GET_ROWS:
        if (!kernels_.get_rows_supports(node) || (node->src[0]->type != GGML_TYPE_F32 && !library_.type_traits(node->src[0]->type)->to_float)) return false;
        push({StepKind::get_rows, node}, {read(node->src[0]), read(node->src[1]), written(node, rows)});
        return true;
    case GGML_OP_SET_ROWS:
        if (!kernels_.set_rows_supports(node) || (node->type != GGML_TYPE_F32 && !library_.type_traits_cpu(node->type)->from_float)) return false;
        push({StepKind::set_rows, node}, {read(node->src[0], rows_of(node->src[0])), read(node->src[1]), written(node)});
        return true;
    case GGML_OP_CPY:
    case GGML_OP_CONT:
        if (!kernels_.copy_supports(node)) return false;
        push({StepKind::copy, node}, {read(node->src[0]), written(node, rows)});
        return true;
    default: return false;
    }
}

// The kernel for a product's weights, if they lie where it can read them.
const MatmulFormat *Plan::format_for(const ggml_tensor *weights) const {
    const MatmulFormat *format = kernels_.matmul_format(weights->type);
    if (!format || !is_enabled(matmul_kernel(weights->type)) || weights->ne[0] % format->block_values != 0) return nullptr;
    if (weights->nb[0] != library_.type_traits(weights->type)->type_size) return nullptr;
    return weights->buffer && library_.buffer_is_host(weights->buffer) ? format : nullptr;
}

bool Plan::add_product(const ggml_tensor *node) {
    const ggml_tensor *weights = node->src[0], *x = node->src[1];
    const MatmulFormat *format = format_for(weights);
    if (!format || node->op_params[1] == GGML_HINT_SRC0_IS_HADAMARD || weights->ne[2] != 1 || weights->ne[3] != 1) return false;
    if (x->type != GGML_TYPE_F32 || x->nb[0] != sizeof(float) || x->ne[3] != 1) return false;
    if (node->type != GGML_TYPE_F32 || node->nb[0] != sizeof(float)) return false;
    const size_t bytes = format->packed_bytes(weights->ne[0], rows_of(x));
    const size_t packed = bytes ? pack_once(x, format, node) : 0;
    push({.kind = StepKind::multiply, .node = node, .format = format, .offset = packed},
         {scratch(packed, bytes, 0, false), read(weights), read(x), written(node)});
    if (rows_of(x) > most_activations_) most_activations_ = rows_of(x);
    return true;
}

bool Plan::add_experts(const ggml_tensor *node) {
    const ggml_tensor *weights = node->src[0], *x = node->src[1], *ids = node->src[2];
    const MatmulFormat *format = format_for(weights);
    if (!format || !experts_supports(node, *format)) return false;
    const int64_t rows = ids->ne[0] * ids->ne[1];
    const size_t routing_bytes = Routing::bytes(node), bytes = format->packed_bytes(weights->ne[0], rows);
    packed_.clear();
    const size_t routing = tables_bytes_, packed = routing + lines(routing_bytes);
    if (packed + lines(bytes) > scratch_bytes_) scratch_bytes_ = packed + lines(bytes);
    push({.kind = StepKind::route, .node = node, .routing = routing}, {read(ids), scratch(routing, routing_bytes, 0, true)});
    push({.kind = StepKind::pack_for_experts, .node = node, .format = format, .offset = packed, .routing = routing},
         {read(x), scratch(routing, routing_bytes, 0, false), scratch(packed, bytes, 0, true)});
    push({.kind = StepKind::multiply_by_experts, .node = node, .format = format, .offset = packed, .routing = routing},
         {scratch(routing, routing_bytes, 0, false), scratch(packed, bytes, 0, false), read(weights), written(node)});
    if (rows > most_activations_) most_activations_ = rows;
    return true;
}

bool Plan::add_attention(const ggml_tensor *node) {
    const ggml_tensor *k = node->src[1], *v = node->src[2];
    for (const ggml_tensor *t : {k, v}) {
        if (!is_enabled(attention_kernel(t->type))) return false;
        if (t->type != GGML_TYPE_F32 && !library_.type_traits(t->type)->to_float) return false;
        if (t->nb[0] != library_.type_traits(t->type)->type_size || !t->buffer || !library_.buffer_is_host(t->buffer)) return false;
    }
    Table *const view = view_of(node);
    if (!view) return false;
    const Touch mask = node->src[3] ? read(node->src[3]) : read(k), view_memory = scratch(view->offset, kernels_.attention_view_bytes(node), 0, true);
    if (!view->is_made) push({.kind = StepKind::attention_view, .node = node, .offset = view->offset}, {mask, view_memory});
    view->is_made = true;
    const size_t bytes = kernels_.attention_scratch_bytes(node, threads_);
    packed_.clear(); // it is computed in their memory
    if (tables_bytes_ + lines(bytes) > scratch_bytes_) scratch_bytes_ = tables_bytes_ + lines(bytes);
    std::vector<Touch> touches = {read(node->src[0]), read(k), read(v), scratch(tables_bytes_, bytes, 0, true), mask, written(node)};
    touches.push_back({view_memory.begin, view_memory.end, 0, false});
    push({.kind = StepKind::attention, .node = node, .offset = tables_bytes_, .view = view->offset}, touches);
    return true;
}

// Where the activations of a product are packed: products that follow each other share them.
size_t Plan::pack_once(const ggml_tensor *source, const MatmulFormat *format, const ggml_tensor *node) {
    for (const Packed &packed : packed_)
        if (packed.source == source && packed.format == format) return packed.offset;
    if (packed_.empty() || packed_.front().source != source) {
        packed_.clear();
        pack_end_ = tables_bytes_;
    }
    const size_t bytes = format->packed_bytes(source->ne[0], rows_of(source)), offset = pack_end_;
    pack_end_ += lines(bytes);
    if (pack_end_ > scratch_bytes_) scratch_bytes_ = pack_end_;
    packed_.push_back({source, format, offset});
    push({.kind = StepKind::pack, .node = node, .format = format, .offset = offset}, {read(source, rows_of(source)), scratch(offset, bytes, 0, true)});
    return offset;
}

bool Plan::add_norm(const ggml_cgraph &graph, int &at) {
    const ggml_tensor *node = graph.nodes[at];
    const int64_t rows = rows_of(node);
    const int after = next_computed(graph, at);
    const ggml_tensor *product = after < graph.n_nodes ? graph.nodes[after] : nullptr;
    if (product && product->op == GGML_OP_MUL && (product->src[0] == node) != (product->src[1] == node) && use_count(graph, node) == 1 &&
        !(node->flags & GGML_TENSOR_FLAG_OUTPUT) && !node->view_src) {
        const ggml_tensor *weights = product->src[0] == node ? product->src[1] : product->src[0];
        if (kernels_.rms_norm_supports(node, weights) && rows_of(product) == rows && weights->op == GGML_OP_NONE) {
            push({StepKind::rms_norm, node, product}, {read(node->src[0], rows), read(weights), written(product, rows)});
            at = after;
            return true;
        }
    }
    if (!kernels_.rms_norm_supports(node, nullptr)) return false;
    push({StepKind::rms_norm, node}, {read(node->src[0], rows), written(node, rows)});
    return true;
}

int Plan::next_computed(const ggml_cgraph &graph, int after) const {
    int i = after + 1;
    while (i < graph.n_nodes && is_view(graph.nodes[i])) i++;
    return i;
}

// Tables of rotations, and views of masks, are kept for the whole graph; what lies behind them is used again and again.
void Plan::reserve_tables(const ggml_cgraph &graph) {
    tables_.clear();
    views_.clear();
    for (int i = 0; i < graph.n_nodes; i++) {
        const ggml_tensor *node = graph.nodes[i];
        if (node->op == GGML_OP_FLASH_ATTN_EXT && kernels_.attention_supports(node) && !view_of(node)) {
            views_.push_back({node, scratch_bytes_, false});
            scratch_bytes_ += lines(kernels_.attention_view_bytes(node));
        }
        if (node->op != GGML_OP_ROPE || !kernels_.rope_supports(node) || table_of(node)) continue;
        tables_.push_back({node, scratch_bytes_, false});
        scratch_bytes_ += lines((size_t)kernels_.rotation_floats(node) * sizeof(float));
    }
    tables_bytes_ = pack_end_ = scratch_bytes_;
}

Plan::Table *Plan::table_of(const ggml_tensor *node) {
    for (Table &table : tables_)
        if (have_same_rotation(table.node, node)) return &table;
    return nullptr;
}

// Nothing for a node that has no kernel.
Plan::Table *Plan::view_of(const ggml_tensor *node) {
    if (!kernels_.attention_supports(node)) return nullptr;
    for (Table &view : views_)
        if (kernels_.attention_has_same_view(view.node, node)) return &view;
    return nullptr;
}

bool Plan::add_rope(const ggml_tensor *node) {
    Table *const table = table_of(node);
    if (!table) return false;
    const int64_t rows = node->ne[2];
    const size_t bytes = (size_t)kernels_.rotation_floats(node) * sizeof(float);
    if (!table->is_made)
        push({.kind = StepKind::rotation, .node = node, .offset = table->offset},
             {read(node->src[1]), scratch(table->offset, bytes, rows, true)});
    table->is_made = true;
    push({.kind = StepKind::rope, .node = node, .offset = table->offset},
         {scratch(table->offset, bytes, rows, false), read(node->src[0], rows), written(node, rows)});
    return true;
}

void Plan::add_foreign(int at) {
    packed_.clear(); // its memory may be written by whoever computes there
    if (segments_.empty() || segments_.back().is_ours)
        segments_.push_back({false, at, 1});
    else
        segments_.back().count = at - segments_.back().first + 1;
}

void Plan::push(Step step, const std::vector<Touch> &touches) {
    if (segments_.empty() || !segments_.back().is_ours) {
        segments_.push_back({true, (int)steps_.size(), 0});
        touched_.clear();
        jobs_ = 0;
    }
    step.waits = segments_.back().count > 0 && ((step.is_job() && jobs_ == Team::max_jobs) || must_wait(touches));
    if (step.waits) {
        touched_.clear();
        jobs_ = 0;
    }
    if (step.is_job()) jobs_++;
    if (step.kind == StepKind::multiply) {
        if (last_product_ >= 0) steps_[(size_t)last_product_].soon = step.node->src[0];
        last_product_ = (int)steps_.size();
    }
    touched_.insert(touched_.end(), touches.begin(), touches.end());
    steps_.push_back(step);
    segments_.back().count++;
}

// True if another thread could still be writing what is read now, or reading what is written. Rows that
// the same thread touches, before and now, are no reason.
bool Plan::must_wait(const std::vector<Touch> &touches) const {
    for (const Touch &now : touches)
        for (const Touch &before : touched_) {
            if (!(now.is_written || before.is_written) || now.begin >= before.end || before.begin >= now.end) continue;
            const bool same_rows = now.rows > 0 && now.rows == before.rows && now.begin == before.begin && now.end == before.end;
            if (!same_rows) return true;
        }
    return false;
}

Plan::Touch Plan::touch(const ggml_tensor *t, int64_t rows, bool is_written) const {
    const ggml_type_traits *traits = library_.type_traits(t->type);
    return {(const char *)t->data, end_of(t, traits->blck_size, traits->type_size), is_packed(t) ? rows : 0, is_written};
}

// The scratch memory has no address yet: its first page stands for it, where no tensor lies.
Plan::Touch Plan::scratch(size_t offset, size_t bytes, int64_t rows, bool is_written) const {
    const char *const begin = (const char *)(uintptr_t)(offset + 1);
    return {begin, begin + bytes, rows, is_written};
}
