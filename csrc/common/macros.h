// Compiler differences, kept in one place.
#pragma once

#include <cstddef>  // any header of the C library says whether it is glibc

// A function that both the host compiler and nvcc's device pass may use.
#if defined(__CUDACC__)
#define AIMCLR_HD __host__ __device__ __forceinline__
#else
#define AIMCLR_HD inline
#endif

// A CPU loop compiled once per instruction set; the loader picks one when the library is opened, so
// the same wheel runs on any x86-64 and still uses AVX2 and FMA (v3) or AVX-512 (v4).
// Not under the address sanitizer, whose run time is not up yet when the loader picks.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && __GNUC__ >= 12 && \
    !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define AIMCLR_MULTIVERSION \
    __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define AIMCLR_MULTIVERSION
#endif
