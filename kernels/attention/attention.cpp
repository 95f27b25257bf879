// How threads share the tiles of an attention: each its own; or, where there are few, all of them together.

#include "attention.h"

#include <initializer_list>

#include "passes.h"

namespace VARIANT {

namespace {

constexpr size_t most_scores_bytes = 1 << 20;        // of one tile
constexpr size_t most_shared_scores_bytes = 4 << 20; // of all tiles that are computed together
constexpr int slots_per_part = 256;

size_t lines(size_t bytes) { return (bytes + 63) / 64 * 64; }

// Where things lie in the scratch memory.
struct Layout {
    bool is_shared; // all threads compute all tiles together
    size_t scores_bytes, sums_bytes, largest_bytes, visible_bytes, own_bytes;

    Layout(const Shape &shape, int threads) {
        scores_bytes = lines((size_t)shape.queries() * shape.slots() * sizeof(float));
        sums_bytes = lines((size_t)shape.queries() * (size_t)shape.v_head_size * sizeof(float));
        largest_bytes = lines(most_rows * sizeof(Largest));
        visible_bytes = lines(Visible::bytes(shape.cells));
        const size_t jobs = (size_t)shape.jobs();
        is_shared = threads > 1 && shape.jobs() < 4 * threads && jobs * scores_bytes <= most_shared_scores_bytes;
        own_bytes = lines(sizeof(Workspace)) + visible_bytes + (is_shared ? jobs * sums_bytes : sums_bytes + scores_bytes + largest_bytes);
    }

    size_t shared_bytes(const Shape &shape) const { return is_shared ? (size_t)shape.jobs() * (scores_bytes + largest_bytes) : 0; }
};

// A thread's own memory, and its last look at a mask.
struct Own {
    Workspace *work;
    uint8_t *rest;
    Visible visible;
    int64_t seen = -1; // which tile

    Own(const Shape &shape, const Layout &layout, uint8_t *memory)
        : work((Workspace *)memory), rest(memory + lines(sizeof(Workspace)) + layout.visible_bytes),
          visible(memory + lines(sizeof(Workspace)), shape.cells) {}

