// The threads that compute a graph together: they wait for each other, and share out work.
//
// Knows no operation. One OpenMP region holds a whole run of operations; in it every thread walks the
// same list, and meets the others at wait(). Few of them are needed: what does not depend on each other
// is computed as several jobs between two.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

class Team {
  public:
    // Between two wait() so many jobs can be shared out, each with pieces counted from 0.
    static constexpr int max_jobs = 8;

    // Everybody sees it after the next wait().
    void stop() { stopped_.store(true, std::memory_order_relaxed); }
    bool stopped() const { return stopped_.load(std::memory_order_relaxed); }

  private:
    friend class Thread;
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<int> round_{0};
    struct alignas(64) Counter {
        std::atomic<int64_t> taken{0};
    };
    Counter counters_[max_jobs];
    std::atomic<bool> stopped_{false};
};

class Thread {
  public:
    // One of `count`, which may be fewer than were asked for: OMP_THREAD_LIMIT, OMP_DYNAMIC.
    Thread(Team &team, int index, int count) : team_(team), index_(index), count_(count) {}

    int index() const { return index_; }
    int count() const { return count_; }

    // Returns when all threads have come here: what one wrote before, all read after.
    void wait() {
        job_ = 0;
        const int round = team_.round_.load(std::memory_order_relaxed);
        if (team_.arrived_.fetch_add(1, std::memory_order_acq_rel) == count_ - 1) {
            team_.arrived_.store(0, std::memory_order_relaxed);
            for (Team::Counter &counter : team_.counters_) counter.taken.store(0, std::memory_order_relaxed);
            team_.round_.store(round + 1, std::memory_order_release);
            return;
        }
        spin_while(round);
    }

    // The number of a piece of the current job that nobody else has (0, 1, 2, ...).
    int64_t take() { return team_.counters_[job_].taken.fetch_add(1, std::memory_order_relaxed); }

    // Pieces are counted from 0 again, without waiting for those who still have some of the last job.
    void next_job() { job_++; }

    Team &team() { return team_; }

  private:
    void spin_while(int round);

    Team &team_;
    const int index_, count_;
    int job_ = 0;
};
