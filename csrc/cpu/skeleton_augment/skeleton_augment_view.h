// Turns one staged sequence into one view on the CPU: the chain shared by skeleton_augment and
// apply_augment.
//
// A sequence is staged once, in the computing type, with the mirrored frames before and after it.
// A crop is then a window of the staged planes: no step copies frames for it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <type_traits>

#include "common/skeleton_augment.h"
#include "common/status.h"
#include "cpu/parallel.h"
#include "cpu/skeleton_augment/skeleton_augment_loops.h"

namespace aimclr::cpu {

// The scratch memory of one thread; a few planes that stay in its cache.
template <typename Real>
class Workspace {
  public:
    const Loops loops;

    Workspace(const augment::Chain& chain, Loops loops_)
        : loops(loops_),
          plane_(chain.shape.plane()),
          row_(chain.shape.row()),
          staged_plane_(plane_ + 2 * std::int64_t{chain.padding} * row_),
          halo_(std::int64_t{chain.blur_taps / 2} * row_) {
        const std::int64_t framed = plane_ + 2 * halo_;
        const std::int64_t size = 3 * staged_plane_ + 3 * plane_ + framed + 4 * plane_ + kSlack;
        memory_.reset(new (std::nothrow) Real[static_cast<std::size_t>(size)]);
        if (memory_ != nullptr) {
            // The blur reads zeros outside the sequence; no step writes there.
            std::fill_n(framed_begin(), framed, Real(0));
        }
    }

    bool allocated() const {
        return memory_ != nullptr;
    }
    Real* staged(int axis) {
        return memory_.get() + axis * staged_plane_;
    }
    Real* flipped(int axis) {
        return staged(3) + axis * plane_;
    }
    Real* framed_begin() {
        return flipped(3);
    }
    Real* transformed() {
        return framed_begin() + halo_;
    }
    Real* blurred() {
        return transformed() + plane_ + halo_;
    }
    Real* reversed() {
        return blurred() + plane_;
    }
    Real* streamed() {
        return reversed() + plane_;
    }
    Real* noise() {
        return streamed() + plane_;
    }

  private:
    // Noise comes in whole blocks of four, which may begin and end outside the plane.
    static constexpr std::int64_t kSlack = 8;
    std::int64_t plane_, row_, staged_plane_, halo_;
    std::unique_ptr<Real[]> memory_;
};

// Refuses tables that lead outside a row. augment::check() reads no memory, so it cannot.
inline Status check_tables(const augment::Chain& chain) {
    for (const std::int32_t* table : {chain.joints.swap, chain.joints.parents}) {
        for (int i = 0; i < chain.shape.row(); ++i) {
            if (table[i] < 0 || table[i] >= chain.shape.row()) {
                return invalid_argument("augment: a table of joints leads outside the row");
            }
        }
    }
    return {};
}

// Calls body(sample, workspace) for `n` samples on up to `threads` threads.
template <typename Real, typename Body>
Status for_samples(std::int64_t n, const augment::Chain& chain, int threads, const Body& body) {
    // Enough work to pay for a thread: some hundred microseconds.
    constexpr std::int64_t kElements = 1 << 17;
    const std::int64_t grain =
        std::max<std::int64_t>(1, kElements / std::max(chain.shape.elements(), 1));
    const Loops loops{level()};
    std::atomic<bool> out_of_memory{false};
    parallel_for(n, threads, grain, [&](std::int64_t begin, std::int64_t end) {
        Workspace<Real> workspace(chain, loops);
        if (!workspace.allocated()) {
            out_of_memory = true;
            return;
        }
        for (std::int64_t sample = begin; sample < end; ++sample) {
            body(sample, workspace);
        }
    });
    return out_of_memory ? device_error("augment: out of memory") : Status{};
}

// Reads one sequence [3, frames, joints, bodies] into the workspace, in units of `scale`.
template <typename T, typename Real>
void stage(const T* sequence, Real scale, const augment::Chain& chain, Workspace<Real>& workspace) {
    const int frames = chain.shape.frames, row = chain.shape.row();
    for (int axis = 0; axis < 3; ++axis) {
        Real* const first = workspace.staged(axis) + std::int64_t{chain.padding} * row;
        workspace.loops.load_scaled(
            sequence + static_cast<std::int64_t>(axis) * chain.shape.plane(), scale, first,
            chain.shape.plane());
        for (int i = 1; i <= chain.padding; ++i) {
            const std::int64_t before = -i, after = frames - 1 + i;
            std::copy_n(first + (i - 1) * std::int64_t{row}, row, first + before * row);
            std::copy_n(first + (frames - i) * std::int64_t{row}, row, first + after * row);
        }
    }
}

// The taps of a blur that count.
template <typename Real>
struct Blur {
    Real weight[augment::kMaxBlurTaps];
    int taps = 0;  // 0 without a blur

