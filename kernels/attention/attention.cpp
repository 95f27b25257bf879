// Attention: tasks shared out among threads; where there are few, each one's cells too.

#include "attention.h"

#include <optional>

#include "division.h"
#include "scores.h"
#include "softmax.h"
#include "values.h"

namespace VARIANT {

namespace {

struct Formats {
    ggml_type type;
    size_t (*row_bytes)(int count);
    void (*score)(const Task &, const View::Piece &, const float *queries, Soon soon[2], int ask, Bound bound, float *bounds, Largest *most);
    Bound bound;
    void (*add_values)(const Task &, const View::Piece &, const float *starts, int32_t *sums);
};

template <class F> constexpr Formats format() { return {F::type, F::row_bytes, score<F>, bound<F>, add_values<F>}; }

constexpr Formats formats[] = {
    format<F16Cells>(),
    format<Q8Cells>(),
    format<Q5Cells>(),
    format<Q4Cells>(),
    format<OtherCells<GGML_TYPE_F32, 1, 4>>(),
    format<OtherCells<GGML_TYPE_BF16, 1, 2>>(),
    format<OtherCells<GGML_TYPE_Q4_1, 32, 20>>(),
    format<OtherCells<GGML_TYPE_Q5_0, 32, 22>>(),
    format<OtherCells<GGML_TYPE_IQ4_NL, 32, 18>>(),
};

const Formats *format_of(const ggml_tensor *t) {
    for (const Formats &f : formats)
        if (f.type == t->type) return &f;
    return nullptr;
}

class Work {
  public:
    Work(const AttentionNode &node, uint8_t *scratch, Thread &thread)
        : node_(node), scratch_(scratch), thread_(thread), shape_(node.node), division_(shape_, thread.count()),
          keys_(*format_of(node.node->src[1])), values_(*format_of(node.node->src[2])) {}

    void run() {
        if (!division_.has_parts) return run_whole();
        queries_ = (float *)(scratch_ + strip_queries_bytes() * (size_t)thread_.index());
        if (!is_found_by_part())
            for (int64_t i = 0; i < shape_.tasks; i++) task_at(i).part(thread_.index()).clear(shape_);
        for_each_part([&](Pieces pieces) { score(pieces); });
        thread_.wait();
        for_each_part([&](Pieces pieces) { weigh(pieces); });
        thread_.wait();
        for_each_part([&](Pieces pieces) { add(pieces); });
        thread_.wait();
        for (int64_t i = thread_.take(); i < shape_.tasks; i = thread_.take()) {
            const Task task = task_at(i);
            find_starts(task, queries_);
            write_results(task, queries_);
        }
    }

    static size_t scratch_bytes(const AttentionShape &s, int threads) {
        const Division division(s, threads);
        if (division.has_parts) return queries_bytes(s) * (size_t)(division.heads * threads) + task_bytes(s, division.founds) * (size_t)s.tasks;
        return (queries_bytes(s) + task_bytes(s, 1)) * (size_t)threads;
    }

  private:
    void run_whole() {
        uint8_t *const mine = scratch_ + (queries_bytes(shape_) + task_bytes(shape_, 1)) * (size_t)thread_.index();
        queries_ = (float *)mine;
        for (int64_t i = thread_.take(); i < shape_.tasks; i = thread_.take()) {
            count_ = 1;
            task_[0].emplace(node_, shape_, i, 1, mine + queries_bytes(shape_));
            const View &view = task_[0]->view;
            const Pieces all{view.piece(), view.piece() + view.pieces, nullptr};
            has_queries_ = has_starts_ = false;
            score(all);
            weigh(all);
            add(all);
            write_results(*task_[0], queries_);
        }
    }

    size_t strip_queries_bytes() const { return queries_bytes(shape_) * (size_t)division_.heads; }

    Task task_at(int64_t number) const {
        uint8_t *const shared = scratch_ + strip_queries_bytes() * (size_t)thread_.count();
        return Task(node_, shape_, number, division_.founds, shared + task_bytes(shape_, division_.founds) * (size_t)number);
    }

    // Calls f(pieces) for each part that nobody else has, with its tasks in task_.
    template <class F> void for_each_part(F f) {
        strip_ = -1;
        const int64_t parts = division_.parts, end = division_.strips * parts;
        for (int64_t i = thread_.take(), next; i < end; i = next) {
            next = thread_.take(); // early, so that its cells are asked for in time
            find_strip(i / parts);
            const View &view = task_[0]->view;
            const auto piece = [&](int64_t part) { return view.piece() + view.pieces * part / parts; };
            const int64_t part = i % parts;
            part_ = (int)part;
            const bool has_next = next < end && next / parts == strip_ && piece(next % parts) < piece(parts);
            f(Pieces{piece(part), piece(part + 1), has_next ? piece(next % parts) : nullptr});
        }
    }

    void find_strip(int64_t strip) {
        if (strip == strip_) return;
        strip_ = strip;
        const int64_t tiles = shape_.head_tiles * shape_.row_tiles, strips = ceil_div(shape_.kv_heads, division_.heads);
        const int64_t tile = strip % tiles, first = strip / tiles % strips * division_.heads, stream = strip / tiles / strips;
        count_ = (int)std::min<int64_t>(division_.heads, shape_.kv_heads - first);
        for (int h = 0; h < count_; h++) {
            const Task task = task_at((stream * shape_.kv_heads + first + h) * tiles + tile);
            task_[h].emplace(task);
        }
        has_queries_ = has_starts_ = false;
    }

