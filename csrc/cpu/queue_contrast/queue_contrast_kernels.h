// What queue_contrast has for each instruction set.
#pragma once

#include "cpu/levels.h"
#include "cpu/queue_contrast/queue_contrast_plan.h"

namespace aimclr::cpu {

AIMCLR_EACH_LEVEL(
    // Lays out the rows of the three views for `contrast_scan`.
    template <typename T> AIMCLR_LEVEL_ENTRY void contrast_pack(const contrast::Call<T>& call);

    // One block of rows against one chunk of the queue. `follows`: the same thread has just done
    // the chunk before.
    template <typename T>
    AIMCLR_LEVEL_ENTRY void contrast_scan(const contrast::Call<T>& call, contrast::Index block,
                                          contrast::Index chunk, bool follows, T* scratch);

    // Losses, gradients and neighbors of row `i` of the batch from all chunks.
    template <typename T>
    AIMCLR_LEVEL_ENTRY void contrast_finish(const contrast::Call<T>& call, contrast::Index i);)

}  // namespace aimclr::cpu
