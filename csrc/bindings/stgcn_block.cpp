#include "cpu/stgcn_block/stgcn_block.h"

#include "bindings/binding.h"

namespace {

template <typename T, typename M = T>
void define_stgcn_block(pybind11::module_& module) {
    using namespace aimclr;
    using bindings::cpu_name;
    using bindings::define_call;
    define_call<&cpu::stgcn_block_forward<T, M>>(module, cpu_name<M>("stgcn_block_forward"),
                                                 "threads");
    define_call<&cpu::stgcn_block_backward<T, M>>(module, cpu_name<M>("stgcn_block_backward"),
                                                  "grad_y", "threads");
}

}  // namespace

AIMCLR_BINDINGS(stgcn_block, module) {
    using namespace aimclr;
    define_stgcn_block<float>(module);
    define_stgcn_block<double>(module);
    define_stgcn_block<float, BFloat16>(module);
    bindings::define_call<&cpu::stgcn_block_workspace>(
        module, "stgcn_block_workspace_cpu", "residual", "backward", "element_bytes", "threads");
}
