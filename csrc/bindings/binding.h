// What every file in this folder needs: registration, pointers and exceptions.
//
// Arrays cross the border as addresses (Tensor.data_ptr()), sizes as integers, the stream as the
// integer that torch gives. The caller has checked dtype, shape, contiguity and device.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <type_traits>

#include "common/status.h"

namespace aimclr::bindings {

// Safe without the GIL: these exceptions touch Python only once pybind11 has it again.
inline void raise_if_error(const Status& status) {
    switch (status.code) {
        case StatusCode::kOk:
            return;
        case StatusCode::kInvalidArgument:
            throw pybind11::value_error(status.message);
        case StatusCode::kDeviceError:
            throw std::runtime_error(status.message);
    }
}

// How one C++ parameter looks from Python: a pointer is an integer, all else is itself.
template <typename T>
using FromPython = std::conditional_t<std::is_pointer_v<T>, std::uintptr_t, T>;

template <typename T>
T to_native(FromPython<T> value) {
    if constexpr (std::is_pointer_v<T>) {
        return reinterpret_cast<T>(value);
    } else {
        return value;
    }
}

template <auto Function, typename... Parameters, typename... Extra>
void define_as(pybind11::module_& module, const char* name, Status (*)(Parameters...),
               const Extra&... extra) {
    module.def(
        name,
        [](FromPython<Parameters>... values) {
            raise_if_error(Function(to_native<Parameters>(values)...));
        },
        pybind11::call_guard<pybind11::gil_scoped_release>(), extra...);
}

// Binds `Status Function(...)` as `name`, without the GIL while it runs. `extra` is pybind11's
// (py::arg and the like). Only for functions of numbers and pointers.
template <auto Function, typename... Extra>
void define(pybind11::module_& module, const char* name, const Extra&... extra) {
    define_as<Function>(module, name, Function, extra...);
}

// Adds a function to the list that module.cpp runs when Python imports the library.
struct Registrar {
    using Bind = void (*)(pybind11::module_&);
    explicit Registrar(Bind bind);
};

}  // namespace aimclr::bindings

// Opens the function that binds one op: AIMCLR_BINDINGS(philox, module) { module.def(...); }
#define AIMCLR_BINDINGS(op, module)                                        \
    static void bind_##op(pybind11::module_& module);                      \
    static const ::aimclr::bindings::Registrar registrar_##op(&bind_##op); \
    static void bind_##op(pybind11::module_& module)
