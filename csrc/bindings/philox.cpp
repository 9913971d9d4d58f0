#include "cpu/philox/philox.h"

#include "bindings/binding.h"
#include "cuda/philox/philox.h"

AIMCLR_BINDINGS(philox, module) {
    using namespace aimclr;
    bindings::define<&cpu::philox4x32>(module, "philox4x32_cpu");
    bindings::define<&cpu::uniform>(module, "philox_uniform_cpu");
    bindings::define<&cpu::bounded>(module, "philox_bounded_cpu");
    bindings::define<&cpu::normal>(module, "philox_normal_cpu");
#ifdef AIMCLR_WITH_CUDA
    bindings::define<&cuda::philox4x32>(module, "philox4x32_cuda");
    bindings::define<&cuda::uniform>(module, "philox_uniform_cuda");
    bindings::define<&cuda::bounded>(module, "philox_bounded_cuda");
    bindings::define<&cuda::normal>(module, "philox_normal_cuda");
#endif
}
