// Compiler differences, kept in one place.
#pragma once

#include <cstddef>  // any header of the C library says whether it is glibc

// A small function that both the host compiler and nvcc's device pass may use. Always inlined: in a
// multiversioned loop a call would keep the loop from being vectorised.
#if defined(__CUDACC__)
#define AIMCLR_HD __host__ __device__ __forceinline__
#elif defined(__GNUC__)
#define AIMCLR_HD inline __attribute__((always_inline))
#else
#define AIMCLR_HD inline
#endif

// Before a loop whose trip count is known when it is compiled: keeps its arrays in registers.
#if defined(__CUDA_ARCH__)
#define AIMCLR_UNROLL _Pragma("unroll")
#elif defined(__GNUC__) && !defined(__clang__) && !defined(__CUDACC__)
#define AIMCLR_UNROLL _Pragma("GCC unroll 64")
#else
#define AIMCLR_UNROLL
#endif

// A CPU loop compiled once per instruction set; the loader picks one when the library is opened, so
// the same wheel runs on any x86-64 and still uses AVX2 and FMA (v3) or AVX-512 (v4).
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && __GNUC__ >= 12 && \
    !defined(__clang__)
#define AIMCLR_MULTIVERSION \
    __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define AIMCLR_MULTIVERSION
#endif
