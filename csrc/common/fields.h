// What a plain struct of a kernel's arguments tells the bindings about itself.
#pragma once

#include <string_view>

namespace aimclr {

// Takes the first of `names`, which are separated by commas and blanks.
inline std::string_view next_name(std::string_view& names) {
    const std::string_view name = names.substr(0, names.find_first_of(", "));
    const auto rest = names.find_first_not_of(", ", name.size());
    names = rest == std::string_view::npos ? std::string_view{} : names.substr(rest);
    return name;
}

}  // namespace aimclr

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
