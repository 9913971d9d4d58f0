// The table of kernels for maps of bfloat16, of each level.
#pragma once

#include "cpu/levels.h"
#include "cpu/stgcn_block/stgcn_bf16_tile.h"

namespace aimclr::cpu {

AIMCLR_EACH_BF16_LEVEL(
    // The kernels over the level's widest vectors.
    AIMCLR_LEVEL_ENTRY stgcn::Bf16Kernels stgcn_bf16_kernels();

    // The same over single elements, for channels that fill no vectors.
    AIMCLR_LEVEL_ENTRY stgcn::Bf16Kernels stgcn_bf16_scalar_kernels();)

}  // namespace aimclr::cpu
