#include "cpu/skelemix/skelemix.h"

#include <algorithm>
#include <vector>

#include "common/skelemix_block.h"
#include "cpu/pages.h"
#include "cpu/skeleton_augment/skeleton_augment_view.h"

namespace aimclr::cpu {
namespace {

// Columns of a row that follow each other.
struct Run {
    int first, length;
};

// What one mix replaces, as the loops take it.
struct Replaced {
    mix::Region region;
    std::vector<Run> runs;
};

Replaced replaced_by(const mix::Call& call, int mix) {
    Replaced found{mix::draw_region(call, mix), {}};
    const int bodies = call.shape.bodies;
    for (int joint = 0; joint < call.shape.joints; ++joint) {
        if (!found.region.has_part(call.parts[joint])) {
            continue;
        }
        const int first = joint * bodies;
        if (!found.runs.empty() && found.runs.back().first + found.runs.back().length == first) {
            found.runs.back().length += bodies;
        } else {
            found.runs.push_back({first, bodies});
        }
    }
    return found;
}

void write_mask(const mix::Call& call, const mix::Region& region, int mix) {
    bool* to = call.mask + std::int64_t{mix} * call.rows() * call.shape.joints;
    for (int row = 0; row < call.rows(); ++row) {
        for (int joint = 0; joint < call.shape.joints; ++joint) {
            *to++ = region.has_row(row) && region.has_part(call.parts[joint]);
        }
    }
}

template <typename T>
void write_pair(const mix::Call& call, std::int64_t pair, const Replaced& replaced,
                Workspace<RealOf<T>>& workspace) {
    using Real = RealOf<T>;
    const std::int64_t sample = pair % call.samples, elements = call.shape.elements();
    const std::int64_t partner = mix::partner_of(sample, replaced.region, call.samples);
    const int plane = call.shape.plane(), row = call.shape.row();
    const int begin = replaced.region.first * call.settings.block_frames;
    const int end = std::min(replaced.region.last * call.settings.block_frames, call.shape.frames);
    const augment::Chain chain = mix::chain_of(call);
    const T* const query = static_cast<const T*>(call.query);
    stage(query + sample * elements, Real(1), chain, workspace);
    for (int axis = 0; axis < 3; ++axis) {
        const std::int64_t at = static_cast<std::int64_t>(axis) * plane;
        Real* const mixed = workspace.staged(axis);
        Real* const other = workspace.flipped(axis);
        workspace.loops.load_scaled(query + partner * elements + at + std::int64_t{begin} * row,
                                    Real(1), other, (end - begin) * row);
        for (int frame = begin; frame < end; ++frame) {
            for (const Run& run : replaced.runs) {
                std::copy_n(other + (frame - begin) * row + run.first, run.length,
                            mixed + frame * row + run.first);
            }
        }
        for (int i = 0; i < call.streams; ++i) {
            write_stream(mixed, call.stream[i], chain, workspace,
                         static_cast<T*>(call.view[i]) + pair * elements + at);
        }
    }
}

// Values that kernels rely on, and that only the CPU can look at.
Status check_tables(const mix::Call& call) {
    for (int joint = 0; joint < call.shape.joints; ++joint) {
        if (call.parts[joint] < 0 || call.parts[joint] >= mix::kBodyParts) {
            return invalid_argument("skelemix: a joint has no such body part");
        }
    }
    for (int i = 0; i < call.shape.row(); ++i) {
        if (call.parents[i] < 0 || call.parents[i] >= call.shape.row()) {
            return invalid_argument("skelemix: a table of joints leads outside the row");
        }
    }
    return {};
}

}  // namespace

Status skelemix(const mix::Call& call, int threads) {
    AIMCLR_RETURN_IF_ERROR(mix::check(call));
    if (call.samples == 0) {
        return {};
    }
    AIMCLR_RETURN_IF_ERROR(check_tables(call));
    std::vector<Replaced> mixes;
    for (int mix = 0; mix < call.settings.count; ++mix) {
        mixes.push_back(replaced_by(call, mix));
        const mix::Region& region = mixes.back().region;
        write_mask(call, region, mix);
        for (std::int64_t sample = 0; sample < call.samples; ++sample) {
            call.partner[mix * call.samples + sample] =
                mix::partner_of(sample, region, call.samples);
        }
    }
    if (call.shape.bodies == 0) {
        return {};
    }
    return for_type<float, double, Half, BFloat16>(call.type, [&](auto tag) {
        using T = typename decltype(tag)::Type;
        const std::int64_t pairs = call.settings.count * call.samples;
        for (int i = 0; i < call.streams; ++i) {
            advise_huge_pages(static_cast<T*>(call.view[i]), pairs * call.shape.elements());
        }
        return for_samples<RealOf<T>>(pairs, mix::chain_of(call), threads,
                                      [&](std::int64_t pair, Workspace<RealOf<T>>& workspace) {
                                          const auto mix =
                                              static_cast<std::size_t>(pair / call.samples);
                                          write_pair<T>(call, pair, mixes[mix], workspace);
                                      });
    });
}

Status skelemix_emulated(const mix::Call& call, int threads) {
    AIMCLR_RETURN_IF_ERROR(mix::check(call));
    if (call.samples == 0) {
        return {};
    }
    AIMCLR_RETURN_IF_ERROR(check_tables(call));
    const mix::Launch launch = mix::Launch::of(call);
    return for_type<float, double, Half, BFloat16>(call.type, [&](auto tag) {
        using T = typename decltype(tag)::Type;
        for (std::int64_t pair = 0; pair < call.settings.count * call.samples; ++pair) {
            for (int thread = 0; thread < threads; ++thread) {
                mix::MixedSample<T>{call, launch, pair, threads}.write(thread);
            }
        }
        return Status{};
    });
}

}  // namespace aimclr::cpu
