// What the library says of its own build. CMake writes the source file, so that a new digest
// compiles nothing else again.
#pragma once

namespace aimclr::bindings {

extern const char* const kCudaArchs;     // "80,90", or "" for none
extern const char* const kCudaLeftOut;   // why there are no CUDA kernels
extern const char* const kCompiler;      // names and versions
extern const char* const kSourceDigest;  // of csrc; see native.py

}  // namespace aimclr::bindings
