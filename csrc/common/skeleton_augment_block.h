// What one CUDA block does to augment one sequence, cut into phases, between which the threads of
// the block synchronize. A phase is a function of the thread's number, so that host code can run a
// block thread by thread, phase by phase, where there is no GPU
// (cpu/skeleton_augment/skeleton_augment_emulated.cpp).
//
// The block keeps two buffers of a whole sequence. `raw` holds the sequence as stored, converted to
// the computing type; `work` what needs more than one step: noise, blur. They lie in shared memory,
// or, where a sequence does not fit, in a workspace in global memory that stays in the cache.
//
// Several blocks can share a sequence. Each writes some points of a plane, and fills of `work` the
// frames that they are made from. What an element becomes does not depend on who computes it:
// random numbers are counted by elements, and the blur adds in the order of its taps.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/dtypes.h"
#include "common/skeleton_augment.h"
#include "common/skeleton_augment_launch.h"

namespace aimclr::augment {

// kSpread leaves a word free after every 32, so that threads four elements apart, as in packs, do
// not conflict in a bank of shared memory.
template <typename Real, bool kSpread>
struct Block {
    Launch launch;
    Real* raw;
    Real* work;
    Real* weights;
    int threads;
    int part = 0;  // of those that share the sequence

    // Where a buffer holds an element.
    AIMCLR_HD static int slot(int element) {
        return kSpread ? element + (element >> 5) : element;
    }
    // Elements that a buffer needs for a sequence.
    AIMCLR_HD static std::int64_t buffer_size(std::int64_t elements) {
        return kSpread ? elements + elements / 32 + 1 : elements;
    }

    // --- The block's part ---------------------------------------------------------------------

    // The points that the block writes.
    AIMCLR_HD int first_point() const {
        return part * launch.part_points;
    }
    AIMCLR_HD int end_point() const {
        const int end = first_point() + launch.part_points, plane = launch.chain.shape.plane();
        return end < plane ? end : plane;
    }

    AIMCLR_HD Frames all_frames() const {
        return {0, launch.chain.shape.frames};
    }

    // The frames that these points are made from, before the time flip: their own and, for motion,
    // the next one.
    AIMCLR_HD Frames frames_written(bool reversed) const {
        const int frames = launch.chain.shape.frames;
        const int first = launch.row_divider.quotient(first_point());
        const int after = launch.row_divider.quotient(end_point() - 1) + 2;
        const int end = after < frames ? after : frames;
        return reversed ? Frames{frames - end, frames - first} : Frames{first, end};
    }

    // With the frames that the blur reads for them.
    AIMCLR_HD Frames frames_blurred(Frames written) const {
        const int frames = launch.chain.shape.frames, radius = launch.chain.blur_taps / 2;
        const int first = written.first - radius, end = written.end + radius;
        return {first > 0 ? first : 0, end < frames ? end : frames};
    }

    // --- Reading a sequence -----------------------------------------------------------------

    // Starts to read a sequence.
    template <typename T>
    AIMCLR_HD void prefetch(const T* from, int thread, Prefetched& prefetched) const {
        if constexpr (sizeof(Pack<T>) <= sizeof(prefetched.pack[0])) {
            if (!launch.packed) {
                return;
            }
            AIMCLR_UNROLL
            for (int i = 0; i < kPrefetch; ++i) {
                const int element = 4 * (thread + i * threads);
                if (element < launch.chain.shape.elements()) {
                    const Pack<T> pack = *reinterpret_cast<const Pack<T>*>(from + element);
                    std::memcpy(&prefetched.pack[i], &pack, sizeof(pack));
                }
            }
        }
    }

