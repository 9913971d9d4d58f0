// What every file in this folder needs: registration, calls and exceptions.
//
// A kernel takes one plain struct of addresses (Tensor.data_ptr(), 0 for none), sizes and options,
// and beside it what runs it: threads, or a workspace and the raw stream of torch. Python passes
// all of it by keyword. The caller has checked dtype, shape, contiguity and device.
//
// Names are <op>[_<pass>][_<dtype>]_<device>: stgcn_block_forward_f32_cpu. The dtype is that of the
// tensors, f32, f64, f16 or bf16, and is left out where one function takes all; the device is cpu,
// cuda or emulated (device code on the CPU, for tests). The pass may be `workspace`: its bytes.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>

#include "bindings/keywords.h"
#include "common/dtypes.h"
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

// A parameter that is neither a struct nor a reference to write to has a keyword of its own.
template <typename T>
inline constexpr bool kNamed = !std::is_class_v<std::decay_t<T>> && !std::is_lvalue_reference_v<T>;

template <typename Parameter, typename Value>
void read_parameter(Keywords& keywords, const pybind11::handle*& names, Value& value) {
    if constexpr (std::is_class_v<Value>) {
        keywords.read_members(value);
    } else if constexpr (kNamed<Parameter>) {
        keywords.read(*names++, value);
    }
}

// Adds the keywords of a parameter that is a struct.
template <typename Value>
void add_members(Names& names) {
    if constexpr (std::is_class_v<Value>) {
        names.insert(names.end(), member_names<Value>().begin(), member_names<Value>().end());
    }
}

inline void check_different(const std::string& function, const Names& names) {
    for (auto name = names.begin(); name != names.end(); ++name) {
        if (std::find(names.begin(), name, *name) != name) {
            throw std::logic_error(function + " has two arguments '" +
                                   std::string(pybind11::str(*name)) + "'");
        }
    }
}

template <auto Function, typename... Parameters, std::size_t N>
void define_call_as(pybind11::module_& module, const std::string& name, Status (*)(Parameters...),
                    const std::array<const char*, N>& own_names) {
    static_assert((std::size_t{kNamed<Parameters>} + ... + 0) == N, "one name a parameter");
    using Values = std::tuple<std::decay_t<Parameters>...>;
    Names names;
    for (const char* const one : own_names) {
        names.push_back(interned(one));
    }
    (add_members<std::decay_t<Parameters>>(names), ...);
    check_different(name, names);
    const auto call = [name, names](const pybind11::kwargs& given) -> pybind11::object {
        Values values{};
        Keywords keywords(name, given);
        const auto read = [&](auto&... value) {
            [[maybe_unused]] const pybind11::handle* next = names.data();
            (read_parameter<Parameters>(keywords, next, value), ...);
        };
        std::apply(read, values);
        keywords.finish(names);
        {
            const pybind11::gil_scoped_release release;
            raise_if_error(std::apply(Function, values));
        }
        if constexpr ((std::is_same_v<Parameters, std::int64_t&> || ...)) {
            return pybind11::int_(std::get<sizeof...(Parameters) - 1>(values));
        } else {
            return pybind11::none();
        }
    };
    module.def(name.c_str(), call);
}

// Binds `Status Function(...)` as `name`; it runs without the GIL. `names` are the keywords of the
// parameters in their order, without structs, whose members (AIMCLR_FIELDS) are keywords
// themselves. A last parameter `std::int64_t&` is what the call returns. Two arguments of one name
// keep the library from loading.
template <auto Function, typename... Names>
void define_call(pybind11::module_& module, const std::string& name, Names... names) {
    define_call_as<Function>(module, name, Function,
                             std::array<const char*, sizeof...(Names)>{names...});
}

template <typename T>
inline constexpr const char* kDtypeName = nullptr;
template <>
inline constexpr const char* kDtypeName<float> = "f32";
template <>
inline constexpr const char* kDtypeName<double> = "f64";
template <>
inline constexpr const char* kDtypeName<Half> = "f16";
template <>
inline constexpr const char* kDtypeName<BFloat16> = "bf16";

// The name of a CPU kernel for tensors of T: cpu_name<float>("my_op") is my_op_f32_cpu.
template <typename T>
std::string cpu_name(const std::string& op_and_pass) {
    return op_and_pass + "_" + kDtypeName<T> + "_cpu";
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
