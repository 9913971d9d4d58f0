#include "cpu/apply_augment/apply_augment.h"

#include <pybind11/stl.h>

#include <array>

#include "bindings/binding.h"
#include "cpu/skeleton_augment/skeleton_augment_emulated.h"
#include "cuda/apply_augment/apply_augment.h"

namespace aimclr::bindings {
namespace {

// Pointers are addresses, 0 for null; those of `params` in the order of AugmentParams, without the
// noise.
augment::GivenCall make_call(bool backward, int type, std::uintptr_t input, std::uintptr_t noise,
                             std::uintptr_t output, std::uintptr_t noise_output, int stream,
                             std::int64_t samples, const std::array<std::uintptr_t, 7>& params,
                             const augment::Chain& chain) {
    return {backward,
            static_cast<DataType>(type),
            to_native<const void*>(input),
            to_native<const void*>(noise),
            to_native<void*>(output),
            to_native<void*>(noise_output),
            static_cast<augment::Stream>(stream),
            samples,
            {to_native<const std::int64_t*>(params[0]), to_native<const void*>(params[1]),
             to_native<const bool*>(params[2]), to_native<const void*>(params[3]),
             to_native<const void*>(params[4]), to_native<const std::int64_t*>(params[5]),
             to_native<const bool*>(params[6])},
            chain};
}

}  // namespace
}  // namespace aimclr::bindings

AIMCLR_BINDINGS(apply_augment, module) {
    namespace py = pybind11;
    using namespace aimclr;
    using py::arg;
    py::class_<augment::GivenCall>(module, "ApplyAugmentCall")
        .def(py::init(&bindings::make_call), py::kw_only(), arg("backward"), arg("dtype"),
             arg("input"), arg("noise"), arg("output"), arg("noise_output"), arg("stream"),
             arg("samples"), arg("params"), arg("chain"));
    bindings::define<&cpu::apply_augment>(module, "apply_augment_cpu");
    bindings::define<&cpu::apply_augment_emulated>(module, "apply_augment_emulated");
#ifdef AIMCLR_WITH_CUDA
    bindings::define<&cuda::apply_augment>(module, "apply_augment_cuda");
    module.def("apply_augment_workspace",
               [](const augment::Chain& chain, std::int64_t n, int dtype) {
                   std::int64_t bytes = 0;
                   bindings::raise_if_error(cuda::apply_augment_workspace(chain, n, dtype, bytes));
                   return bytes;
               });
#endif
}
