#include "cpu/skeleton_augment.h"

#include <algorithm>
#include <atomic>

#include "common/skeleton_augment_call.h"
#include "cpu/parallel.h"
#include "cpu/skeleton_augment_view.h"

namespace aimclr::cpu {
namespace {

using augment::DrawnCall;
using augment::Settings;
using augment::Source;
using augment::View;

augment::Params<float> draw_params(const Settings& settings, Source source, View view,
                                   int padding) {
    Words4 blocks[augment::kExtremeBlocks];
    const int count = view == View::kExtreme ? augment::kExtremeBlocks : augment::kPlainBlocks;
    for (int i = 0; i < count; ++i) {
        blocks[i] = augment::draw_block(source, view, i);
    }
    return augment::params_from(blocks, view, padding, settings);
}

// The noise of one plane, drawn into the workspace: elements are numbered through all planes.
const float* draw_plane(Source source, View view, int axis, int size, float std,
                        Workspace<float>& workspace) {
    const std::int64_t begin = static_cast<std::int64_t>(axis) * size, end = begin + size;
    const std::int64_t first = begin / 4, last = (end + 3) / 4;
    loops::draw_noise(source, view, static_cast<std::uint32_t>(first),
                      static_cast<int>(last - first), std, workspace.noise());
    return workspace.noise() + begin % 4;
}

template <typename In, typename Out>
void write_sample(const DrawnCall& call, std::int64_t sample, Workspace<float>& workspace) {
    const augment::Shape shape = call.chain.shape;
    const std::int64_t elements = shape.elements();
    stage(static_cast<const In*>(call.data) + call.sequence(sample) * elements, call.scale,
          call.chain, workspace);
    const Source source = call.source_of(sample);
    for (int i = 0; i < augment::kViews; ++i) {
        const auto view = static_cast<View>(i);
        const augment::Params<float> params =
            draw_params(call.settings, source, view, call.chain.padding);
        const auto noise = [&](int axis) -> const float* {
            return params.noise_std > 0
                       ? draw_plane(source, view, axis, shape.plane(), params.noise_std, workspace)
                       : nullptr;
        };
        Out* outputs[3] = {};
        for (int stream = 0; stream < call.outputs.streams; ++stream) {
            outputs[stream] = static_cast<Out*>(call.outputs.view[stream][i]) + sample * elements;
        }
        write_view(params, call.chain, noise, call.outputs.stream, outputs, call.outputs.streams,
                   workspace);
    }
}

template <typename In, typename Out>
Status run(const DrawnCall& call, int threads) {
    std::atomic<bool> out_of_memory{false};
    parallel_for(call.samples, threads, samples_per_thread(call.chain.shape),
                 [&](std::int64_t begin, std::int64_t end) {
                     Workspace<float> workspace(call.chain);
                     if (!workspace.allocated()) {
                         out_of_memory = true;
                         return;
                     }
                     for (std::int64_t sample = begin; sample < end; ++sample) {
                         write_sample<In, Out>(call, sample, workspace);
                     }
                 });
    return out_of_memory ? device_error("skeleton_augment: out of memory") : Status{};
}

template <typename In>
Status run_to(DataType out, const DrawnCall& call, int threads) {
    switch (out) {
        case DataType::kFloat32:
            return run<In, float>(call, threads);
        case DataType::kFloat16:
            return run<In, Half>(call, threads);
        case DataType::kBFloat16:
            return run<In, BFloat16>(call, threads);
        default:
            return invalid_argument("skeleton_augment: unknown dtype of the views");
    }
}

}  // namespace

Status skeleton_augment(const void* data, int data_type, float data_scale, std::int64_t sequences,
                        const void* index, int index_bytes, std::int64_t n,
                        const augment::Outputs& outputs, int out_type, const augment::Chain& chain,
                        const Settings& settings, std::uint32_t key0, std::uint32_t key1,
                        std::uint32_t step, std::uint32_t offset, int threads) {
    AIMCLR_RETURN_IF_ERROR(augment::check(chain));
    const DrawnCall call{data,
                         static_cast<DataType>(data_type),
                         data_scale,
                         sequences,
                         index,
                         index_bytes,
                         n,
                         outputs,
                         chain,
                         settings,
                         {key0, key1, step, offset}};
    for (std::int64_t sample = 0; sample < n; ++sample) {
        if (!call.in_range(sample)) {
            return invalid_argument("skeleton_augment: index is out of the data's range");
        }
    }
    const auto out = static_cast<DataType>(out_type);
    switch (call.data_type) {
        case DataType::kFloat32:
            return run_to<float>(out, call, threads);
        case DataType::kFloat64:
            return run_to<double>(out, call, threads);
        case DataType::kFloat16:
            return run_to<Half>(out, call, threads);
        case DataType::kBFloat16:
            return run_to<BFloat16>(out, call, threads);
        case DataType::kInt16:
            return run_to<std::int16_t>(out, call, threads);
    }
    return invalid_argument("skeleton_augment: unknown dtype of the data");
}

Status skeleton_augment_draws(const Settings& settings, std::uint32_t key0, std::uint32_t key1,
                              std::uint32_t step, std::uint32_t offset, std::uint32_t view,
                              int padding, std::int64_t n, std::int32_t* integers, float* floats) {
    for (std::int64_t i = 0; i < n; ++i) {
        const Source source{key0, key1, step, offset + static_cast<std::uint32_t>(i)};
        const augment::Params<float> params =
            draw_params(settings, source, static_cast<View>(view), padding);
        std::int32_t* const ints = integers + 4 * i;
        ints[0] = params.crop_start;
        ints[1] = params.spatial_flip;
        ints[2] = params.axis_mask;
        ints[3] = params.temporal_flip;
        float* const reals = floats + 14 * i;
        std::copy_n(params.shear, 9, reals);
        std::copy_n(params.angles, 3, reals + 9);
        reals[12] = params.noise_std;
        reals[13] = params.blur_sigma;
    }
    return {};
}

}  // namespace aimclr::cpu
