// Reads the keyword arguments of a call from Python into C++ values.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "common/fields.h"

namespace aimclr::bindings {

// How one value looks from Python: an address or an enumeration is an integer, all else is itself.
template <typename T, typename = void>
struct FromPythonOf {
    using Type = T;
};
template <typename T>
struct FromPythonOf<T, std::enable_if_t<std::is_pointer_v<T>>> {
    using Type = std::uintptr_t;
};
template <typename T>
struct FromPythonOf<T, std::enable_if_t<std::is_enum_v<T>>> {
    using Type = std::underlying_type_t<T>;
};
template <typename T>
using FromPython = typename FromPythonOf<T>::Type;

template <typename T>
T to_native(FromPython<T> value) {
    if constexpr (std::is_pointer_v<T>) {
        return reinterpret_cast<T>(value);
    } else {
        return static_cast<T>(value);
    }
}

template <typename T>
std::string wanted() {
    if constexpr (std::is_pointer_v<T>) {
        return "an address (Tensor.data_ptr(), 0 for none)";
    } else if constexpr (std::is_same_v<T, bool>) {
        return "True or False";
    } else if constexpr (std::is_floating_point_v<T>) {
        return "a number";
    } else {
        using Integer = FromPython<T>;
        const std::string bits = std::to_string(8 * sizeof(Integer)) + " bits";
        return (std::is_signed_v<Integer> ? "an integer of " : "an unsigned integer of ") + bits;
    }
}

// A call's keyword arguments. Each is read once; one that is missing, unknown or of another type is
// a TypeError that names it.
class Keywords {
  public:
    Keywords(std::string function, pybind11::dict given)
        : function_(std::move(function)), rest_(std::move(given)) {}

    template <typename T>
    void read(const pybind11::str& name, T& to) {
        if (!rest_.contains(name)) {
            fail("misses the argument '" + std::string(name) + "'");
        }
        convert(name, rest_[name], to);
        if (PyDict_DelItem(rest_.ptr(), name.ptr()) != 0) {
            throw pybind11::error_already_set();
        }
    }

    // For AIMCLR_FIELDS: `names` are separated by commas, in the order of `values`.
    template <typename... Ts>
    void operator()(std::string_view names, Ts&... values) {
        (read(next(names), values), ...);
    }

    // After the last one.
    void finish() const {
        for (const auto& [name, value] : rest_) {
            fail("got an unknown argument '" + std::string(pybind11::str(name)) + "'");
        }
    }

  private:
    [[noreturn]] void fail(const std::string& what) const {
        throw pybind11::type_error(function_ + " " + what);
    }

    static pybind11::str next(std::string_view& names) {
        const std::string_view name = next_name(names);
        return pybind11::str(name.data(), name.size());
    }

    // A number, or for a member that is itself a struct a dict of its members.
    template <typename T>
    void convert(const pybind11::str& name, pybind11::handle from, T& to) const {
        if constexpr (std::is_class_v<T>) {
            if (!pybind11::isinstance<pybind11::dict>(from)) {
                refuse(name, "a dict", from);
            }
            Keywords members(function_ + ": " + std::string(name), from.attr("copy")());
            to.fields(members);
            members.finish();
        } else {
            pybind11::detail::make_caster<FromPython<T>> caster;
            if (!caster.load(from, std::is_floating_point_v<T>)) {
                refuse(name, wanted<T>(), from);
            }
            to = to_native<T>(pybind11::detail::cast_op<FromPython<T>>(caster));
        }
    }

    // A member that is an array: as many items.
    template <typename T, std::size_t N>
    void convert(const pybind11::str& name, pybind11::handle from, T (&to)[N]) const {
        const std::string items = "a sequence of " + std::to_string(N);
        if (!pybind11::isinstance<pybind11::sequence>(from) || pybind11::len(from) != N) {
            refuse(name, items, from);
        }
        const auto given = pybind11::reinterpret_borrow<pybind11::sequence>(from);
        for (std::size_t i = 0; i < N; ++i) {
            convert(name, pybind11::object(given[i]), to[i]);
        }
    }

    [[noreturn]] void refuse(const pybind11::str& name, const std::string& want,
                             pybind11::handle got) const {
        fail("needs " + want + " for '" + std::string(name) + "', got " +
             std::string(pybind11::repr(got)));
    }

    std::string function_;
    pybind11::dict rest_;
};

}  // namespace aimclr::bindings
