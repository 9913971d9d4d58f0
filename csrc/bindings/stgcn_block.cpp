#include "cpu/stgcn_block/stgcn_block.h"

#include "bindings/binding.h"

AIMCLR_BINDINGS(stgcn_block, module) {
    using namespace aimclr;
    bindings::define<&cpu::stgcn_block_forward<float>>(module, "stgcn_block_forward_float32_cpu");
    bindings::define<&cpu::stgcn_block_forward<double>>(module, "stgcn_block_forward_float64_cpu");
    bindings::define<&cpu::stgcn_block_backward<float>>(module, "stgcn_block_backward_float32_cpu");
    bindings::define<&cpu::stgcn_block_backward<double>>(module,
                                                         "stgcn_block_backward_float64_cpu");
    using Int = std::int64_t;
    module.def("stgcn_block_workspace_cpu",
               [](bool backward, Int batch, Int in, Int out, Int frames, Int joints, Int parts,
                  Int taps, Int stride, bool residual, int threads, Int element_bytes) {
                   const cpu::StgcnShape shape{batch, in, out, frames, joints, parts, taps, stride};
                   Int bytes = 0;
                   bindings::raise_if_error(cpu::stgcn_block_workspace(
                       backward, shape, residual, threads, element_bytes, bytes));
                   return bytes;
               });
}
