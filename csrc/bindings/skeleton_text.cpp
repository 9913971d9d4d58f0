#include "cpu/skeleton_text/skeleton_text.h"

#include "bindings/binding.h"

AIMCLR_BINDINGS(skeleton_text, module) {
    using namespace aimclr;
    using bindings::define_call;
    define_call<&cpu::read_skeleton_text>(module, "read_skeleton_text", "text", "size", "joints",
                                          "capacity", "positions", "frame", "id", "report");
    define_call<&cpu::read_number_table>(module, "read_number_table", "text", "size", "columns",
                                         "capacity", "out", "report");
}
