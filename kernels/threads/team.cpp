#include "team.h"

#include <sched.h>

// Looks for some 20 microseconds, which is what an operation's uneven ends cost; then lets others have
// the core between looks, as another process, or the last thread itself, may be waiting for it.
void Thread::spin_while(int round) {
    constexpr int looks = 2000;
    for (int i = 0; team_.round_.load(std::memory_order_acquire) == round; i++) {
        if (i > looks) {
            sched_yield();
            continue;
        }
#if defined(__x86_64__)
        _mm_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#endif
    }
}
