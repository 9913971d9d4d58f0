#include "cpu/masked_pool/masked_pool.h"

#include "bindings/binding.h"

namespace {

template <typename T>
void define_masked_pool(pybind11::module_& module) {
    using namespace aimclr;
    using bindings::cpu_name, bindings::define_call;
    define_call<&cpu::masked_pool_forward<T>>(module, cpu_name<T>("masked_pool_forward"),
                                              "threads");
    define_call<&cpu::masked_pool_backward<T>>(module, cpu_name<T>("masked_pool_backward"),
                                               "threads");
}

}  // namespace

AIMCLR_BINDINGS(masked_pool, module) {
    define_masked_pool<float>(module);
    define_masked_pool<double>(module);
    define_masked_pool<aimclr::Half>(module);
    define_masked_pool<aimclr::BFloat16>(module);
}
