// How a node's tasks are shared out among threads. Computes nothing, and no result depends on it.

#pragma once

#include "shape.h"

namespace VARIANT {

// Whole tasks; or, where they have few rows or are too few for the threads, parts of their cells. With few
// rows reading is what takes time: then a thread takes cells of as many heads as lie side by side, in the
// order in which they lie.
struct Division {
    bool has_parts = false;
    int heads = 1;     // of keys, that are computed together
    int64_t parts = 1; // of a task's cells
    int64_t strips;    // tasks of such heads
    int founds = 1;    // of a task: what was found in each part, or by each thread, if these are fewer

    Division(const AttentionShape &s, int threads) {
        // (With few cells, waiting for each other would cost more.)
        const bool has_few_rows = s.rows <= few_rows && s.cells >= many_cells && s.tasks * s.task_queries() * s.padded_cells() <= most_shared_scores;
        has_parts = has_few_rows || s.tasks < enough_tasks * threads;
        if (has_parts) {
            const int64_t wanted = has_few_rows ? enough_parts * threads : ceil_div(enough_tasks * threads, s.tasks);
            parts = std::max<int64_t>(1, std::min<int64_t>(wanted, s.cells / least_cells));
        }
        if (has_few_rows && s.are_heads_side_by_side) {
            const int64_t most = std::max<int64_t>(1, std::min<int64_t>(most_heads, most_strip_queries / s.task_queries()));
            // With few cells, heads are shared out too.
            const int64_t enough = std::max<int64_t>(1, s.tasks * parts / (enough_tasks * threads));
            heads = (int)std::min({most, enough, s.kv_heads});
        }
        strips = s.tasks / s.kv_heads * ceil_div(s.kv_heads, heads);
        founds = (int)std::min<int64_t>(parts, threads);
    }

    static constexpr int few_rows = 4, many_cells = 512;
    static constexpr int64_t enough_tasks = 2, enough_parts = 8; // for each thread
    static constexpr int64_t least_cells = 2 * piece_cells;    // of a part
    static constexpr int64_t most_heads = 16, most_strip_queries = 2 * most_queries;
    static constexpr int64_t most_shared_scores = 8 * most_scores; // of all tasks
};

} // namespace VARIANT
