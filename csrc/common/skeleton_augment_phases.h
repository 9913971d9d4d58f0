// The phases of the blocks of skeleton_augment and apply_augment, and the order in which a block
// runs them.
#pragma once

#include <cstdint>

#include "common/skeleton_augment_block.h"
#include "common/skeleton_augment_call.h"

namespace aimclr::augment {

// With so many blocks a sample.
inline Launch launch_of(const DrawnCall& call, std::int64_t parts) {
    Launch launch = Launch::of(call.chain, parts);
    launch.align(call.data);
    for (int stream = 0; stream < call.outputs.streams; ++stream) {
        for (const void* const view : call.outputs.view[stream]) {
            launch.align(view);
        }
    }
    return launch;
}

inline Launch launch_of(const GivenCall& call) {
    Launch launch = Launch::of(call.chain);
    launch.align(call.input);
    launch.align(call.output);
    launch.align(call.noise_output);
    return launch;
}

// The same call with the strong view in the place of the extreme one.
inline DrawnCall with_strong_first(DrawnCall call) {
    for (auto& view : call.outputs.view) {
        view[static_cast<int>(View::kExtreme)] = view[static_cast<int>(View::kStrong)];
    }
    call.first_view = View::kStrong;
    return call;
}

// A launch has buffers for the steps of one view: with both, the strong view takes a launch of its
// own, which reads the sequences again. Calls body(launch's call) for each.
template <typename Body>
Status for_launches(const DrawnCall& call, const Body& body) {
    if (!call.outputs.wants(View::kStrong)) {
        return body(call);
    }
    DrawnCall strong = with_strong_first(call);
    if (!call.outputs.wants(View::kExtreme)) {
        return body(strong);
    }
    AIMCLR_RETURN_IF_ERROR(body(call));
    for (auto& view : strong.outputs.view) {
        view[static_cast<int>(View::kQuery)] = view[static_cast<int>(View::kKey)] = nullptr;
    }
    return body(strong);
}

// The views of a launch: one that may take several steps, extreme or strong, then query and key.
constexpr int kLaunchViews = 3;

// What the threads of a block share besides its buffers.
template <typename Real>
struct BlockState {
    Words4 words[kExtremeBlocks + 2 * kPlainBlocks];
    Plan<Real> plan[kLaunchViews];
    Real weights[kMaxBlurTaps];
};

// Draws, then writes, the views of one sample that a launch makes.
template <typename Out, bool kSpread>
struct DrawnViews {
    const DrawnCall& call;
    BlockState<float>& state;
    Block<float, kSpread> block;
    std::int64_t sample;

    AIMCLR_HD std::int64_t elements() const {
        return block.launch.chain.shape.elements();
    }
    // Calls body(sequence), a pointer of the stored type.
    template <typename Body>
    AIMCLR_HD void with_sequence(const Body& body) const {
        const std::int64_t first = call.sequence(sample) * elements();
        switch (call.data_type) {
            case DataType::kFloat32:
                return body(static_cast<const float*>(call.data) + first);
            case DataType::kFloat64:
                return body(static_cast<const double*>(call.data) + first);
            case DataType::kFloat16:
                return body(static_cast<const Half*>(call.data) + first);
            case DataType::kBFloat16:
                return body(static_cast<const BFloat16*>(call.data) + first);
            case DataType::kInt16:
                return body(static_cast<const std::int16_t*>(call.data) + first);
        }
    }
    // The views of the launch by number, as in kLaunchViews.
    AIMCLR_HD View view_of(int i) const {
        return i == 0 ? call.first_view : static_cast<View>(i);
    }
    AIMCLR_HD bool is_wanted(int i) const {
        return call.outputs.view[0][i] != nullptr;
    }
    AIMCLR_HD Out* output(int stream, int i) const {
        return static_cast<Out*>(call.outputs.view[stream][i]) + sample * elements();
    }

    // 1. Starts to read the sequence, and draws the words behind the parameters.
    AIMCLR_HD void begin(int thread, Prefetched& prefetched) const {
        with_sequence([&](const auto* from) { block.prefetch(from, thread, prefetched); });
        if (thread < kExtremeBlocks + 2 * kPlainBlocks) {
            const int plain = thread - kExtremeBlocks;
            const int view = plain < 0 ? 0 : 1 + plain / kPlainBlocks;
            const int i = plain < 0 ? thread : plain % kPlainBlocks;
            state.words[thread] = draw_block(call.source_of(sample), view_of(view), i);
        }
    }

    // 2. Draws the noise while the sequence is loading, then stages the sequence. The parameters
    // that the noise needs follow from the words at once, without the matrices.
    AIMCLR_HD void prepare(int thread, const Prefetched& prefetched) const {
        if (thread < kLaunchViews) {
            const int first = thread == 0 ? 0 : kExtremeBlocks + (thread - 1) * kPlainBlocks;
            const Params<float> params = params_from(state.words + first, view_of(thread),
                                                     block.launch.chain.padding, call.settings);
            // A view that is not wanted takes no steps.
            state.plan[thread] = Plan<float>::of(is_wanted(thread) ? params : Params<float>{});
        }
        const float sigma = blur_sigma(state.words, call.settings);
        block.weigh(sigma, thread);
        if (is_wanted(0) && has_noise(state.words, call.settings)) {
            block.draw_noise(call.source_of(sample), view_of(0), call.settings.noise_std,
                             masked_axis(state.words, call.settings),
                             worked(has_temporal_flip(state.words, call.settings), sigma > 0),
                             thread);
        }
        with_sequence([&](const auto* from) { block.stage(from, call.scale, thread, prefetched); });
    }

