// Compiler differences.
#pragma once

// A small function that both the host compiler and nvcc's device pass may use. Always inlined:
// a call would keep the loop around it from being vectorized.
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
