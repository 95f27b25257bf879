#include "walk.h"

#include <omp.h>
#include <sys/mman.h>
#include <time.h>

#include "enabled.h"
#include "experts.h"
#include "tensors.h"

namespace {

constexpr size_t page = 4096;
constexpr int64_t ask_every_ns = 1000000; // whether to stop: the one who is asked may be written in Python

int64_t now_ns() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

FloatRows rows_in(const ggml_tensor *t) { return {(char *)t->data, t->ne[1], t->nb[1], t->nb[2], nullptr}; }

Product product_of(const ggml_tensor *node) {
    const ggml_tensor *weights = node->src[0], *x = node->src[1];
    return {(const uint8_t *)weights->data, weights->nb[1], weights->ne[1], weights->ne[0], rows_of(x), rows_in(x), rows_in(node), nullptr, 0};
}

} // namespace

Walk::Walk(const Kernels &kernels, const GgmlLibrary &library)
    : kernels_(kernels), library_(library), cpu_(library.cpu_init()), plan_(kernels, library) {}

Walk::~Walk() {
    library_.backend_free(cpu_);
    if (scratch_) munmap(scratch_, scratch_bytes_);
}

void Walk::set_threads(int threads) {
    threads_ = threads;
    library_.cpu_set_n_threads(cpu_, threads);
}

void Walk::set_abort_callback(ggml_abort_callback callback, void *data) {
    abort_ = callback;
    abort_data_ = data;
    library_.cpu_set_abort_callback(cpu_, callback, data);
}

ggml_status Walk::compute(ggml_cgraph &graph) {
    plan_.make(graph, threads_);
    if (plan_.foreign_count()) count_foreign(plan_.foreign_count(), plan_.foreign_kinds());
    if (!make_room()) return GGML_STATUS_ALLOC_FAILED;
    for (const Segment &segment : plan_.segments()) {
        if (is_aborted()) return GGML_STATUS_ABORTED;
        if (segment.is_ours) {
            Team team;
#pragma omp parallel num_threads(threads_)
            {
                Thread thread(team, omp_get_thread_num(), omp_get_num_threads());
                walk(segment, thread);
            }
            if (team.stopped()) return GGML_STATUS_ABORTED;
        } else {
            ggml_cgraph part = graph;
            part.nodes = graph.nodes + segment.first;
            part.n_nodes = segment.count;
            part.n_leafs = 0;
            part.uid = 0;
            const ggml_status status = library_.graph_compute(cpu_, &part);
            if (status != GGML_STATUS_SUCCESS) return status;
        }
    }
    return GGML_STATUS_SUCCESS;
}

bool Walk::make_room() {
    const size_t shared = (plan_.scratch_bytes() + page - 1) / page * page;
    totals_bytes_ = (matmul_totals_bytes(plan_.most_activations()) + page - 1) / page * page;
    totals_at_ = shared;
    const size_t wanted = shared + totals_bytes_ * (size_t)threads_;
    if (wanted <= scratch_bytes_) return true;
    // Straight from the system: it grows with the cells in use, and a heap would keep what it grew out of.
    if (scratch_) munmap(scratch_, scratch_bytes_);
    void *const memory = mmap(nullptr, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    scratch_ = memory == MAP_FAILED ? nullptr : (uint8_t *)memory;
    scratch_bytes_ = scratch_ ? wanted : 0;
    return scratch_ != nullptr;
}

void Walk::walk(const Segment &segment, Thread &thread) {
    for (int i = segment.first; i < segment.first + segment.count; i++) {
        const Step &step = plan_.steps()[(size_t)i];
        if (step.waits) {
            if (thread.index() == 0 && is_aborted()) thread.team().stop();
            thread.wait();
            if (thread.team().stopped()) return;
        }
        run(step, thread);
        if (step.is_job()) thread.next_job();
    }
}

void Walk::run(const Step &step, Thread &thread) {
    const ggml_tensor *node = step.node;
    switch (step.kind) {
    case StepKind::pack: return step.format->pack(product_of(node), scratch_ + step.offset, thread);
    case StepKind::multiply: return multiply(step, thread);
    case StepKind::route: return route(node, Routing(node, scratch_ + step.routing), thread);
    case StepKind::pack_for_experts:
        return pack_for_experts(node, Routing(node, scratch_ + step.routing), *step.format, scratch_ + step.offset, thread);
    case StepKind::multiply_by_experts:
        return multiply_by_experts(node, Routing(node, scratch_ + step.routing), *step.format, scratch_ + step.offset, totals_of(thread), thread);
    case StepKind::rms_norm: return kernels_.rms_norm(node, step.product, thread);
    case StepKind::add_or_multiply: return kernels_.add_or_multiply(node, thread);
    case StepKind::scale: return kernels_.scale(node, thread);
    case StepKind::swiglu: return kernels_.swiglu(node, thread);
    case StepKind::rotation: return kernels_.make_rotation(node, (float *)(scratch_ + step.offset), thread);
    case StepKind::rope: return kernels_.rope(node, (const float *)(scratch_ + step.offset), thread);
    case StepKind::get_rows: return kernels_.get_rows(node, library_.type_traits(node->src[0]->type)->to_float, thread);
    case StepKind::set_rows: return kernels_.set_rows(node, library_.type_traits_cpu(node->type)->from_float, thread);
    case StepKind::copy: return kernels_.copy(node, library_.type_traits_cpu(node->type)->from_float, thread);
    case StepKind::attention_view: return kernels_.make_attention_view(node, scratch_ + step.offset, thread);
    case StepKind::attention: return kernels_.attention(attention_of(step), scratch_ + step.offset, thread);
    }
}

void Walk::multiply(const Step &step, Thread &thread) {
    Product product = product_of(step.node);
    if (step.soon) {
        product.soon = (const uint8_t *)step.soon->data;
        product.soon_bytes = (size_t)step.soon->ne[1] * step.soon->nb[1];
    }
    step.format->multiply(product, scratch_ + step.offset, totals_of(thread), thread);
}

uint8_t *Walk::totals_of(const Thread &thread) const { return scratch_ + totals_at_ + totals_bytes_ * (size_t)thread.index(); }

AttentionNode Walk::attention_of(const Step &step) const {
    const auto to_float = [&](const ggml_tensor *t) { return t->type == GGML_TYPE_F32 ? nullptr : library_.type_traits(t->type)->to_float; };
    return {step.node, to_float(step.node->src[1]), to_float(step.node->src[2]), scratch_ + step.view};
}

bool Walk::is_aborted() {
    if (!abort_) return false;
    const int64_t now = now_ns();
    if (now - asked_at_ns_ < ask_every_ns) return false;
    asked_at_ns_ = now;
    return abort_(abort_data_);
}
