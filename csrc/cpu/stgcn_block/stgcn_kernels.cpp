#include "cpu/stgcn_block/stgcn_kernels.h"

namespace aimclr::cpu::stgcn {

#ifdef AIMCLR_X86_LEVELS
extern template Kernels<float> kernels<float, 32>();
extern template Kernels<double> kernels<double, 32>();
extern template Kernels<float> kernels<float, 64>();
extern template Kernels<double> kernels<double, 64>();
#endif

template <typename T>
Kernels<T> choose_kernels(Index channels, int vector_bytes) {
    const auto fits = [=](int bytes) {
        return (vector_bytes == 0 || vector_bytes >= bytes) &&
               channels % (bytes / static_cast<Index>(sizeof(T))) == 0;
    };
#ifdef AIMCLR_X86_LEVELS
    if (fits(64) && __builtin_cpu_supports("x86-64-v4")) {
        return kernels<T, 64>();
    }
    if (fits(32) && __builtin_cpu_supports("x86-64-v3")) {
        return kernels<T, 32>();
    }
#endif
    return fits(16) ? kernels<T, 16>() : kernels<T, sizeof(T)>();
}

template Kernels<float> choose_kernels<float>(Index, int);
template Kernels<double> choose_kernels<double>(Index, int);

}  // namespace aimclr::cpu::stgcn
