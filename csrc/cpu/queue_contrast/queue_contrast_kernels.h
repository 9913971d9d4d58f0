// What queue_contrast has for each instruction set.
#pragma once

#include "cpu/levels.h"
#include "cpu/queue_contrast/queue_contrast_plan.h"

namespace aimclr::cpu {

AIMCLR_EACH_LEVEL(
    // Lays out a stream's rows for `contrast_scan`.
    template <typename T> AIMCLR_LEVEL_ENTRY void contrast_pack(const contrast::Stream<T>& stream);

    // One block of a stream's rows against one chunk of its queue.
    template <typename T> AIMCLR_LEVEL_ENTRY void contrast_scan(const contrast::Call<T>& call,
                                                                const contrast::Stream<T>& stream,
                                                                contrast::Part part, T* scratch);

    // Losses, gradients and neighbors of row `i` of the batch, in all streams and sets, from all
    // chunks.
    template <typename T>
    AIMCLR_LEVEL_ENTRY void contrast_finish(const contrast::Call<T>& call, contrast::Index i);)

}  // namespace aimclr::cpu
