#ifdef __AVX512F__

#include "cpu/stgcn_block/stgcn_kernels.h"

namespace aimclr::cpu::stgcn {

template Kernels<float> kernels<float, 64>();
template Kernels<double> kernels<double, 64>();

}  // namespace aimclr::cpu::stgcn

#endif
