// The loops of skeleton_augment on the CPU, each over whole planes [frames, joints * bodies] or
// runs of rows: long, contiguous and without branches, so that they vectorise.
#pragma once

#include <cstdint>

#include "common/dtypes.h"
#include "common/skeleton_augment.h"

namespace aimclr::cpu::loops {

// out = scale * in. No other pair of types is needed: double is only for double.
void load_scaled(const float* in, float scale, float* out, int n);
void load_scaled(const double* in, float scale, float* out, int n);
void load_scaled(const Half* in, float scale, float* out, int n);
void load_scaled(const BFloat16* in, float scale, float* out, int n);
void load_scaled(const std::int16_t* in, float scale, float* out, int n);
void load_scaled(const double* in, double scale, double* out, int n);

void store(const float* in, float* out, int n);
void store(const float* in, Half* out, int n);
void store(const float* in, BFloat16* out, int n);
void store(const double* in, double* out, int n);

// out = row[0] x + row[1] y + row[2] z.
void combine(const float* x, const float* y, const float* z, const float* row, float* out, int n);
void combine(const double* x, const double* y, const double* z, const double* row, double* out,
             int n);

// out += in.
void add(const float* in, float* out, int n);
void add(const double* in, double* out, int n);

// out = a - b.
void subtract(const float* a, const float* b, float* out, int n);
void subtract(const double* a, const double* b, double* out, int n);

// out[i] = sum over k of weights[k] in[i + k stride], for 0 <= k < taps.
void blur(const float* in, const float* weights, int taps, int stride, float* out, int n);
void blur(const double* in, const double* weights, int taps, int stride, double* out, int n);

// out[4 i + j] = std times standard normal draw j of block first + i.
void draw_noise(augment::Source source, augment::View view, std::uint32_t first, int blocks,
                float std, float* out);

// out[frame, place] = in[frame, table[place]], for the tables of augment::JointTables.
void gather_places(const float* in, const std::int32_t* table, augment::Shape shape, float* out);
void gather_places(const double* in, const std::int32_t* table, augment::Shape shape, double* out);

}  // namespace aimclr::cpu::loops
