#include <vector>

#include "bindings/binding.h"
#include "bindings/build_facts.h"

namespace aimclr::bindings {
namespace {

// A function's static, since the registrars of other files may run before this file's own statics.
std::vector<Registrar::Bind>& registered() {
    static std::vector<Registrar::Bind> binds;
    return binds;
}

}  // namespace

Registrar::Registrar(Bind bind) {
    registered().push_back(bind);
}

PYBIND11_MODULE(_native, module) {
    module.doc() =
        "Kernels of aimclr_fast over raw pointers; use them through aimclr_fast.functional.";
#ifdef AIMCLR_WITH_CUDA
    module.attr("cuda_compiled") = true;
#else
    module.attr("cuda_compiled") = false;
#endif
    module.attr("cuda_archs") = kCudaArchs;
    module.attr("cuda_left_out") = kCudaLeftOut;
    module.attr("compiler") = kCompiler;
    module.attr("source_digest") = kSourceDigest;
    for (const Registrar::Bind bind : registered()) {
        bind(module);
    }
}

}  // namespace aimclr::bindings
