#include "cpu/philox/philox.h"

#include "bindings/binding.h"
#include "cuda/philox/philox.h"

AIMCLR_BINDINGS(philox, module) {
    using namespace aimclr;
    using bindings::define_call;
    define_call<&cpu::philox4x32>(module, "philox4x32_cpu", "threads");
    define_call<&cpu::uniform>(module, "philox_uniform_cpu", "words", "out", "n");
    define_call<&cpu::bounded>(module, "philox_bounded_cpu", "words", "bound", "out", "n");
    define_call<&cpu::normal>(module, "philox_normal_cpu", "words", "out", "n");
#ifdef AIMCLR_WITH_CUDA
    define_call<&cuda::philox4x32>(module, "philox4x32_cuda", "cuda_stream");
    define_call<&cuda::uniform>(module, "philox_uniform_cuda", "words", "out", "n", "cuda_stream");
    define_call<&cuda::bounded>(module, "philox_bounded_cuda", "words", "bound", "out", "n",
                                "cuda_stream");
    define_call<&cuda::normal>(module, "philox_normal_cuda", "words", "out", "n", "cuda_stream");
#endif
}
