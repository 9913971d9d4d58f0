// The table of kernels of each level.
#pragma once

#include "cpu/levels.h"
#include "cpu/stgcn_block/stgcn_tile.h"

namespace aimclr::cpu {

AIMCLR_EACH_LEVEL(
    // The kernels over the level's widest vectors.
    template <typename T> AIMCLR_LEVEL_ENTRY stgcn::Kernels<T> stgcn_kernels();

    // The same over single elements, for channels that fill no vectors.
    template <typename T> AIMCLR_LEVEL_ENTRY stgcn::Kernels<T> stgcn_scalar_kernels();)

}  // namespace aimclr::cpu
