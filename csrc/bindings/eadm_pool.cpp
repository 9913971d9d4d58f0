#include "cpu/eadm_pool/eadm_pool.h"

#include "bindings/binding.h"

namespace {

template <typename T>
void define_eadm_pool(pybind11::module_& module) {
    using namespace aimclr;
    using bindings::cpu_name, bindings::define_call;
    define_call<&cpu::eadm_pool_forward<T>>(module, cpu_name<T>("eadm_pool_forward"), "threads");
    define_call<&cpu::eadm_pool_backward<T>>(module, cpu_name<T>("eadm_pool_backward"), "threads");
}

}  // namespace

AIMCLR_BINDINGS(eadm_pool, module) {
    using namespace aimclr;
    define_eadm_pool<float>(module);
    define_eadm_pool<double>(module);
    define_eadm_pool<cpu::Float16>(module);
    define_eadm_pool<BFloat16>(module);
    bindings::define_call<&cpu::eadm_pool_workspace>(module, "eadm_pool_workspace_cpu",
                                                     "real_bytes", "threads");
}
