// What a plain struct of a kernel's arguments tells the bindings about itself.
#pragma once

// Inside a struct: lists its members, so that the bindings can fill them by name:
//
//     struct MyOp {
//         const float* x;  // [n]
//         float* y;
//         std::int64_t n;
//         AIMCLR_FIELDS(x, y, n)
//     };
#define AIMCLR_FIELDS(...)                \
    template <typename Visit>             \
    void fields(Visit& visit) {           \
        visit(#__VA_ARGS__, __VA_ARGS__); \
    }
