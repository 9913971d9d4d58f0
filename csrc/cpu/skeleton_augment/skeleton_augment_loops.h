// The loops of skeleton_augment on the CPU, each over whole planes [frames, joints * bodies] or
// runs of rows: long, contiguous and without branches, so that they vectorize.
#pragma once

#include <cstdint>

#include "common/dtypes.h"
#include "common/skeleton_augment.h"
#include "cpu/levels.h"

namespace aimclr::cpu {

AIMCLR_EACH_LEVEL(
    // out = scale * in. Double is only for double.
    template <typename T, typename Real>
    AIMCLR_LEVEL_ENTRY void load_scaled(const T* in, Real scale, Real* out, int n);

    template <typename Real, typename T>
    AIMCLR_LEVEL_ENTRY void store(const Real* in, T* out, int n);

    // out = row[0] x + row[1] y + row[2] z.
    template <typename Real>
    AIMCLR_LEVEL_ENTRY void combine(const Real* x, const Real* y, const Real* z, const Real* row,
                                    Real* out, int n);

    // out += in.
    template <typename Real> AIMCLR_LEVEL_ENTRY void add(const Real* in, Real* out, int n);

    // out = a - b.
    template <typename Real>
    AIMCLR_LEVEL_ENTRY void subtract(const Real* a, const Real* b, Real* out, int n);

    // out[i] = sum over k of weights[k] in[i + k stride], for 0 <= k < taps.
    template <typename Real> AIMCLR_LEVEL_ENTRY void blur(const Real* in, const Real* weights,
                                                          int taps, int stride, Real* out, int n);

    // out[4 i + j] = std times standard normal draw j of block first + i.
    AIMCLR_LEVEL_ENTRY void draw_noise(augment::Source source, augment::View view,
                                       std::uint32_t first, int blocks, float std, float* out);)

// The loops at one level: a call reads the level once, and all its threads use the same.
struct Loops {
    Level level;

#define AIMCLR_LOOP(name)                           \
    template <typename... Arguments>                \
    void name(Arguments... arguments) const {       \
        AIMCLR_AT_LEVEL(level, name(arguments...)); \
    }
    AIMCLR_LOOP(load_scaled)
    AIMCLR_LOOP(store)
    AIMCLR_LOOP(combine)
    AIMCLR_LOOP(add)
    AIMCLR_LOOP(subtract)
    AIMCLR_LOOP(blur)
    AIMCLR_LOOP(draw_noise)
#undef AIMCLR_LOOP
};

// out[frame, column] = in[frame, table[column]], for the tables of augment::JointTables.
void gather_columns(const float* in, const std::int32_t* table, augment::Shape shape, float* out);
void gather_columns(const double* in, const std::int32_t* table, augment::Shape shape, double* out);

}  // namespace aimclr::cpu
