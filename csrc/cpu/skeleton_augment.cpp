#include "cpu/skeleton_augment.h"

#include <algorithm>
#include <atomic>

#include "cpu/parallel.h"
#include "cpu/skeleton_augment_view.h"

namespace aimclr::cpu {
namespace {

using augment::Settings;
using augment::Source;
using augment::View;

struct Call {
    const void* data;
    float scale;
    std::int64_t sequences;
    const void* index;
    int index_bytes;
    augment::Outputs outputs;
    Settings settings;
    Source source;  // of sample 0
    ViewOptions options;

    std::int64_t sequence(std::int64_t sample) const {
        return index_bytes == 8 ? static_cast<const std::int64_t*>(index)[sample]
                                : static_cast<const std::int32_t*>(index)[sample];
    }
};

augment::Params<float> draw_params(const Settings& settings, Source source, View view, int frames) {
    Words4 blocks[augment::kExtremeBlocks];
    const int count = view == View::kExtreme ? augment::kExtremeBlocks : augment::kPlainBlocks;
    for (int i = 0; i < count; ++i) {
        blocks[i] = augment::draw_block(source, view, i);
    }
    return augment::params_from(blocks, view, frames, settings);
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
void write_sample(const Call& call, std::int64_t sample, Workspace<float>& workspace) {
    const std::int64_t elements = call.options.shape.elements();
    stage(static_cast<const In*>(call.data) + call.sequence(sample) * elements, call.scale,
          call.options, workspace);
    Source source = call.source;
    source.position += static_cast<std::uint32_t>(sample);
    for (int i = 0; i < augment::kViews; ++i) {
        const auto view = static_cast<View>(i);
        const augment::Params<float> params =
            draw_params(call.settings, source, view, call.options.shape.frames);
        const auto noise = [&](int axis) -> const float* {
            return params.noise_std > 0 ? draw_plane(source, view, axis, call.options.shape.plane(),
                                                     params.noise_std, workspace)
                                        : nullptr;
        };
        Out* outputs[3] = {};
        for (int stream = 0; stream < call.outputs.streams; ++stream) {
            outputs[stream] = static_cast<Out*>(call.outputs.view[stream][i]) + sample * elements;
        }
        write_view(params, call.options, noise, call.outputs.stream, outputs, call.outputs.streams,
                   workspace);
    }
}

template <typename In, typename Out>
Status run(const Call& call, std::int64_t n, int threads) {
    // Enough work to pay for a thread: some hundred microseconds.
    constexpr std::int64_t kElementsPerThread = 1 << 17;
    const std::int64_t grain =
        std::max<std::int64_t>(1, kElementsPerThread / call.options.shape.elements());
    std::atomic<bool> out_of_memory{false};
    parallel_for(n, threads, grain, [&](std::int64_t begin, std::int64_t end) {
        Workspace<float> workspace(call.options);
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
Status run_to(DataType out, const Call& call, std::int64_t n, int threads) {
    switch (out) {
        case DataType::kFloat32:
            return run<In, float>(call, n, threads);
        case DataType::kFloat16:
            return run<In, Half>(call, n, threads);
        case DataType::kBFloat16:
            return run<In, BFloat16>(call, n, threads);
        default:
            return invalid_argument("skeleton_augment: unknown dtype of the views");
    }
}

}  // namespace

Status skeleton_augment(const void* data, int data_type, float data_scale, std::int64_t sequences,
                        const void* index, int index_bytes, const std::int32_t* swap,
                        const std::int32_t* parents, const augment::Outputs& outputs, int out_type,
                        const Settings& settings, std::uint32_t key0, std::uint32_t key1,
                        std::uint32_t step, std::uint32_t offset, std::int64_t n, int frames,
                        int joints, int bodies, int threads) {
    const augment::Shape shape{frames, joints, bodies};
    AIMCLR_RETURN_IF_ERROR(augment::check(shape, settings.crop_ratio, settings.blur_taps));
    const ViewOptions options{shape,
                              {swap, parents},
                              frames / settings.crop_ratio,
                              settings.blur_taps,
                              settings.blur_normalize};
    const Call call{data,        data_scale, sequences, index,
                    index_bytes, outputs,    settings,  {key0, key1, step, offset},
                    options};
    for (std::int64_t sample = 0; sample < n; ++sample) {
        if (call.sequence(sample) < 0 || call.sequence(sample) >= sequences) {
            return invalid_argument("skeleton_augment: index is out of range of the data");
        }
    }
    const auto out = static_cast<DataType>(out_type);
    switch (static_cast<DataType>(data_type)) {
        case DataType::kFloat32:
            return run_to<float>(out, call, n, threads);
        case DataType::kFloat64:
            return run_to<double>(out, call, n, threads);
        case DataType::kFloat16:
            return run_to<Half>(out, call, n, threads);
        case DataType::kBFloat16:
            return run_to<BFloat16>(out, call, n, threads);
        case DataType::kInt16:
            return run_to<std::int16_t>(out, call, n, threads);
    }
    return invalid_argument("skeleton_augment: unknown dtype of the data");
}

Status skeleton_augment_draws(const Settings& settings, std::uint32_t key0, std::uint32_t key1,
                              std::uint32_t step, std::uint32_t offset, std::uint32_t view,
                              int frames, std::int64_t n, std::int32_t* integers, float* floats) {
    for (std::int64_t i = 0; i < n; ++i) {
        const Source source{key0, key1, step, offset + static_cast<std::uint32_t>(i)};
        const augment::Params<float> params =
            draw_params(settings, source, static_cast<View>(view), frames);
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
