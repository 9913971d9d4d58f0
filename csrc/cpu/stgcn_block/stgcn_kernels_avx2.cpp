#ifdef __AVX2__

#include "cpu/stgcn_block/stgcn_kernels.h"

namespace aimclr::cpu::stgcn {

template Kernels<float> kernels<float, 32>();
template Kernels<double> kernels<double, 32>();

}  // namespace aimclr::cpu::stgcn

#endif
