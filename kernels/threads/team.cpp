#include "team.h"

#include <sched.h>

// Looks for some microseconds, which is what an operation's uneven ends cost; then lets others have
// the core between looks, as another process may be keeping the last thread from its own.
void Thread::spin_while(int round) {
    constexpr int looks = 20000;
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
