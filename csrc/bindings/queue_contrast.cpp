#include "cpu/queue_contrast/queue_contrast.h"

#include "bindings/binding.h"

namespace {

template <typename T>
void define_for(pybind11::module_& module) {
    using namespace aimclr::bindings;
    define_call<&aimclr::cpu::queue_contrast<T>>(module, cpu_name<T>("queue_contrast"), "threads");
}

}  // namespace

AIMCLR_BINDINGS(queue_contrast, module) {
    using namespace aimclr;
    define_for<float>(module);
    define_for<double>(module);
    bindings::define_call<&cpu::queue_contrast_workspace>(module, "queue_contrast_workspace_cpu",
                                                          "threads", "element_bytes");
}
