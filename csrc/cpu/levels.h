// One source for several instruction sets.
//
// CMake compiles each csrc/cpu/*/*_kernels.cpp once a level: the baseline that every processor has,
// and with GCC 12 or newer on x86-64 AVX2 and FMA (v3) and AVX-512 (v4), psABI's names for them.
// What such a file offers lies in the namespace AIMCLR_LEVEL, is declared by AIMCLR_EACH_LEVEL and
// called through AIMCLR_AT_LEVEL:
//
//     // my_op_kernels.h
//     AIMCLR_EACH_LEVEL(template <typename T> AIMCLR_LEVEL_ENTRY void my_op(const MyOp<T>& call);)
//
//     // my_op_kernels.cpp
//     namespace aimclr::cpu::AIMCLR_LEVEL {
//     template <typename T> void my_op(const MyOp<T>& call) { ... }
//     template void my_op(const MyOp<float>&);
//     }
//
//     // my_op.cpp, in namespace aimclr::cpu
//     AIMCLR_AT_LEVEL(level(), my_op(call));
//
// A file whose name ends in _bf16_kernels.cpp is compiled for two more levels, which multiply
// bfloat16: AVX512-BF16 (v4_bf16) and AMX (amx). AIMCLR_EACH_BF16_LEVEL and AIMCLR_AT_BF16_LEVEL
// are for those; all other files are at v4 there.
//
// All else in a level's object is local to it (-fwhole-program), templates and inline functions of
// headers included: the linker must not give the baseline a copy that uses AVX-512. The build fails
// where one is not (cmake/CheckLevel.cmake).
#pragma once

namespace aimclr::cpu {

enum class Level : int { baseline, v3, v4, v4_bf16, amx };

// The highest level that the processor has and the library was compiled for.
Level highest_level();

// The level in use: the highest, or the one last set. A call reads it once.
Level level();

// Uses a level from now on, in all threads; calls under way keep theirs. False if it is above the
// highest.
bool set_level(Level level);

// Bytes of a level's widest vectors.
constexpr int vector_bytes(Level level) {
    return level < Level::v4 ? 16 << static_cast<int>(level) : 64;
}

}  // namespace aimclr::cpu

#ifdef AIMCLR_X86_LEVELS
#define AIMCLR_LEVEL_ENTRY [[gnu::externally_visible]]
#define AIMCLR_EACH_LEVEL(...) \
    namespace baseline {       \
    __VA_ARGS__                \
    }                          \
    namespace v3 {             \
    __VA_ARGS__                \
    }                          \
    namespace v4 {             \
    __VA_ARGS__                \
    }
#define AIMCLR_AT_LEVEL(level, ...)                                         \
    ((level) >= ::aimclr::cpu::Level::v4   ? ::aimclr::cpu::v4::__VA_ARGS__ \
     : (level) == ::aimclr::cpu::Level::v3 ? ::aimclr::cpu::v3::__VA_ARGS__ \
                                           : ::aimclr::cpu::baseline::__VA_ARGS__)
#else
#define AIMCLR_LEVEL_ENTRY
#define AIMCLR_EACH_LEVEL(...) \
    namespace baseline {       \
    __VA_ARGS__                \
    }
#define AIMCLR_AT_LEVEL(level, ...) (static_cast<void>(level), ::aimclr::cpu::baseline::__VA_ARGS__)
#endif

#ifdef AIMCLR_BF16_LEVELS
#define AIMCLR_EACH_BF16_LEVEL(...) \
    AIMCLR_EACH_LEVEL(__VA_ARGS__)  \
    namespace v4_bf16 {             \
    __VA_ARGS__                     \
    }                               \
    namespace amx {                 \
    __VA_ARGS__                     \
    }
#define AIMCLR_AT_BF16_LEVEL(level, ...)                                              \
    ((level) == ::aimclr::cpu::Level::amx       ? ::aimclr::cpu::amx::__VA_ARGS__     \
     : (level) == ::aimclr::cpu::Level::v4_bf16 ? ::aimclr::cpu::v4_bf16::__VA_ARGS__ \
                                                : AIMCLR_AT_LEVEL(level, __VA_ARGS__))
#else
#define AIMCLR_EACH_BF16_LEVEL(...) AIMCLR_EACH_LEVEL(__VA_ARGS__)
#define AIMCLR_AT_BF16_LEVEL(level, ...) AIMCLR_AT_LEVEL(level, __VA_ARGS__)
#endif
