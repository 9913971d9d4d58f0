#include "cpu/stgcn_block/stgcn_kernels.h"

#include "cpu/stgcn_block/stgcn_edges.h"
#include "cpu/stgcn_block/stgcn_gemm.h"
#include "cpu/stgcn_block/stgcn_outer.h"
#include "cpu/stgcn_block/stgcn_rows.h"
#include "cpu/stgcn_block/stgcn_spectral.h"

namespace aimclr::cpu {
namespace stgcn {
namespace {

template <typename Tl, typename T>
Kernels<T> kernels_of() {
    return {Tl::kLanes,
            &product<Tl, T>,
            &outer<Tl, T>,
            &activation<Tl, T>,
            &moments<Tl, T>,
            &finish<Tl, T>,
            &norm_sums<Tl, T>,
            &norm_backward<Tl, T>,
            &relu_backward<Tl, T>,
            &gather<Tl, T>,
            &scatter<Tl, T>,
            &mask<Tl, T>,
            &spectral_input<Tl, T>,
            &spectral_output<Tl, T>,
            &add<Tl, T>};
}

}  // namespace
}  // namespace stgcn

namespace AIMCLR_LEVEL {

template <typename T>
stgcn::Kernels<T> stgcn_kernels() {
    return stgcn::kernels_of<stgcn::Tile<T, vector_bytes(Level::AIMCLR_LEVEL)>, T>();
}

template <typename T>
stgcn::Kernels<T> stgcn_scalar_kernels() {
    return stgcn::kernels_of<stgcn::Tile<T, sizeof(T)>, T>();
}

template stgcn::Kernels<float> stgcn_kernels();
template stgcn::Kernels<double> stgcn_kernels();
template stgcn::Kernels<float> stgcn_scalar_kernels();
template stgcn::Kernels<double> stgcn_scalar_kernels();

}  // namespace AIMCLR_LEVEL
}  // namespace aimclr::cpu
