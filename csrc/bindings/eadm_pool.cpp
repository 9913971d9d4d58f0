#include "cpu/eadm_pool/eadm_pool.h"

#include "bindings/binding.h"

namespace {

// The element type is part of the name: eadm_pool_forward_float32_cpu and so on.
template <typename T>
void define_for(pybind11::module_& module, const std::string& dtype) {
    using namespace aimclr;
    bindings::define<&cpu::eadm_pool_forward<T>>(module,
                                                 ("eadm_pool_forward_" + dtype + "_cpu").c_str());
    bindings::define<&cpu::eadm_pool_backward<T>>(module,
                                                  ("eadm_pool_backward_" + dtype + "_cpu").c_str());
}

}  // namespace

AIMCLR_BINDINGS(eadm_pool, module) {
    using namespace aimclr;
    module.def("eadm_pool_scratch_bytes", &cpu::eadm_pool_scratch_bytes);
    define_for<float>(module, "float32");
    define_for<double>(module, "float64");
    define_for<cpu::BFloat16>(module, "bfloat16");
    define_for<cpu::Float16>(module, "float16");
}
