#include "cpu/stgcn_block/stgcn_bf16_kernels.h"

#include "cpu/stgcn_block/stgcn_bf16_amx.h"
#include "cpu/stgcn_block/stgcn_bf16_product.h"
#include "cpu/stgcn_block/stgcn_bf16_rows.h"
#include "cpu/stgcn_block/stgcn_bf16_spectral.h"

namespace aimclr::cpu {
namespace stgcn {
namespace {

// `kKernel` with a copy of its arguments, which no store through a vector can change: they need not
// be read again.
template <auto kKernel, typename Call>
void copied(const Call& given) {
    const Call call = given;
    kKernel(call);
}

template <typename Tl>
Bf16Kernels bf16_kernels_of() {
    using T = float;
    using M = BFloat16;
    Bf16Kernels kernels = {Tl::kLanes,
                           &bf16_product<Tl, BFloat16>,
                           &bf16_product<Tl, float>,
                           &bf16_outer<Tl>,
                           &bf16_widen<Tl>,
                           &copied<&bf16_activation<Tl>, Bf16Activation>,
                           &copied<&moments<Tl, T, M>, Moments<T, M>>,
                           &copied<&finish<Tl, T, M>, Finish<T, M>>,
                           &copied<&norm_sums<Tl, T, M>, NormSums<T, M>>,
                           &copied<&bf16_norm_backward<Tl>, Bf16NormBackward>,
                           &copied<&relu_backward<Tl, T, M>, ReluBackward<T, M>>,
                           &copied<&bf16_pairs<Tl>, Bf16Pairs>,
                           &bf16_gather<Tl>,
                           &bf16_scatter<Tl>,
                           &bf16_activation_planes<Tl>,
                           &bf16_gradient_planes<Tl>,
                           &bf16_tap_planes<Tl>,
                           &copied<&bf16_restore<Tl>, Bf16Restore>,
                           &spectral_output<Tl, float>,
                           &add<Tl, float>};
#ifdef __AMX_BF16__
    if constexpr (Tl::kLanes == kTileRows) {
        kernels.product = &amx_product<Tl, BFloat16>;
        kernels.product_to_float = &amx_product<Tl, float>;
        kernels.outer = &amx_outer;
    }
#endif
    return kernels;
}

}  // namespace
}  // namespace stgcn

namespace AIMCLR_LEVEL {

stgcn::Bf16Kernels stgcn_bf16_kernels() {
    return stgcn::bf16_kernels_of<stgcn::Tile<float, vector_bytes(Level::AIMCLR_LEVEL)>>();
}

stgcn::Bf16Kernels stgcn_bf16_scalar_kernels() {
    return stgcn::bf16_kernels_of<stgcn::Tile<float, sizeof(float)>>();
}

}  // namespace AIMCLR_LEVEL
}  // namespace aimclr::cpu