    // Writes the sequence to `raw`.
    template <typename T>
    AIMCLR_HD void stage(const T* from, Real scale, int thread,
                         const Prefetched& prefetched) const {
        const int elements = launch.chain.shape.elements();
        if constexpr (sizeof(Pack<T>) <= sizeof(prefetched.pack[0])) {
            if (launch.packed) {
                AIMCLR_UNROLL
                for (int i = 0; i < kPrefetch; ++i) {
                    const int element = 4 * (thread + i * threads);
                    if (element < elements) {
                        Pack<T> pack;
                        std::memcpy(&pack, &prefetched.pack[i], sizeof(pack));
                        put(pack, element, scale);
                    }
                }
                for (int i = 4 * (thread + kPrefetch * threads); i < elements; i += 4 * threads) {
                    put(*reinterpret_cast<const Pack<T>*>(from + i), i, scale);
                }
                return;
            }
        }
        for (int element = thread; element < elements; element += threads) {
            raw[slot(element)] = scale * load<Real>(from[element]);
        }
    }

    template <typename T>
    AIMCLR_HD void put(const Pack<T>& pack, int element, Real scale) const {
        AIMCLR_UNROLL
        for (int i = 0; i < 4; ++i) {
            raw[slot(element + i)] = scale * load<Real>(pack.v[i]);
        }
    }

    // --- Steps of the chain -----------------------------------------------------------------

    AIMCLR_HD void weigh(Real sigma, int thread) const {
        const int taps = launch.chain.blur_taps;
        if (thread < taps && sigma > 0) {
            weights[thread] = blur_scale(sigma, taps, launch.chain.blur_normalize) *
                              blur_weight(thread - taps / 2, sigma);
        }
    }

    // Fills `work` with the noise of each element of the frames but those along the masked axis.
    AIMCLR_HD void draw_noise(Source source, View view, Real std, int axis_mask, Frames frames,
                              int thread) const {
        const int row = launch.chain.shape.row(), points = (frames.end - frames.first) * row;
        // A draw is of four elements; those at both ends of an axis may reach beyond it.
        const int packs = (points + 6) / 4;
        for (int item = thread; item < 3 * packs; item += threads) {
            const int axis = item < packs ? 0 : (item < 2 * packs ? 1 : 2);
            const int first = axis * launch.chain.shape.plane() + frames.first * row;
            const int element = (first & ~3) + 4 * (item - axis * packs);
            if (axis == axis_mask || element >= first + points) {
                continue;
            }
            const Floats4 draws =
                normal(draw(source, view, Draw::kNoise, static_cast<std::uint32_t>(element) / 4));
            AIMCLR_UNROLL
            for (int i = 0; i < 4; ++i) {
                if (element + i >= first && element + i < first + points) {
                    work[slot(element + i)] = draws.v[i] * std;
                }
            }
        }
    }

    AIMCLR_HD Vector3<Real> read(const Real* buffer, int point) const {
        const int plane = launch.chain.shape.plane();
        return {
            {buffer[slot(point)], buffer[slot(point + plane)], buffer[slot(point + 2 * plane)]}};
    }

    AIMCLR_HD static Vector3<Real> multiply(const Matrix<Real>& matrix, Vector3<Real> x) {
        if (matrix.identity) {
            return x;
        }
        const Real* const m = matrix.entry;
        return {{m[0] * x.v[0] + m[1] * x.v[1] + m[2] * x.v[2],
                 m[3] * x.v[0] + m[4] * x.v[1] + m[5] * x.v[2],
                 m[6] * x.v[0] + m[7] * x.v[1] + m[8] * x.v[2]}};
    }

    // The element of `raw` for a point of the cropped and flipped sequence.
    AIMCLR_HD int source_point(const Plan<Real>& plan, int frame, int at) const {
        const int source = mirrored_frame(plan.crop_start + frame - launch.chain.padding,
                                          launch.chain.shape.frames);
        return source * launch.chain.shape.row() +
               (plan.spatial_flip ? launch.chain.joints.swap[at] : at);
    }

