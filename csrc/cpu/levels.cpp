#include "cpu/levels.h"

#include <atomic>

namespace aimclr::cpu {
namespace {

std::atomic<Level>& current() {
    static std::atomic<Level> value{highest_level()};
    return value;
}

}  // namespace

Level highest_level() {
#ifdef AIMCLR_X86_LEVELS
    if (__builtin_cpu_supports("x86-64-v4")) {
        return Level::v4;
    }
    if (__builtin_cpu_supports("x86-64-v3")) {
        return Level::v3;
    }
#endif
    return Level::baseline;
}

Level level() {
    return current().load(std::memory_order_relaxed);
}

bool set_level(Level level) {
    if (level > highest_level()) {
        return false;
    }
    current().store(level, std::memory_order_relaxed);
    return true;
}

}  // namespace aimclr::cpu
