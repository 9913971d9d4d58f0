#include "cpu/stgcn_block/stgcn_bf16_kernels.h"

#include "cpu/stgcn_block/stgcn_bf16_amx.h"
#include "cpu/stgcn_block/stgcn_bf16_product.h"
#include "cpu/stgcn_block/stgcn_bf16_rows.h"
#include "cpu/stgcn_block/stgcn_bf16_spectral.h"

namespace aimclr::cpu {
namespace stgcn {
namespace {

template <typename Tl>
Bf16Kernels bf16_kernels_of() {
    Bf16Kernels kernels = {Tl::kLanes,
                           &bf16_product<Tl, BFloat16>,
                           &bf16_product<Tl, float>,
                           &bf16_outer<Tl>,
                           &bf16_widen<Tl>,
                           &bf16_activation<Tl>,
                           &moments<Tl, float, BFloat16>,
                           &finish<Tl, float, BFloat16>,
                           &norm_sums<Tl, float, BFloat16>,
                           &bf16_norm_backward<Tl>,
                           &relu_backward<Tl, float, BFloat16>,
                           &bf16_pairs<Tl>,
                           &bf16_gather<Tl>,
                           &bf16_scatter<Tl>,
                           &bf16_activation_planes<Tl>,
                           &bf16_gradient_planes<Tl>,
                           &bf16_tap_planes<Tl>,
                           &bf16_restore<Tl>,
                           &spectral_output<Tl, float>,
                           &add<Tl, float>};
#ifdef __AMX_BF16__
    if constexpr (Tl::kLanes == kTileRows) {
        kernels.product = &amx_product<AmxTiles, Tl, BFloat16>;
        kernels.product_to_float = &amx_product<AmxTiles, Tl, float>;
        kernels.outer = &amx_outer<AmxTiles>;
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