    // Adds some frames of the cropped, sheared, flipped and rotated sequence to the noise: `drawn`
    // in `work`, or given in `noise`, or none.
    template <typename T>
    AIMCLR_HD void transform(const Plan<Real>& plan, bool drawn, const T* noise, Frames frames,
                             int thread) const {
        const int plane = launch.chain.shape.plane(), row = launch.chain.shape.row();
        for (int point = frames.first * row + thread; point < frames.end * row; point += threads) {
            const int frame = launch.row_divider.quotient(point);
            const Vector3<Real> x =
                multiply(plan.matrix, read(raw, source_point(plan, frame, point - frame * row)));
            AIMCLR_UNROLL
            for (int axis = 0; axis < 3; ++axis) {
                if (axis == plan.axis_mask) {
                    continue;
                }
                Real& target = work[slot(axis * plane + point)];
                Real value = x.v[axis];
                if (drawn) {
                    value += target;
                } else if (noise != nullptr) {
                    value += load<Real>(noise[axis * plane + point]);
                }
                target = value;
            }
        }
    }

    // Blurs `work` over time into some frames of `raw`. kTaps 0 leaves the number of taps to run
    // time.
    template <int kTaps>
    AIMCLR_HD void blur_with(int axis_mask, Frames written, int thread) const {
        constexpr int kFrames = 5;  // per thread, which share most of what they read
        const int taps = kTaps > 0 ? kTaps : launch.chain.blur_taps, radius = taps / 2;
        const int frames = launch.chain.shape.frames, row = launch.chain.shape.row();
        const int chunks = (written.end - written.first + kFrames - 1) / kFrames;
        for (int item = thread; item < 3 * chunks * row; item += threads) {
            const int stripe = launch.row_divider.quotient(item), at = item - stripe * row;
            const int axis = stripe < chunks ? 0 : (stripe < 2 * chunks ? 1 : 2);
            if (axis == axis_mask) {
                continue;
            }
            const int first = written.first + (stripe - axis * chunks) * kFrames;
            const int column = axis * launch.chain.shape.plane() + at;
            Real sum[kFrames] = {};
            if (kTaps > 0) {
                AIMCLR_UNROLL
                for (int i = 0; i < kTaps + kFrames - 1; ++i) {
                    const int frame = first + i - radius;
                    const Real x =
                        frame >= 0 && frame < frames ? work[slot(column + frame * row)] : Real(0);
                    AIMCLR_UNROLL
                    for (int j = 0; j < kFrames; ++j) {
                        if (i - j >= 0 && i - j < kTaps) {
                            sum[j] += weights[i - j] * x;
                        }
                    }
                }
            } else {
                // At least one turn, as the test at the end tells nvcc: it would unroll the outer
                // loop for the case of none, and spill that loop's trip count.
                int i = 0;
                do {
                    const int frame = first + i - radius;
                    const Real x =
                        frame >= 0 && frame < frames ? work[slot(column + frame * row)] : Real(0);
                    AIMCLR_UNROLL
                    for (int j = 0; j < kFrames; ++j) {
                        sum[j] += i - j >= 0 && i - j < taps ? weights[i - j] * x : Real(0);
                    }
                } while (++i < taps + kFrames - 1);
            }
            AIMCLR_UNROLL
            for (int j = 0; j < kFrames; ++j) {
                if (first + j < written.end) {
                    raw[slot(column + (first + j) * row)] = sum[j];
                }
            }
        }
    }

    AIMCLR_HD void blur(int axis_mask, Frames written, int thread) const {
        if (launch.chain.blur_taps == 15) {
            blur_with<15>(axis_mask, written, thread);
        } else {
            blur_with<0>(axis_mask, written, thread);
        }
    }

    // --- Writing a view ---------------------------------------------------------------------

