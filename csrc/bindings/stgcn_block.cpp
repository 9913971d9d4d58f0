#include "cpu/stgcn_block.h"

#include "bindings/binding.h"

AIMCLR_BINDINGS(stgcn_block, module) {
    using namespace aimclr;
    bindings::define<&cpu::stgcn_block_forward<float>>(module, "stgcn_block_forward_float32_cpu");
    bindings::define<&cpu::stgcn_block_forward<double>>(module, "stgcn_block_forward_float64_cpu");
    bindings::define<&cpu::stgcn_block_backward<float>>(module, "stgcn_block_backward_float32_cpu");
    bindings::define<&cpu::stgcn_block_backward<double>>(module,
                                                         "stgcn_block_backward_float64_cpu");
    module.def("stgcn_block_workspace_cpu", &cpu::stgcn_block_workspace);
}
