#include "cpu/skeleton_augment/skeleton_augment.h"

#include "bindings/binding.h"
#include "cpu/skeleton_augment/skeleton_augment_emulated.h"
#include "cuda/skeleton_augment/skeleton_augment.h"

AIMCLR_BINDINGS(skeleton_augment, module) {
    using namespace aimclr;
    using bindings::define_call;
    define_call<&cpu::skeleton_augment>(module, "skeleton_augment_cpu", "threads");
    define_call<&cpu::skeleton_augment_draws>(module, "skeleton_augment_draws_cpu");
    define_call<&cpu::skeleton_augment_emulated>(module, "skeleton_augment_emulated", "shared",
                                                 "threads", "parts");
    define_call<&cpu::skeleton_augment_parts>(module, "skeleton_augment_parts_emulated", "samples",
                                              "room");
#ifdef AIMCLR_WITH_CUDA
    define_call<&cuda::skeleton_augment>(module, "skeleton_augment_cuda", "data_on_host",
                                         "workspace", "workspace_bytes", "cuda_stream");
    define_call<&cuda::skeleton_augment_workspace>(module, "skeleton_augment_workspace_cuda",
                                                   "samples");
#endif
}