    const Visible &look(const Job &job) {
        const int64_t tile = job.stream * job.shape.tiles + job.first_row / job.shape.tile_rows;
        if (tile != seen) visible.look(job.mask_of(0), job.shape.mask ? job.shape.mask->nb[1] : 0, job.rows, job.shape.cells);
        seen = tile;
        return visible;
    }
};

void begin_sums(const Job &job, const Largest *largest, float *sums) {
    const int64_t size = job.shape.v_head_size;
    for (int q = 0; q < job.queries(); q++) {
        const float begin = sum_begin(bits<float>(largest[q / job.shape.group].load(std::memory_order_relaxed)));
        for (int64_t d = 0; d < size; d += 16) store(sums + q * size + d, splat(begin));
    }
}

void compute_alone(const Shape &shape, const Layout &layout, Own &own, Thread &thread) {
    float *const scores = (float *)own.rest, *const sums = (float *)(own.rest + layout.scores_bytes);
    Largest *const largest = (Largest *)(own.rest + layout.scores_bytes + layout.sums_bytes);
    for (int64_t number = thread.take(); number < shape.jobs(); number = thread.take()) {
        const Job job(shape, number, scores);
        const Visible &visible = own.look(job);
        for (int r = 0; r < job.rows; r++) largest[r].store(0, std::memory_order_relaxed);
        Passes passes(job, visible, *own.work);
        passes.score(0, visible.slots, largest);
        for (int q = 0; q < job.queries(); q++) Passes::normalize(job, visible, q);
        begin_sums(job, largest, sums);
        passes.add(0, visible.slots, sums);
        const int64_t size = shape.v_head_size;
        for (int q = 0; q < job.queries(); q++) {
            const f32x16 begin = splat(sum_begin(bits<float>(largest[q / shape.group].load(std::memory_order_relaxed))));
            for (int64_t d = 0; d < size; d += 16) store(job.result(q) + d, load<f32x16>(sums + q * size + d) - begin);
        }
    }
}

// Calls f(job, part) for the parts of all jobs' cells that this thread takes.
template <class F> void for_each_part(const Shape &shape, uint8_t *scores, const Layout &layout, Thread &thread, F f) {
    const int64_t parts = (int64_t)(shape.slots() + slots_per_part - 1) / slots_per_part;
    for (int64_t i = thread.take(); i < parts * shape.jobs(); i = thread.take()) {
        const int64_t number = i / parts;
        f(Job(shape, number, (float *)(scores + (size_t)number * layout.scores_bytes)), number, (int)(i % parts));
    }
}

void compute_together(const Shape &shape, const Layout &layout, uint8_t *shared, Own &own, const uint8_t *all_own, Thread &thread) {
    uint8_t *const scores = shared;
    const auto largest_of = [&](int64_t number) {
        return (Largest *)(shared + (size_t)shape.jobs() * layout.scores_bytes + (size_t)number * layout.largest_bytes);
    };
    for (int64_t number = thread.index(); number < shape.jobs(); number += thread.count())
        for (int r = 0; r < most_rows; r++) largest_of(number)[r].store(0, std::memory_order_relaxed);
    thread.wait();
    for_each_part(shape, scores, layout, thread, [&](const Job &job, int64_t number, int part) {
        const Visible &visible = own.look(job);
        if (part * slots_per_part < visible.slots)
            Passes(job, visible, *own.work).score(part * slots_per_part, (part + 1) * slots_per_part, largest_of(number));
    });
    thread.wait();
    for (int64_t i = thread.take(); i < shape.jobs() * shape.queries(); i = thread.take()) {
        const int64_t number = i / shape.queries();
        const Job job(shape, number, (float *)(scores + (size_t)number * layout.scores_bytes));
        if (i % shape.queries() < job.queries()) Passes::normalize(job, own.look(job), (int)(i % shape.queries()));
    }
    float *const sums = (float *)own.rest;
    for (int64_t number = 0; number < shape.jobs(); number++)
        begin_sums(Job(shape, number, nullptr), largest_of(number), sums + (size_t)number * layout.sums_bytes / sizeof(float));
    thread.wait();
    for_each_part(shape, scores, layout, thread, [&](const Job &job, int64_t number, int part) {
        const Visible &visible = own.look(job);
        if (part * slots_per_part < visible.slots)
            Passes(job, visible, *own.work).add(part * slots_per_part, (part + 1) * slots_per_part, sums + (size_t)number * layout.sums_bytes / sizeof(float));
    });
    thread.wait();
    const size_t sums_at = (size_t)((const uint8_t *)own.rest - ((const uint8_t *)own.work));
    for (int64_t number = thread.index(); number < shape.jobs(); number += thread.count()) {
        const Job job(shape, number, nullptr);
        for (int q = 0; q < job.queries(); q++) {
            const f32x16 begin = splat(sum_begin(bits<float>(largest_of(number)[q / shape.group].load(std::memory_order_relaxed))));
            for (int64_t d = 0; d < shape.v_head_size; d += 16) {
                f32x16 sum{};
                for (int t = 0; t < thread.count(); t++) {
                    const float *part = (const float *)(all_own + (size_t)t * layout.own_bytes + sums_at + (size_t)number * layout.sums_bytes);
                    sum += load<f32x16>(part + q * shape.v_head_size + d) - begin; // exact: whole multiples of one number
                }
                store(job.result(q) + d, sum);
            }
        }
    }
}

} // namespace

Shape::Shape(const ggml_tensor *node)
    : q(node->src[0]), k(node->src[1]), v(node->src[2]), mask(node->src[3]), sinks(node->src[4]), out(node), k_to_float(nullptr), v_to_float(nullptr),
      head_size(k->ne[0]), v_head_size(v->ne[0]), rows(q->ne[1]), heads(q->ne[2]), kv_heads(k->ne[2]), cells(k->ne[1]), streams(q->ne[3]) {
    memcpy(&scale, node->op_params, sizeof scale);
    memcpy(&max_bias, node->op_params + 1, sizeof max_bias);
    memcpy(&softcap, node->op_params + 2, sizeof softcap);
    if (softcap != 0) scale /= softcap;
    group = (int)(heads / kv_heads);
    tile_rows = 32 / group < 1 ? 1 : 32 / group > most_rows ? most_rows : 32 / group;
    while (tile_rows > 1 && (size_t)(tile_rows * group) * slots() * sizeof(float) > most_scores_bytes) tile_rows /= 2;
    if (tile_rows > rows) tile_rows = (int)rows;
    tiles = (rows + tile_rows - 1) / tile_rows;
}

// Of ALiBi (arXiv:2108.12409), as ggml has it for numbers of heads that are no powers of two.
float Shape::slope(int64_t head) const {
    if (max_bias <= 0) return 1;
    const int64_t power = (int64_t)1 << (int)std::floor(std::log2((double)heads));
    const float base = std::pow(2.0f, -(head < power ? max_bias : max_bias / 2) / (float)power);
    return std::pow(base, (float)(head < power ? head + 1 : 2 * (head - power) + 1));
}

bool attention_supports(const ggml_tensor *node) {
    const ggml_tensor *q = node->src[0], *k = node->src[1], *v = node->src[2], *mask = node->src[3], *sinks = node->src[4];
    if (q->type != GGML_TYPE_F32 || q->nb[0] != sizeof(float) || node->type != GGML_TYPE_F32) return false;
    if (k->ne[0] > most_head_size || v->ne[0] > most_head_size || k->ne[0] != q->ne[0]) return false;
    for (const ggml_tensor *t : {k, v}) {
        const int64_t unit = t->type == GGML_TYPE_F16 || t->type == GGML_TYPE_F32 || t->type == GGML_TYPE_BF16 ? 16 : 32;
        if (t->ne[0] % unit != 0 || t->ne[3] != q->ne[3]) return false;
    }
    if (k->ne[1] != v->ne[1] || k->ne[2] != v->ne[2] || q->ne[2] % k->ne[2] != 0 || q->ne[2] / k->ne[2] > most_queries) return false;
    if (mask && (mask->type != GGML_TYPE_F16 || mask->nb[0] != 2 || mask->ne[2] != 1 || mask->ne[0] < k->ne[1] || mask->ne[1] < q->ne[1])) return false;
    return !sinks || (sinks->type == GGML_TYPE_F32 && sinks->nb[0] == sizeof(float));
}

size_t attention_scratch_bytes(const ggml_tensor *node, int threads) {
    const Shape shape(node);
    const Layout layout(shape, threads);
    return layout.shared_bytes(shape) + (size_t)threads * layout.own_bytes;
}

void attention(const AttentionNode &node, uint8_t *scratch, Thread &thread) {
    Shape shape(node.node);
    shape.k_to_float = node.k_to_float;
    shape.v_to_float = node.v_to_float;
    const Layout layout(shape, thread.count());
    uint8_t *const all_own = scratch + layout.shared_bytes(shape);
    Own own(shape, layout, all_own + (size_t)thread.index() * layout.own_bytes);
    if (layout.is_shared)
        compute_together(shape, layout, scratch, own, all_own, thread);
    else
        compute_alone(shape, layout, own, thread);
}

} // namespace VARIANT
