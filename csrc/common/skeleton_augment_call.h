// The calls of skeleton_augment and apply_augment, for both devices and the bindings.
#pragma once

#include <cstdint>

#include "common/dtypes.h"
#include "common/skeleton_augment.h"

namespace aimclr::augment {

// skeleton_augment: draws and writes the views of `samples` sequences of a resident data set.
struct DrawnCall {
    const void* data;  // [sequences, 3, frames, joints, bodies]
    DataType data_type;
    float scale;  // turns stored units to meters
    std::int64_t sequences;
    const void* index;  // [samples], integers of `index_bytes` 4 or 8
    int index_bytes;
    std::int64_t samples;
    Outputs outputs;
    DataType out_type;
    Chain chain;
    Settings settings;
    Source source;                    // of sample 0
    const std::int64_t* step_tensor;  // holds the step in place of source's, or null
    AIMCLR_FIELDS(data, data_type, scale, sequences, index, index_bytes, samples, outputs, out_type,
                  chain, settings, source, step_tensor)

    // The view that a CUDA block writes as its first: see for_launches. Not Python's to set.
    View first_view = View::kExtreme;

    AIMCLR_HD std::int64_t sequence(std::int64_t sample) const {
        return index_bytes == 8 ? static_cast<const std::int64_t*>(index)[sample]
                                : static_cast<const std::int32_t*>(index)[sample];
    }
    AIMCLR_HD bool in_range(std::int64_t sample) const {
        const std::int64_t at = sequence(sample);
        return at >= 0 && at < sequences;
    }
    AIMCLR_HD Source source_of(std::int64_t sample) const {
        const std::uint32_t step =
            step_tensor != nullptr ? static_cast<std::uint32_t>(*step_tensor) : source.step;
        return {source.key0, source.key1, step,
                source.position + static_cast<std::uint32_t>(sample)};
    }
};

// apply_augment, or its backward, which takes the gradient of the output to those of the input and
// of the noise. All tensors are [samples, 3, frames, joints, bodies].
struct GivenCall {
    bool backward;
    DataType type;       // of the tensors; parameters are double for double, else float
    const void* input;   // x; backward: the gradient of the output
    const void* noise;   // null for none; backward: null
    void* output;        // the augmented x; backward: the gradient of x, or null
    void* noise_output;  // backward: the gradient of the noise, or null
    Stream stream;
    std::int64_t samples;
    GivenArrays params;
    Chain chain;
    AIMCLR_FIELDS(backward, type, input, noise, output, noise_output, stream, samples, params,
                  chain)
};

// The parameters that skeleton_augment draws, of one view of positions `source.position` on.
struct DrawsCall {
    Settings settings;
    Source source;
    View view;
    int padding;
    std::int64_t n;
    std::int32_t* integers;  // [n, 4]: crop start, spatial flip, axis mask, temporal flip
    float* floats;           // [n, 14]: the shear, the angles, the noise's std, the blur's sigma
    AIMCLR_FIELDS(settings, source, view, padding, n, integers, floats)
};

inline bool is_stream(Stream stream) {
    return stream == Stream::kJoint || stream == Stream::kMotion || stream == Stream::kBone;
}

inline Status check_samples(std::int64_t samples, const Chain& chain) {
    AIMCLR_RETURN_IF_ERROR(check(chain));
    if (samples < 0 || !countable(samples) || !countable(samples, chain.shape.elements())) {
        return invalid_argument("augment: bad number of samples");
    }
    return {};
}

// What any device can take. It reads no memory, so values are left to the caller.
inline Status check(const DrawnCall& call) {
    AIMCLR_RETURN_IF_ERROR(check_samples(call.samples, call.chain));
    if (call.sequences < 0 || (call.index_bytes != 4 && call.index_bytes != 8)) {
        return invalid_argument("skeleton_augment: bad sizes");
    }
    if (call.outputs.streams < 1 || call.outputs.streams > 3) {
        return invalid_argument("skeleton_augment: one to three streams");
    }
    const bool empty = call.samples == 0 || call.chain.shape.elements() == 0;
    if (call.samples > 0 && (call.index == nullptr || (!empty && call.data == nullptr))) {
        return invalid_argument("skeleton_augment: null pointer");
    }
    for (int i = 0; i < call.outputs.streams; ++i) {
        if (!is_stream(call.outputs.stream[i])) {
            return invalid_argument("skeleton_augment: a stream is joint, motion or bone");
        }
        for (int view = 0; view < kViews; ++view) {
            const bool is_there = call.outputs.view[i][view] != nullptr;
            if (!empty && is_there != call.outputs.wants(static_cast<View>(view))) {
                return invalid_argument("skeleton_augment: null pointer to a view of one stream");
            }
        }
    }
    return {};
}

inline Status check(const GivenCall& call) {
    AIMCLR_RETURN_IF_ERROR(check_samples(call.samples, call.chain));
    if (!is_stream(call.stream)) {
        return invalid_argument("apply_augment: a stream is joint, motion or bone");
    }
    const bool no_output = call.output == nullptr && (!call.backward || !call.noise_output);
    const bool empty = call.samples == 0 || call.chain.shape.elements() == 0;
    if (!empty && (call.input == nullptr || no_output)) {
        return invalid_argument("apply_augment: null pointer");
    }
    return {};
}

}  // namespace aimclr::augment