    // The frames of the first view that are computed in `work`.
    AIMCLR_HD Frames worked(bool reversed, bool blurred) const {
        const Frames written = block.frames_written(reversed);
        return blurred ? block.frames_blurred(written) : written;
    }

    AIMCLR_HD bool blurs() const {
        return state.plan[0].blur_sigma > 0;
    }
    // Whether the first view takes more than one step.
    AIMCLR_HD bool has_steps() const {
        return state.plan[0].noise_std > 0 || blurs();
    }

    // 3. Writes the views that take one step. Their stores drain while the other one is made.
    AIMCLR_HD void write_plain(int thread) const {
        for (int view = has_steps() ? 1 : 0; view < kLaunchViews; ++view) {
            const Plan<float>& plan = state.plan[view];
            for (int i = 0; is_wanted(view) && i < call.outputs.streams; ++i) {
                block.write_direct(output(i, view), call.outputs.stream[i], plan, thread);
            }
        }
        if (has_steps()) {
            const Plan<float>& plan = state.plan[0];
            block.transform(plan, plan.noise_std > 0, static_cast<const float*>(nullptr),
                            worked(plan.temporal_flip, blurs()), thread);
        }
    }

    // 4. Only if blurs().
    AIMCLR_HD void blur(int thread) const {
        const Plan<float>& plan = state.plan[0];
        block.blur(plan.axis_mask, block.frames_written(plan.temporal_flip), thread);
    }

    // 5. Only if has_steps().
    AIMCLR_HD void write_staged(int thread) const {
        const Plan<float>& plan = state.plan[0];
        const float* const buffer = plan.blur_sigma > 0 ? block.raw : block.work;
        for (int i = 0; i < call.outputs.streams; ++i) {
            block.write_from(buffer, output(i, 0), call.outputs.stream[i], plan, thread);
        }
    }
};

// The order of the phases. phase(body) calls body(thread, prefetched) for all threads of the block
// and returns when all are done. What the plan says is read before the third phase: after the last,
// a faster thread may have begun to write that of the block's next sample.
template <typename Out, bool kSpread, typename Phase>
AIMCLR_HD void run(const DrawnViews<Out, kSpread>& views, const Phase& phase) {
    phase([&](int thread, Prefetched& prefetched) { views.begin(thread, prefetched); });
    phase([&](int thread, Prefetched& prefetched) { views.prepare(thread, prefetched); });
    const bool blurs = views.blurs(), has_steps = views.has_steps();
    phase([&](int thread, Prefetched&) { views.write_plain(thread); });
    if (blurs) {
        phase([&](int thread, Prefetched&) { views.blur(thread); });
    }
    if (has_steps) {
        phase([&](int thread, Prefetched&) { views.write_staged(thread); });
    }
}

// Augments one sample with given parameters, or takes the gradient back through that.
template <typename T, bool kSpread>
struct GivenView {
    using Real = RealOf<T>;

    const GivenCall& call;
    BlockState<Real>& state;
    Block<Real, kSpread> block;
    std::int64_t sample;

    // The sample's part of a tensor.
    AIMCLR_HD const T* part(const void* tensor) const {
        return tensor == nullptr ? nullptr : static_cast<const T*>(tensor) + first();
    }
    AIMCLR_HD T* part(void* tensor) const {
        return tensor == nullptr ? nullptr : static_cast<T*>(tensor) + first();
    }
    AIMCLR_HD std::int64_t first() const {
        return sample * block.launch.chain.shape.elements();
    }

    // 1.
    AIMCLR_HD void begin(int thread, Prefetched& prefetched) const {
        block.prefetch(part(call.input), thread, prefetched);
        if (thread == 0) {
            state.plan[0] =
                Plan<Real>::of(call.params.as<Real>().at(sample, block.launch.chain.padding));
        }
    }

    // 2.
    AIMCLR_HD void prepare(int thread, const Prefetched& prefetched) const {
        block.weigh(state.plan[0].blur_sigma, thread);
        block.stage(part(call.input), Real(1), thread, prefetched);
    }

    AIMCLR_HD bool blurs() const {
        return state.plan[0].blur_sigma > 0;
    }
    AIMCLR_HD bool has_steps() const {
        return call.noise != nullptr || blurs();
    }
    // Where the blur's result is, or what it would have read.
    AIMCLR_HD const Real* blurred() const {
        return blurs() ? block.raw : block.work;
    }

    // --- Forward ----------------------------------------------------------------------------

