#include "cpu/levels.h"

#include <atomic>

#if defined(AIMCLR_BF16_LEVELS) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace aimclr::cpu {
namespace {

#ifdef AIMCLR_BF16_LEVELS
// Asks the kernel for the state of AMX's tiles, for all threads of the process: without it the
// first of their instructions is illegal.
bool tiles_permitted() {
#if defined(__linux__) && defined(SYS_arch_prctl)
    constexpr long kRequestPermission = 0x1023, kTileData = 18;  // asm/prctl.h
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
    return false;
#endif
}
#endif

Level found_level() {
#ifdef AIMCLR_X86_LEVELS
    if (__builtin_cpu_supports("x86-64-v4")) {
#ifdef AIMCLR_BF16_LEVELS
        if (__builtin_cpu_supports("avx512bf16")) {
            const bool tiles =
                __builtin_cpu_supports("amx-bf16") && __builtin_cpu_supports("amx-tile");
            return tiles && tiles_permitted() ? Level::amx : Level::v4_bf16;
        }
#endif
        return Level::v4;
    }
    if (__builtin_cpu_supports("x86-64-v3")) {
        return Level::v3;
    }
#endif
    return Level::baseline;
}

std::atomic<Level>& current() {
    static std::atomic<Level> value{highest_level()};
    return value;
}

}  // namespace

Level highest_level() {
    static const Level found = found_level();
    return found;
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
