// The threads that compute a graph together: they wait for each other, and share out work.
//
// Knows no operation. One OpenMP region holds a whole run of operations; in it every thread walks the
// same list, and meets the others at wait().

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

class Team {
  public:
    explicit Team(int size) : size_(size) {}
    int size() const { return size_; }

  private:
    friend class Thread;
    const int size_;
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<int> round_{0};
    alignas(64) std::atomic<int64_t> taken_{0};
};

class Thread {
  public:
    Thread(Team &team, int index) : team_(team), index_(index) {}

    int index() const { return index_; }
    int count() const { return team_.size_; }

    // Returns when all threads have come here. What one wrote before, all read after. Pieces are
    // counted from 0 again.
    void wait() {
        if (team_.size_ == 1) {
            team_.taken_.store(0, std::memory_order_relaxed);
            return;
        }
        const int round = team_.round_.load(std::memory_order_relaxed);
        if (team_.arrived_.fetch_add(1, std::memory_order_acq_rel) == team_.size_ - 1) {
            team_.arrived_.store(0, std::memory_order_relaxed);
            team_.taken_.store(0, std::memory_order_relaxed);
            team_.round_.store(round + 1, std::memory_order_release);
            return;
        }
        spin_while(round);
    }

    // The number of a piece of work that nobody else has (0, 1, 2, ...). Between two wait().
    int64_t take() { return team_.taken_.fetch_add(1, std::memory_order_relaxed); }

  private:
    void spin_while(int round);

    Team &team_;
    const int index_;
};
