// What one CUDA block does to make one mix of one sequence. It is a function of the thread's
// number, so that host code can run a block thread by thread where there is no GPU.
#pragma once

#include <cstdint>

#include "common/skelemix.h"
#include "common/skeleton_augment_block.h"
#include "common/skeleton_augment_launch.h"

namespace aimclr::mix {

struct Launch {
    augment::Launch views;
    augment::Divider body_divider;

    static Launch of(const Call& call) {
        Launch launch{augment::Launch::of(chain_of(call)),
                      augment::Divider::of(static_cast<std::uint32_t>(call.shape.bodies))};
        for (int i = 0; i < call.streams; ++i) {
            launch.views.align(call.view[i]);
        }
        return launch;
    }
};

template <typename T>
struct MixedSample {
    using Real = RealOf<T>;

    const Call& call;
    const Launch& launch;
    std::int64_t pair;  // mix * samples + sample
    int threads;

    AIMCLR_HD void write(int thread) const {
        const auto mix = static_cast<int>(pair / call.samples);
        const std::int64_t sample = pair - mix * call.samples;
        const Region region = draw_region(call, mix);
        const std::int64_t partner = partner_of(sample, region, call.samples);
        if (thread == 0) {
            call.partner[pair] = partner;
        }
        if (sample == 0) {
            write_mask(region, mix, thread);
        }
        const int plane = call.shape.plane(), row = call.shape.row();
        const std::int64_t elements = call.shape.elements();
        const int begin = region.first * call.settings.block_frames;
        const int end = region.last * call.settings.block_frames;
        const T* const own = static_cast<const T*>(call.query) + sample * elements;
        const T* const other = static_cast<const T*>(call.query) + partner * elements;
        const augment::Block<Real, false> block{launch.views, nullptr, nullptr, nullptr, threads};
        const auto position = [&](int frame, int at) -> augment::Vector3<Real> {
            const int joint = launch.body_divider.quotient(at);
            const bool replaced =
                frame >= begin && frame < end && region.has_part(call.parts[joint]);
            const T* const from = (replaced ? other : own) + (frame * row + at);
            return {{load<Real>(from[0]), load<Real>(from[plane]),
                     load<Real>(from[2 * static_cast<std::int64_t>(plane)])}};
        };
        augment::Plan<Real> as_it_is{};
        as_it_is.axis_mask = -1;
        for (int i = 0; i < call.streams; ++i) {
            block.write_stream(static_cast<T*>(call.view[i]) + pair * elements, call.stream[i],
                               as_it_is, thread, position,
                               [](augment::Vector3<Real> x) { return x; });
        }
    }

    AIMCLR_HD void write_mask(const Region& region, int mix, int thread) const {
        const int joints = call.shape.joints;
        const std::int64_t size = static_cast<std::int64_t>(call.rows()) * joints;
        for (std::int64_t i = thread; i < size; i += threads) {
            const auto row = static_cast<int>(i / joints), joint = static_cast<int>(i % joints);
            const bool replaced = region.has_row(row) && region.has_part(call.parts[joint]);
            call.mask[mix * size + i] = replaced;
        }
    }
};

}  // namespace aimclr::mix
