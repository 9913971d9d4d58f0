#include "cpu/skeleton_augment/skeleton_augment.h"

#include <algorithm>

#include "cpu/pages.h"
#include "cpu/skeleton_augment/skeleton_augment_view.h"

namespace aimclr::cpu {
namespace {

using augment::DrawnCall;
using augment::Settings;
using augment::Source;
using augment::View;

augment::Params<float> draw_params(const Settings& settings, Source source, View view,
                                   int padding) {
    Words4 blocks[augment::kExtremeBlocks];
    const int count = augment::is_extreme(view) ? augment::kExtremeBlocks : augment::kPlainBlocks;
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
    workspace.loops.draw_noise(source, view, static_cast<std::uint32_t>(first),
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
        if (!call.outputs.wants(view)) {
            continue;
        }
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

}  // namespace

Status skeleton_augment(const DrawnCall& call, int threads) {
    AIMCLR_RETURN_IF_ERROR(augment::check(call));
    AIMCLR_RETURN_IF_ERROR(check_tables(call.chain));
    for (std::int64_t sample = 0; sample < call.samples; ++sample) {
        if (!call.in_range(sample)) {
            return invalid_argument("skeleton_augment: index is out of the data's range");
        }
    }
    return for_type<float, double, Half, BFloat16, std::int16_t>(call.data_type, [&](auto stored) {
        return for_type<float, Half, BFloat16>(call.out_type, [&](auto written) {
            using In = typename decltype(stored)::Type;
            using Out = typename decltype(written)::Type;
            const std::int64_t elements = call.samples * call.chain.shape.elements();
            for (int stream = 0; stream < call.outputs.streams; ++stream) {
                for (void* view : call.outputs.view[stream]) {
                    advise_huge_pages(static_cast<Out*>(view), elements);
                }
            }
            return for_samples<float>(call.samples, call.chain, threads,
                                      [&](std::int64_t sample, Workspace<float>& workspace) {
                                          write_sample<In, Out>(call, sample, workspace);
                                      });
        });
    });
}

Status skeleton_augment_draws(const augment::DrawsCall& call) {
    if (call.n < 0 || !countable(call.n) ||
        static_cast<std::uint32_t>(call.view) >= augment::kViews || call.padding < 0 ||
        call.padding >= 1 << 30 ||
        (call.n > 0 && (call.integers == nullptr || call.floats == nullptr))) {
        return invalid_argument("skeleton_augment_draws: bad sizes or null pointer");
    }
    for (std::int64_t i = 0; i < call.n; ++i) {
        Source source = call.source;
        source.position += static_cast<std::uint32_t>(i);
        const augment::Params<float> params =
            draw_params(call.settings, source, call.view, call.padding);
        std::int32_t* const ints = call.integers + 4 * i;
        ints[0] = params.crop_start;
        ints[1] = params.spatial_flip;
        ints[2] = params.axis_mask;
        ints[3] = params.temporal_flip;
        float* const reals = call.floats + 14 * i;
        std::copy_n(params.shear, 9, reals);
        std::copy_n(params.angles, 3, reals + 9);
        reals[12] = params.noise_std;
        reals[13] = params.blur_sigma;
    }
    return {};
}

}  // namespace aimclr::cpu