    // Writes the block's points of out[3, frames, row] in packs: value(frame, at) gives the three
    // coordinates of a point.
    template <typename Out, typename Value>
    AIMCLR_HD void write(Out* out, int thread, const Value& value) const {
        const int plane = launch.chain.shape.plane(), row = launch.chain.shape.row();
        const int end = end_point();
        for (int point = first_point() + 4 * thread; point < end; point += 4 * threads) {
            int frame = launch.row_divider.quotient(point), at = point - frame * row;
            Pack<Out> pack[3];
            AIMCLR_UNROLL
            for (int i = 0; i < 4; ++i) {
                const Vector3<Real> x = value(frame, at);
                AIMCLR_UNROLL
                for (int axis = 0; axis < 3; ++axis) {
                    pack[axis].v[i] = Store<Out>::from(x.v[axis]);
                }
                // Past the last point the last one is computed again, and not written.
                const bool wraps = at + 1 == row && frame + 1 < launch.chain.shape.frames;
                at = at + 1 < row ? at + 1 : (wraps ? 0 : at);
                frame += wraps;
            }
            AIMCLR_UNROLL
            for (int axis = 0; axis < 3; ++axis) {
                Out* const to = out + axis * static_cast<std::int64_t>(plane) + point;
                if (launch.packed) {
                    *reinterpret_cast<Pack<Out>*>(to) = pack[axis];
                } else {
                    AIMCLR_UNROLL
                    for (int i = 0; i < 4; ++i) {
                        if (point + i < plane) {
                            to[i] = pack[axis].v[i];
                        }
                    }
                }
            }
        }
    }

    AIMCLR_HD static Vector3<Real> minus(Vector3<Real> a, Vector3<Real> b) {
        return {{a.v[0] - b.v[0], a.v[1] - b.v[1], a.v[2] - b.v[2]}};
    }

    AIMCLR_HD static Vector3<Real> masked(Vector3<Real> x, int axis_mask) {
        AIMCLR_UNROLL
        for (int axis = 0; axis < 3; ++axis) {
            x.v[axis] = axis == axis_mask ? Real(0) : x.v[axis];
        }
        return x;
    }

    // Writes a stream. position(frame, at) reads a point before the mask and the stream; finish(x)
    // is what is linear and left to do, done once for a difference of two points.
    template <typename Out, typename Position, typename Finish>
    AIMCLR_HD void write_stream(Out* out, Stream stream, const Plan<Real>& plan, int thread,
                                const Position& position, const Finish& finish) const {
        const int last = launch.chain.shape.frames - 1;
        const bool reversed = plan.temporal_flip;
        if (stream == Stream::kJoint) {
            write(out, thread, [&](int frame, int at) {
                return masked(finish(position(reversed ? last - frame : frame, at)),
                              plan.axis_mask);
            });
        } else if (stream == Stream::kMotion) {
            write(out, thread, [&](int frame, int at) {
                const int from = reversed ? last - frame : frame;
                const int next = frame == last ? from : (reversed ? from - 1 : from + 1);
                return masked(finish(minus(position(next, at), position(from, at))),
                              plan.axis_mask);
            });
        } else {
            write(out, thread, [&](int frame, int at) {
                const int from = reversed ? last - frame : frame;
                return masked(finish(minus(position(from, at),
                                           position(from, launch.chain.joints.parents[at]))),
                              plan.axis_mask);
            });
        }
    }

    // Straight from the sequence, for a view without noise and blur.
    template <typename Out>
    AIMCLR_HD void write_direct(Out* out, Stream stream, const Plan<Real>& plan, int thread) const {
        write_stream(
            out, stream, plan, thread,
            [&](int frame, int at) { return read(raw, source_point(plan, frame, at)); },
            [&](Vector3<Real> x) { return multiply(plan.matrix, x); });
    }

    // From a buffer that holds the view's joints.
    template <typename Out>
    AIMCLR_HD void write_from(const Real* buffer, Out* out, Stream stream, const Plan<Real>& plan,
                              int thread) const {
        const int row = launch.chain.shape.row();
        write_stream(
            out, stream, plan, thread,
            [&](int frame, int at) { return read(buffer, frame * row + at); },
            [](Vector3<Real> x) { return x; });
    }
};

}  // namespace aimclr::augment