    Blur(Real sigma, const augment::Chain& chain) {
        if (!(sigma > 0)) {
            return;
        }
        const Real scale = augment::blur_scale(sigma, chain.blur_taps, chain.blur_normalize);
        for (int offset = -chain.blur_taps / 2; offset <= chain.blur_taps / 2; ++offset) {
            const Real value = scale * augment::blur_weight(offset, sigma);
            // Weights too small to be normal numbers add nothing but cost a hundred cycles each.
            if (value >= std::numeric_limits<Real>::min()) {
                weight[taps++] = value;
            }
        }
    }

    // Blurs workspace.transformed().
    void operator()(Workspace<Real>& workspace, augment::Shape shape, Real* out) const {
        workspace.loops.blur(workspace.transformed() - std::int64_t{taps / 2} * shape.row(), weight,
                             taps, shape.row(), out, shape.plane());
    }
};

// Writes `plane`, the positions along one axis, as a stream.
template <typename Real, typename T>
void write_stream(const Real* plane, augment::Stream stream, const augment::Chain& chain,
                  Workspace<Real>& workspace, T* out) {
    const int size = chain.shape.plane(), row = chain.shape.row();
    if (stream == augment::Stream::kJoint) {
        workspace.loops.store(plane, out, size);
        return;
    }
    Real* target = workspace.streamed();
    if constexpr (std::is_same_v<T, Real>) {
        target = out;
    }
    if (stream == augment::Stream::kMotion) {
        workspace.loops.subtract(plane + row, plane, target, size - row);
        std::fill_n(target + (size - row), row, Real(0));
    } else {
        Real* const parents = workspace.noise();  // the noise is part of the plane by now
        gather_columns(plane, chain.joints.parents, chain.shape, parents);
        workspace.loops.subtract(plane, parents, target, size);
    }
    if constexpr (!std::is_same_v<T, Real>) {
        workspace.loops.store(target, out, size);
    }
}

// Writes one view of the staged sequence. `noise(axis)` gives the noise to add to a plane, or null;
// `outputs` has one tensor [3, frames, joints, bodies] for each of the `count` streams.
template <typename Real, typename T, typename Noise>
void write_view(const augment::Params<Real>& params, const augment::Chain& chain,
                const Noise& noise, const augment::Stream* streams, T* const* outputs, int count,
                Workspace<Real>& workspace) {
    const augment::Shape shape = chain.shape;
    const int size = shape.plane(), row = shape.row();
    const augment::Matrix<Real> matrix = augment::matrix_of(params);

    const Real* source[3];
    for (int axis = 0; axis < 3; ++axis) {
        source[axis] = workspace.staged(axis) + std::int64_t{params.crop_start} * row;
        if (params.spatial_flip) {
            gather_columns(source[axis], chain.joints.swap, shape, workspace.flipped(axis));
            source[axis] = workspace.flipped(axis);
        }
    }
    const Blur<Real> blur(params.blur_sigma, chain);
    const bool blurs = blur.taps > 0;

    for (int axis = 0; axis < 3; ++axis) {
        const std::int64_t at = static_cast<std::int64_t>(axis) * size;
        if (axis == params.axis_mask) {
            for (int i = 0; i < count; ++i) {
                std::fill_n(outputs[i] + at, size, T{});
            }
            continue;
        }
        // The last step before the stream writes the view itself, where nothing is left to do.
        Real* direct = nullptr;
        if constexpr (std::is_same_v<T, Real>) {
            const bool plain = count == 1 && streams[0] == augment::Stream::kJoint;
            direct = plain && !params.temporal_flip ? outputs[0] + at : nullptr;
        }
        Real* const transformed = direct != nullptr && !blurs ? direct : workspace.transformed();
        const Real* const added = noise(axis);
        const Real* plane = source[axis];
        if (!matrix.identity) {
            workspace.loops.combine(source[0], source[1], source[2], matrix.entry + 3 * axis,
                                    transformed, size);
            plane = transformed;
        } else if (blurs || added != nullptr) {
            std::copy_n(plane, size, transformed);
            plane = transformed;
        }
        if (added != nullptr) {
            workspace.loops.add(added, transformed, size);
        }
        if (blurs) {
            Real* const blurred = direct != nullptr ? direct : workspace.blurred();
            blur(workspace, shape, blurred);
            plane = blurred;
        }
        if (params.temporal_flip) {
            for (int t = 0; t < shape.frames; ++t) {
                std::copy_n(plane + std::int64_t{shape.frames - 1 - t} * row, row,
                            workspace.reversed() + std::int64_t{t} * row);
            }
            plane = workspace.reversed();
        }
        for (int i = 0; i < count && plane != direct; ++i) {
            write_stream(plane, streams[i], chain, workspace, outputs[i] + at);
        }
    }
}

}  // namespace aimclr::cpu