    // 3.
    AIMCLR_HD void write_plain(int thread) const {
        const Plan<Real>& plan = state.plan[0];
        if (has_steps()) {
            block.transform(plan, false, part(call.noise), block.all_frames(), thread);
        } else {
            block.write_direct(part(call.output), call.stream, plan, thread);
        }
    }

    // 4. Only if blurs().
    AIMCLR_HD void blur(int thread) const {
        block.blur(state.plan[0].axis_mask, block.all_frames(), thread);
    }

    // 5. Only if has_steps().
    AIMCLR_HD void write_staged(int thread) const {
        const Plan<Real>& plan = state.plan[0];
        block.write_from(blurred(), part(call.output), call.stream, plan, thread);
    }

    // --- Backward: each step transposed, in reverse order -------------------------------------

    // 3. Back through the stream, the time flip and the mask.
    AIMCLR_HD void before_stream(int thread) const {
        const Plan<Real>& plan = state.plan[0];
        const int plane = block.launch.chain.shape.plane(), row = block.launch.chain.shape.row();
        const int last = block.launch.chain.shape.frames - 1;
        for (int point = thread; point < plane; point += block.threads) {
            const int written = block.launch.row_divider.quotient(point),
                      in_row = point - written * row;
            const int frame = plan.temporal_flip ? last - written : written;
            Vector3<Real> sum = {};
            if (call.stream != Stream::kMotion) {
                sum = block.read(block.raw, frame * row + in_row);
            } else {
                // Frame t counts for motion t - 1 and against motion t, but the last motion is 0.
                if (frame > 0) {
                    sum = block.read(block.raw, (frame - 1) * row + in_row);
                }
                if (frame < last) {
                    sum = block.minus(sum, block.read(block.raw, frame * row + in_row));
                }
            }
            if (call.stream == Stream::kBone) {
                for (int child = 0; child < row; ++child) {
                    if (block.launch.chain.joints.parents[child] == in_row) {
                        sum = block.minus(sum, block.read(block.raw, frame * row + child));
                    }
                }
            }
            sum = block.masked(sum, plan.axis_mask);
            AIMCLR_UNROLL
            for (int axis = 0; axis < 3; ++axis) {
                block.work[block.slot(axis * plane + point)] = sum.v[axis];
            }
        }
    }

    // 4. Only if blurs(): the weights are symmetric, so the blur is its own transpose. It passes
    // over the masked axis, too, which holds zeros.
    AIMCLR_HD void blur_gradient(int thread) const {
        block.blur(-1, block.all_frames(), thread);
    }

    // 5. Writes the gradients wanted.
    AIMCLR_HD void write_gradients(int thread) const {
        const Plan<Real>& plan = state.plan[0];
        const Real* const buffer = blurred();
        const int frames = block.launch.chain.shape.frames, row = block.launch.chain.shape.row();
        if (call.noise_output != nullptr) {
            block.write(part(call.noise_output), thread, [&](int frame, int in_row) {
                return block.read(buffer, frame * row + in_row);
            });
        }
        if (call.output == nullptr) {
            return;
        }
        Matrix<Real> transposed = plan.matrix;
        AIMCLR_UNROLL
        for (int i = 0; i < 9; ++i) {
            transposed.entry[i] = plan.matrix.entry[i % 3 * 3 + i / 3];
        }
        block.write(part(call.output), thread, [&](int frame, int in_row) {
            // The frame itself and its images in the mirrored ends, where the crop shows them.
            const int images[3] = {frame, -1 - frame, 2 * frames - 1 - frame};
            const int from = plan.spatial_flip ? block.launch.chain.joints.swap[in_row] : in_row;
            Vector3<Real> sum = {};
            AIMCLR_UNROLL
            for (int i = 0; i < 3; ++i) {
                const int shown = images[i] - plan.crop_start + block.launch.chain.padding;
                if (shown >= 0 && shown < frames) {
                    const Vector3<Real> x = block.read(buffer, shown * row + from);
                    AIMCLR_UNROLL
                    for (int axis = 0; axis < 3; ++axis) {
                        sum.v[axis] += x.v[axis];
                    }
                }
            }
            return block.multiply(transposed, sum);
        });
    }
};

template <bool kBackward, typename T, bool kSpread, typename Phase>
AIMCLR_HD void run(const GivenView<T, kSpread>& view, const Phase& phase) {
    phase([&](int thread, Prefetched& prefetched) { view.begin(thread, prefetched); });
    phase([&](int thread, Prefetched& prefetched) { view.prepare(thread, prefetched); });
    const bool blurs = view.blurs(), has_steps = view.has_steps();
    if constexpr (kBackward) {
        phase([&](int thread, Prefetched&) { view.before_stream(thread); });
        if (blurs) {
            phase([&](int thread, Prefetched&) { view.blur_gradient(thread); });
        }
        phase([&](int thread, Prefetched&) { view.write_gradients(thread); });
    } else {
        phase([&](int thread, Prefetched&) { view.write_plain(thread); });
        if (blurs) {
            phase([&](int thread, Prefetched&) { view.blur(thread); });
        }
        if (has_steps) {
            phase([&](int thread, Prefetched&) { view.write_staged(thread); });
        }
    }
}

}  // namespace aimclr::augment
