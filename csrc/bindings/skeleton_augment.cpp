#include "cpu/skeleton_augment/skeleton_augment.h"

#include <pybind11/stl.h>

#include <cstddef>
#include <utility>
#include <vector>

#include "bindings/binding.h"
#include "cpu/skeleton_augment/skeleton_augment_emulated.h"
#include "cuda/skeleton_augment/skeleton_augment.h"

namespace aimclr::bindings {
namespace {

// `views` holds the addresses of the three views of each stream, stream after stream.
augment::Outputs make_outputs(const std::vector<int>& streams,
                              const std::vector<std::uintptr_t>& views) {
    augment::Outputs outputs{};
    if (streams.empty() || streams.size() > 3 || views.size() != 3 * streams.size()) {
        throw pybind11::value_error(
            "SkeletonAugmentCall: one to three streams, with three views each");
    }
    outputs.streams = static_cast<int>(streams.size());
    for (std::size_t i = 0; i < streams.size(); ++i) {
        outputs.stream[i] = static_cast<augment::Stream>(streams[i]);
        for (std::size_t view = 0; view < augment::kViews; ++view) {
            outputs.view[i][view] = to_native<void*>(views[3 * i + view]);
        }
    }
    return outputs;
}

augment::Chain make_chain(int frames, int joints, int bodies, std::uintptr_t swap,
                          std::uintptr_t parents, int crop_ratio, int blur_taps,
                          bool blur_normalize) {
    if (crop_ratio < 1) {
        throw pybind11::value_error("AugmentChain: crop_ratio must be at least 1");
    }
    return {{frames, joints, bodies},
            {to_native<const std::int32_t*>(swap), to_native<const std::int32_t*>(parents)},
            frames / crop_ratio,
            blur_taps,
            blur_normalize};
}

augment::Settings make_settings(float shear_amplitude, float spatial_flip_prob,
                                float rotation_main_deg, float rotation_minor_deg, float noise_prob,
                                float noise_std, float blur_prob, double blur_sigma_min,
                                double blur_sigma_max, float axis_mask_prob,
                                float temporal_flip_prob) {
    return {shear_amplitude,
            spatial_flip_prob,
            rotation_main_deg,
            rotation_minor_deg,
            noise_prob,
            noise_std,
            blur_prob,
            static_cast<float>(blur_sigma_min),
            static_cast<float>(blur_sigma_max - blur_sigma_min),
            axis_mask_prob,
            temporal_flip_prob};
}

augment::DrawnCall make_call(std::uintptr_t data, int data_dtype, float scale,
                             std::int64_t sequences, std::uintptr_t index, int index_bytes,
                             std::int64_t samples, const std::vector<int>& streams,
                             const std::vector<std::uintptr_t>& views, int dtype,
                             const augment::Chain& chain, const augment::Settings& settings,
                             std::pair<std::uint32_t, std::uint32_t> key, std::uint32_t step,
                             std::uintptr_t step_tensor, std::uint32_t offset) {
    return {to_native<const void*>(data),
            static_cast<DataType>(data_dtype),
            scale,
            sequences,
            to_native<const void*>(index),
            index_bytes,
            samples,
            make_outputs(streams, views),
            static_cast<DataType>(dtype),
            chain,
            settings,
            {key.first, key.second, step, offset},
            to_native<const std::int64_t*>(step_tensor)};
}

}  // namespace
}  // namespace aimclr::bindings

AIMCLR_BINDINGS(skeleton_augment, module) {
    namespace py = pybind11;
    using namespace aimclr;
    using py::arg;
    py::class_<augment::DrawnCall>(module, "SkeletonAugmentCall")
        .def(py::init(&bindings::make_call), py::kw_only(), arg("data"), arg("data_dtype"),
             arg("scale"), arg("sequences"), arg("index"), arg("index_bytes"), arg("samples"),
             arg("streams"), arg("views"), arg("dtype"), arg("chain"), arg("settings"), arg("key"),
             arg("step"), arg("step_tensor"), arg("offset"));
    py::class_<augment::Chain>(module, "AugmentChain")
        .def(py::init(&bindings::make_chain), arg("frames"), arg("joints"), arg("bodies"),
             arg("swap"), arg("parents"), arg("crop_ratio"), arg("blur_taps"),
             arg("blur_normalize"));
    py::class_<augment::Settings>(module, "AugmentSettings")
        .def(py::init(&bindings::make_settings), py::kw_only(), arg("shear_amplitude"),
             arg("spatial_flip_prob"), arg("rotation_main_deg"), arg("rotation_minor_deg"),
             arg("noise_prob"), arg("noise_std"), arg("blur_prob"), arg("blur_sigma_min"),
             arg("blur_sigma_max"), arg("axis_mask_prob"), arg("temporal_flip_prob"));
    bindings::define<&cpu::skeleton_augment>(module, "skeleton_augment_cpu");
    bindings::define<&cpu::skeleton_augment_emulated>(module, "skeleton_augment_emulated");
    bindings::define<&cpu::skeleton_augment_draws>(module, "skeleton_augment_draws");
#ifdef AIMCLR_WITH_CUDA
    bindings::define<&cuda::skeleton_augment>(module, "skeleton_augment_cuda");
    module.def("skeleton_augment_workspace", [](const augment::Chain& chain, std::int64_t n) {
        std::int64_t bytes = 0;
        bindings::raise_if_error(cuda::skeleton_augment_workspace(chain, n, bytes));
        return bytes;
    });
#endif
}
