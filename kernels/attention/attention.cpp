// Attention: tasks shared out among threads; where there are few, each one's cells too.

#include "attention.h"

#include "scores.h"
#include "softmax.h"
#include "values.h"

namespace VARIANT {

namespace {

constexpr int64_t enough_tasks = 2;   // for each thread
constexpr int64_t least_cells = 256; // of a part

struct Formats {
    ggml_type type;
    void (*score)(const Task &, const float *queries, int part);
    void (*bound)(const Task &, int part);
    void (*add_values)(const Task &, int part, const Start *starts);
};

template <class F> constexpr Formats format() { return {F::type, score<F>, bound<F>, add_values<F>}; }

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

int parts_of(const AttentionShape &s, int threads) {
    if (threads == 1 || s.tasks >= enough_tasks * threads) return 1;
    return (int)std::max<int64_t>(1, std::min(ceil_div(enough_tasks * threads, s.tasks), s.cells / least_cells));
}

class Work {
  public:
    Work(const AttentionNode &node, uint8_t *scratch, Thread &thread)
        : node_(node), scratch_(scratch), thread_(thread), shape_(node.node), parts_(parts_of(shape_, thread.count())),
          keys_(*format_of(node.node->src[1])), values_(*format_of(node.node->src[2])) {}

    void run() {
        uint8_t *const mine = scratch_ + (queries_bytes(shape_) + (parts_ == 1 ? task_bytes(shape_, 1) : 0)) * (size_t)thread_.index();
        queries_ = (float *)mine;
        if (parts_ == 1) return run_whole(mine + queries_bytes(shape_));
        for_each_part([&](const Task &task, int p) { score_part(task, p); });
        thread_.wait();
        for_each_part([&](const Task &task, int p) { weigh_part(task, p); });
        thread_.wait();
        for_each_part([&](const Task &task, int p) { add_part(task, p); });
        thread_.wait();
        for (int64_t i = thread_.take(); i < shape_.tasks; i = thread_.take()) write_results(task_at(i));
    }

  private:
    void run_whole(uint8_t *memory) {
        for (int64_t i = thread_.take(); i < shape_.tasks; i = thread_.take()) {
            const Task task(node_, shape_, i, 1, memory);
            score_part(task, 0);
            weigh_part(task, 0);
            add_part(task, 0);
            write_results(task);
        }
    }

    Task task_at(int64_t number) const {
        uint8_t *const shared = scratch_ + queries_bytes(shape_) * (size_t)thread_.count();
        return Task(node_, shape_, number, parts_, shared + task_bytes(shape_, parts_) * (size_t)number);
    }

    template <class F> void for_each_part(F f) {
        for (int64_t i = thread_.take(); i < shape_.tasks * parts_; i = thread_.take()) f(task_at(i / parts_), (int)(i % parts_));
    }

    void score_part(const Task &task, int p) {
        copy_queries(task, queries_);
        keys_.score(task, queries_, p);
    }

    void weigh_part(const Task &task, int p) {
        exponentiate(task, p);
        values_.bound(task, p);
    }

    void add_part(const Task &task, int p) {
        for (int i = 0; i < task.queries(); i++) starts_[i] = start_of(task, i);
        values_.add_values(task, p, starts_);
    }

    const AttentionNode &node_;
    uint8_t *const scratch_;
    Thread &thread_;
    const AttentionShape shape_;
    const int parts_;
    const Formats &keys_, &values_;
    float *queries_ = nullptr;
    Start starts_[most_queries];
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
    const AttentionShape s(node);
    const int parts = parts_of(s, threads);
    const size_t queries = queries_bytes(s) * (size_t)threads;
    return queries + task_bytes(s, parts) * (size_t)(parts == 1 ? threads : s.tasks);
}

void attention(const AttentionNode &node, uint8_t *scratch, Thread &thread) {
    Work(node, scratch, thread).run();
}

} // namespace VARIANT