    // Memory is asked for a piece ahead: as `count` tasks' keys or values lie side by side, all of these.
    Soon soon(const View::Piece *piece, const ggml_tensor *t, const char *base, size_t row_bytes) const {
        if (!piece) return {};
        return {base, t->nb[1], row_bytes + t->nb[2] * (size_t)(count_ - 1), task_[0]->view.cell(shape_) + piece->first, piece->count, 0};
    }
    Soon keys_soon(const View::Piece *piece) const {
        return soon(piece, node_.node->src[1], task_[0]->key_base(), keys_.row_bytes(shape_.key_size));
    }
    Soon values_soon(const View::Piece *piece) const {
        return soon(piece, node_.node->src[2], task_[0]->value_base(), values_.row_bytes(shape_.value_size));
    }

    void score(Pieces pieces) {
        if (!has_queries_)
            for (int h = 0; h < count_; h++) VARIANT::copy_queries(*task_[h], queries_of(h));
        has_queries_ = true;
        for (int h = 0; h < count_ && is_found_by_part(); h++) task_[h]->part(part_).clear(shape_);
        const int of_task = shape_.task_queries(), ask = (int)ceil_div(16, count_);
        Largest most[Division::most_strip_queries];
        for (int i = 0; i < count_ * of_task; i++) most[i] = {splat(-INFINITY), splat(-INFINITY)};
        for (const View::Piece *piece = pieces.begin(); piece < pieces.end(); piece++) {
            Soon soon[] = {keys_soon(pieces.after(piece)), values_soon(pieces.after(piece))};
            for (int h = 0; h < count_; h++)
                keys_.score(*task_[h], *piece, queries_of(h), soon, ask, values_.bound, task_[h]->part(own_part()).bounds, most + h * of_task);
        }
        for (int h = 0; h < count_; h++) {
            const Part part = task_[h]->part(own_part());
            for (int i = 0; i < task_[h]->queries(); i++) {
                const Largest &found = most[h * of_task + i];
                part.most[i] = std::max(part.most[i], largest_lane(found.score));
                part.weighted[i] = std::max(part.weighted[i], largest_lane(found.weighted));
            }
        }
    }

    void weigh(Pieces pieces) {
        for (int h = 0; h < count_; h++) exponentiate(*task_[h], pieces, task_[h]->part(own_part()).total);
    }

    void add(Pieces pieces) {
        for (int h = 0; h < count_ && !has_starts_; h++) find_starts(*task_[h], queries_of(h));
        has_starts_ = true;
        for (const View::Piece *piece = pieces.begin(); piece < pieces.end(); piece++) {
            Soon values = values_soon(pieces.after(piece));
            for (int h = 0; h < count_; h++) {
                values_.add_values(*task_[h], *piece, queries_of(h), task_[h]->part(own_part()).sums);
                values.ask((int)ceil_div(piece_cells, count_));
            }
        }
    }

    bool is_found_by_part() const { return division_.parts <= division_.founds; }
    int own_part() const { return is_found_by_part() ? part_ : thread_.index(); }
    float *queries_of(int h) const { return (float *)((uint8_t *)queries_ + queries_bytes(shape_) * (size_t)h); }

    const AttentionNode &node_;
    uint8_t *const scratch_;
    Thread &thread_;
    const AttentionShape shape_;
    const Division division_;
    const Formats &keys_, &values_;
    float *queries_ = nullptr;

    // The tasks that are being computed: of heads side by side.
    std::optional<Task> task_[Division::most_heads];
    int count_ = 0;
    int64_t strip_ = -1;
    int part_ = 0;
    bool has_queries_ = false, has_starts_ = false; // in queries_: one after the other
};

bool has_known_rows(const ggml_tensor *t) {
    const Formats *const format = format_of(t);
    if (!format) return false;
    const size_t bytes = t->type == GGML_TYPE_F32 ? 4 : t->type == GGML_TYPE_F16 || t->type == GGML_TYPE_BF16 ? 2 : 0;
    return bytes ? t->ne[0] % 8 == 0 && t->nb[0] == bytes : t->ne[0] % 32 == 0;
}

} // namespace

bool attention_supports(const ggml_tensor *node) {
    const ggml_tensor *q = node->src[0], *k = node->src[1], *v = node->src[2], *mask = node->src[3], *sinks = node->src[4];
    if (!q || !k || !v || q->type != GGML_TYPE_F32 || q->nb[0] != 4 || !has_known_rows(k) || !has_known_rows(v)) return false;
    if (q->ne[0] != k->ne[0] || k->ne[0] < 8 || v->ne[0] < 8 || k->ne[1] != v->ne[1] || k->ne[1] < 1 || k->ne[1] > INT32_MAX / 64) return false;
    if (q->ne[2] % k->ne[2] != 0 || k->ne[2] != v->ne[2] || q->ne[3] % k->ne[3] != 0 || q->ne[3] % v->ne[3] != 0) return false;
    if (node->type != GGML_TYPE_F32 || node->nb[0] != 4) return false;
    if (sinks && (sinks->type != GGML_TYPE_F32 || sinks->nb[0] != 4)) return false;
    if (!mask) return true;
    return mask->type == GGML_TYPE_F16 && mask->nb[0] == 2 && mask->ne[0] >= k->ne[1] && mask->ne[1] >= q->ne[1] &&
           mask->ne[2] == 1 && q->ne[3] % mask->ne[3] == 0;
}

size_t attention_scratch_bytes(const ggml_tensor *node, int threads) {
    return Work::scratch_bytes(AttentionShape(node), threads);
}

void attention(const AttentionNode &node, uint8_t *scratch, Thread &thread) {
    Work(node, scratch, thread).run();
}

} // namespace VARIANT
