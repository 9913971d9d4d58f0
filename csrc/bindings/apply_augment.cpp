#include "cpu/apply_augment/apply_augment.h"

#include "bindings/binding.h"
#include "cpu/skeleton_augment/skeleton_augment_emulated.h"
#include "cuda/apply_augment/apply_augment.h"

AIMCLR_BINDINGS(apply_augment, module) {
    using namespace aimclr;
    using bindings::define_call;
    define_call<&cpu::apply_augment>(module, "apply_augment_cpu", "threads");
    define_call<&cpu::apply_augment_emulated>(module, "apply_augment_emulated", "shared",
                                              "threads");
#ifdef AIMCLR_WITH_CUDA
    define_call<&cuda::apply_augment>(module, "apply_augment_cuda", "workspace", "workspace_bytes",
                                      "cuda_stream");
    define_call<&cuda::apply_augment_workspace>(module, "apply_augment_workspace_cuda", "samples",
                                                "type");
#endif
}
