// The calls of skeleton_augment and apply_augment, as both devices and the bindings know them.
#pragma once

#include <cstdint>

#include "common/dtypes.h"
#include "common/skeleton_augment.h"

namespace aimclr::augment {

// skeleton_augment: draws and writes the views of `samples` sequences of a resident data set.
struct DrawnCall {
    const void* data;  // [sequences, 3, frames, joints, bodies]
    DataType data_type;
    float scale;  // turns stored units to metres
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
};

}  // namespace aimclr::augment
