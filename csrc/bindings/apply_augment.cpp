#include "cpu/apply_augment.h"

#include <pybind11/stl.h>

#include <array>

#include "bindings/binding.h"
#include "cpu/skeleton_augment_emulated.h"
#include "cuda/apply_augment.h"

namespace aimclr::bindings {
namespace {

// Addresses in the order of AugmentParams, without the noise; 0 is off.
augment::GivenArrays make_params(const std::array<std::uintptr_t, 7>& addresses) {
    return {
        to_native<const std::int64_t*>(addresses[0]), to_native<const void*>(addresses[1]),
        to_native<const bool*>(addresses[2]),         to_native<const void*>(addresses[3]),
        to_native<const void*>(addresses[4]),         to_native<const std::int64_t*>(addresses[5]),
        to_native<const bool*>(addresses[6])};
}

}  // namespace
}  // namespace aimclr::bindings

AIMCLR_BINDINGS(apply_augment, module) {
    using namespace aimclr;
    pybind11::class_<augment::GivenArrays>(module, "AugmentParams")
        .def(pybind11::init(&bindings::make_params), pybind11::arg("addresses"));
    bindings::define<&cpu::apply_augment>(module, "apply_augment_cpu");
    bindings::define<&cpu::apply_augment_backward>(module, "apply_augment_backward_cpu");
    bindings::define<&cpu::apply_augment_emulated>(module, "apply_augment_emulated");
    bindings::define<&cpu::apply_augment_backward_emulated>(module,
                                                            "apply_augment_backward_emulated");
#ifdef AIMCLR_WITH_CUDA
    bindings::define<&cuda::apply_augment>(module, "apply_augment_cuda");
    bindings::define<&cuda::apply_augment_backward>(module, "apply_augment_backward_cuda");
    module.def("apply_augment_workspace",
               [](const augment::Chain& chain, std::int64_t n, bool wide) {
                   std::int64_t bytes = 0;
                   bindings::raise_if_error(cuda::apply_augment_workspace(chain, n, wide, bytes));
                   return bytes;
               });
#endif
}
