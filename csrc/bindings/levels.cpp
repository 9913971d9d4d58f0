#include "cpu/levels.h"

#include <string>

#include "bindings/binding.h"

namespace {

using aimclr::cpu::Level;

constexpr const char* kNames[] = {"baseline", "v3", "v4", "v4_bf16", "amx"};

// From the baseline to the highest that this processor and build have.
pybind11::list level_names() {
    pybind11::list names;
    for (int i = 0; i <= static_cast<int>(aimclr::cpu::highest_level()); ++i) {
        names.append(kNames[i]);
    }
    return names;
}

void set_level(const std::string& name) {
    int at = 0;
    for (const auto known : level_names()) {
        if (name == known.cast<std::string>()) {
            aimclr::cpu::set_level(static_cast<Level>(at));
            return;
        }
        ++at;
    }
    const std::string known = pybind11::str(", ").attr("join")(level_names()).cast<std::string>();
    throw pybind11::value_error("the CPU level must be one that this processor and build have (" +
                                known + "), got '" + name + "'");
}

}  // namespace

AIMCLR_BINDINGS(levels, module) {
    module.def("cpu_levels", &level_names);
    module.def("cpu_level", [] { return kNames[static_cast<int>(aimclr::cpu::level())]; });
    module.def("set_cpu_level", &set_level);
}
