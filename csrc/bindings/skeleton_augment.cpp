#include "cpu/skeleton_augment.h"

#include <pybind11/stl.h>

#include <cstddef>
#include <vector>

#include "bindings/binding.h"

namespace aimclr::bindings {
namespace {

// `views` holds the addresses of the three views of each stream, stream after stream.
augment::Outputs make_outputs(const std::vector<int>& streams,
                              const std::vector<std::uintptr_t>& views) {
    augment::Outputs outputs{};
    if (streams.empty() || streams.size() > 3 || views.size() != 3 * streams.size()) {
        throw pybind11::value_error("Outputs: one to three streams, with three views each");
    }
    outputs.streams = static_cast<int>(streams.size());
    for (std::size_t i = 0; i < streams.size(); ++i) {
        outputs.stream[i] = static_cast<augment::Stream>(streams[i]);
        for (std::size_t view = 0; view < augment::kViews; ++view) {
            outputs.view[i][view] = reinterpret_cast<void*>(views[3 * i + view]);
        }
    }
    return outputs;
}

}  // namespace
}  // namespace aimclr::bindings

AIMCLR_BINDINGS(skeleton_augment, module) {
    namespace py = pybind11;
    using namespace aimclr;
    using augment::Settings;
    py::class_<Settings>(module, "AugmentSettings")
        .def(py::init([](int crop_ratio, float shear_amplitude, float spatial_flip_prob,
                         float rotation_main_deg, float rotation_minor_deg, float noise_prob,
                         float noise_std, float blur_prob, int blur_taps, float blur_sigma_min,
                         float blur_sigma_range, bool blur_normalize, float axis_mask_prob,
                         float temporal_flip_prob) {
                 return Settings{crop_ratio,        shear_amplitude,    spatial_flip_prob,
                                 rotation_main_deg, rotation_minor_deg, noise_prob,
                                 noise_std,         blur_prob,          blur_taps,
                                 blur_sigma_min,    blur_sigma_range,   blur_normalize,
                                 axis_mask_prob,    temporal_flip_prob};
             }),
             py::kw_only(), py::arg("crop_ratio"), py::arg("shear_amplitude"),
             py::arg("spatial_flip_prob"), py::arg("rotation_main_deg"),
             py::arg("rotation_minor_deg"), py::arg("noise_prob"), py::arg("noise_std"),
             py::arg("blur_prob"), py::arg("blur_taps"), py::arg("blur_sigma_min"),
             py::arg("blur_sigma_range"), py::arg("blur_normalize"), py::arg("axis_mask_prob"),
             py::arg("temporal_flip_prob"));
    py::class_<augment::Outputs>(module, "AugmentOutputs")
        .def(py::init(&bindings::make_outputs), py::arg("streams"), py::arg("views"));
    bindings::define<&cpu::skeleton_augment>(module, "skeleton_augment_cpu");
    bindings::define<&cpu::skeleton_augment_draws>(module, "skeleton_augment_draws_cpu");
}
