#include "cpu/skeleton_augment/skeleton_augment_loops.h"

#include <cstring>

namespace aimclr::cpu {
namespace {

// Moves `Unit`s, each a joint's bodies. For the baseline alone: gather instructions are slower
// than this.
template <typename Unit, typename Real>
void gather_loop(const Real* in, const std::int32_t* table, augment::Shape shape, Real* out) {
    constexpr int kBodies = sizeof(Unit) / sizeof(Real);
    const int row = shape.row();
    for (int frame = 0; frame < shape.frames; ++frame, in += row, out += row) {
        for (int column = 0; column < row; column += kBodies) {
            std::memcpy(out + column, in + table[column], sizeof(Unit));
        }
    }
}

template <typename Real>
void gather_bodies(const Real* in, const std::int32_t* table, augment::Shape shape, Real* out) {
    struct Pair {
        Real v[2];
    };
    if (shape.bodies % 2 == 0) {  // bodies of a joint lie side by side
        gather_loop<Pair>(in, table, shape, out);
    } else {
        gather_loop<Real>(in, table, shape, out);
    }
}

}  // namespace

void gather_columns(const float* in, const std::int32_t* table, augment::Shape shape, float* out) {
    gather_bodies(in, table, shape, out);
}

void gather_columns(const double* in, const std::int32_t* table, augment::Shape shape,
                    double* out) {
    gather_bodies(in, table, shape, out);
}

}  // namespace aimclr::cpu
