// The instructions of AMX on a processor that lacks them: each raises SIGILL, whose handler does
// what Intel's manual says of it (Software Developer's Manual, volume 2) and goes on behind it. So
// the machine code runs as it was compiled, operands and addresses included.
#pragma once

extern "C" {

// True if the processor itself has AMX, which the kernel then permits this process; else from now
// on all threads' instructions are emulated.
bool amx_native_or_emulated();

// Products of tiles that were emulated.
long amx_products();

// What the manual forbids of what was executed, or null.
const char* amx_fault();
}
