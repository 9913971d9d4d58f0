#include "cpu/skelemix/skelemix.h"

#include "bindings/binding.h"
#include "cuda/skelemix/skelemix.h"

AIMCLR_BINDINGS(skelemix, module) {
    using namespace aimclr;
    using bindings::define_call;
    define_call<&cpu::skelemix>(module, "skelemix_cpu", "threads");
    define_call<&cpu::skelemix_emulated>(module, "skelemix_emulated", "threads");
#ifdef AIMCLR_WITH_CUDA
    define_call<&cuda::skelemix>(module, "skelemix_cuda", "cuda_stream");
#endif
}
