// Reads the keyword arguments of a call from Python into C++ values.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

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

// Names of arguments. Interned, as those in Python's code are, so that a dict finds one by its
// address; never freed.
using Names = std::vector<pybind11::handle>;

inline pybind11::handle interned(std::string_view name) {
    PyObject* text = PyUnicode_FromStringAndSize(name.data(), static_cast<Py_ssize_t>(name.size()));
    if (text == nullptr) {
        throw pybind11::error_already_set();
    }
    PyUnicode_InternInPlace(&text);
    return text;
}

// The members of a struct (AIMCLR_FIELDS), in their order.
template <typename Struct>
const Names& member_names() {
    static const Names all = [] {
        Names found;
        const auto visit = [&](std::string_view names, const auto&... members) {
            for (std::size_t i = 0; i < sizeof...(members); ++i) {
                found.push_back(interned(next_name(names)));
            }
        };
        Struct{}.fields(visit);
        return found;
    }();
    return all;
}

// The keyword arguments of a call, or the members of a dict among them. Each is read once; one that
// is missing, unknown or of another type is a TypeError that names it.
class Keywords {
  public:
    Keywords(const std::string& function, pybind11::handle given)
        : function_(function), given_(given) {}

    template <typename T>
    void read(pybind11::handle name, T& to) {
        PyObject* const value = PyDict_GetItemWithError(given_.ptr(), name.ptr());
        if (value == nullptr) {
            if (PyErr_Occurred() != nullptr) {
                throw pybind11::error_already_set();
            }
            fail("misses the argument '" + text(name) + "'");
        }
        convert(name, value, to);
        ++count_;
    }

    template <typename Struct>
    void read_members(Struct& to) {
        auto name = member_names<Struct>().begin();
        const auto visit = [&](std::string_view, auto&... members) {
            (read(*name++, members), ...);
        };
        to.fields(visit);
    }

    // After the last one, with all that there are.
    void finish(const Names& names) const {
        if (PyDict_Size(given_.ptr()) == count_) {
            return;
        }
        for (const auto& [name, value] : pybind11::reinterpret_borrow<pybind11::dict>(given_)) {
            const auto equals = [&](pybind11::handle known) { return known.equal(name); };
            if (std::none_of(names.begin(), names.end(), equals)) {
                fail("got an unknown argument '" + text(name) + "'");
            }
        }
    }

  private:
    Keywords(const Keywords& whole, pybind11::handle name, pybind11::handle given)
        : function_(whole.function_), whole_(&whole), name_(name), given_(given) {}

    static std::string text(pybind11::handle name) {
        return std::string(pybind11::str(name));
    }

    std::string where() const {
        return whole_ == nullptr ? function_ : whole_->where() + ": " + text(name_);
    }

    [[noreturn]] void fail(const std::string& what) const {
        throw pybind11::type_error(where() + " " + what);
    }

    // A number, or for a member that is itself a struct a dict of its members.
    template <typename T>
    void convert(pybind11::handle name, pybind11::handle from, T& to) const {
        if constexpr (std::is_class_v<T>) {
            if (!pybind11::isinstance<pybind11::dict>(from)) {
                refuse(name, "a dict", from);
            }
            Keywords members(*this, name, from);
            members.read_members(to);
            members.finish(member_names<T>());
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
    void convert(pybind11::handle name, pybind11::handle from, T (&to)[N]) const {
        if (!pybind11::isinstance<pybind11::sequence>(from) || pybind11::len(from) != N) {
            refuse(name, "a sequence of " + std::to_string(N), from);
        }
        const auto given = pybind11::reinterpret_borrow<pybind11::sequence>(from);
        for (std::size_t i = 0; i < N; ++i) {
            convert(name, pybind11::object(given[i]), to[i]);
        }
    }

    [[noreturn]] void refuse(pybind11::handle name, const std::string& want,
                             pybind11::handle got) const {
        fail("needs " + want + " for '" + text(name) + "', got " +
             std::string(pybind11::repr(got)));
    }

    const std::string& function_;
    const Keywords* whole_ = nullptr;  // null for a call
    pybind11::handle name_;            // in the whole
    pybind11::handle given_;
    Py_ssize_t count_ = 0;  // read so far
};

}  // namespace aimclr::bindings
