// The table of kernels for one width of vectors. Included once by each stgcn_kernels_*.cpp, which
// the build compiles for the instruction set that its name ends in.
#pragma once

#include "cpu/stgcn_block/stgcn_edges.h"
#include "cpu/stgcn_block/stgcn_gemm.h"
#include "cpu/stgcn_block/stgcn_outer.h"
#include "cpu/stgcn_block/stgcn_rows.h"
#include "cpu/stgcn_block/stgcn_spectral.h"
#include "cpu/stgcn_block/stgcn_tile.h"

namespace aimclr::cpu::stgcn {

template <typename T, int kBytes>
Kernels<T> kernels() {
    using Tl = Tile<T, kBytes>;
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

}  // namespace aimclr::cpu::stgcn
