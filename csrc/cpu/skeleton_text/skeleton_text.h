// Readers of skeleton text: NTU RGB+D's .skeleton files, and plain tables of numbers.
//
// The text is not trusted. Nothing outside [text, text + size) is read, nothing beyond the stated
// capacity is written, and a count in the text is never trusted further than the text goes. The
// text need not end in a newline or a null.
#pragma once

#include <cstdint>

#include "common/status.h"

namespace aimclr::cpu {

// Reads a .skeleton file: a count of frames; per frame a count of bodies; per body a line of 10
// columns (the first is its id), a count of joints, and a line of 12 columns per joint (the first
// three are x, y, z). Bodies come out in the order of the file:
//
//   positions [capacity, joints, 3]   x, y, z as written, in float32
//   frame [capacity], id [capacity]   of each body
//   report [3]                        line an error is about, counting from 1; frames; bodies
//
// A body needs at least kBytesPerJoint bytes for each joint, which bounds the capacity needed.
Status read_skeleton_text(const char* text, std::int64_t size, int joints, std::int64_t capacity,
                          float* positions, std::int64_t* frame, std::int64_t* id,
                          std::int64_t* report);

constexpr std::int64_t kBytesPerJoint = 24;  // 12 columns of a digit and a separator

// Reads lines of exactly `columns` numbers, separated by blanks, tabs, commas or semicolons; empty
// lines are passed over.
//
//   out [capacity, columns]   capacity >= size / (2 * columns) + 1 always suffices
//   report [2]                line an error is about, counting from 1; rows
Status read_number_table(const char* text, std::int64_t size, std::int64_t columns,
                         std::int64_t capacity, double* out, std::int64_t* report);

}  // namespace aimclr::cpu
