#include "amx_traps.h"

#include <signal.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include <xmmintrin.h>

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

constexpr int kTiles = 8, kRows = 16, kBytes = 64;

struct Tile {
    int rows = 0, bytes = 0;  // 0 for a tile that is not valid
    std::uint8_t data[kRows][kBytes] = {};
};

struct State {
    bool configured = false;
    Tile tiles[kTiles];
};

thread_local State state;
std::atomic<long> products{0};
std::atomic<const char*> fault{nullptr};

void expect(bool holds, const char* what) {
    const char* none = nullptr;
    if (!holds) {
        fault.compare_exchange_strong(none, what);
    }
}

Tile& tile(int at) {
    expect(state.configured, "tiles are used before LDTILECFG");
    expect(at < kTiles && state.tiles[at].rows > 0, "a tile is used that has no shape");
    return state.tiles[at % kTiles];
}

void load_config(const std::uint8_t* from) {
    State found;
    expect(from[0] == 1, "LDTILECFG: the palette is not 1");
    for (int i = 1; i < 64; ++i) {  // start_row is 0 in all that is emulated
        const bool reserved = i < 16 || (i >= 16 + 2 * kTiles && i < 48) || i >= 48 + kTiles;
        expect(!reserved || from[i] == 0, "LDTILECFG: a reserved byte is not 0");
    }
    for (int i = 0; i < kTiles; ++i) {
        std::uint16_t bytes;
        std::memcpy(&bytes, from + 16 + 2 * i, sizeof(bytes));
        found.tiles[i].rows = from[48 + i];
        found.tiles[i].bytes = bytes;
        expect(from[48 + i] <= kRows && bytes <= kBytes, "LDTILECFG: a tile is too large");
        expect((from[48 + i] == 0) == (bytes == 0), "LDTILECFG: a tile has rows or bytes alone");
    }
    found.configured = true;
    state = found;
}

void load_tile(int at, const std::uint8_t* from, long stride) {
    Tile& to = tile(at);
    std::memset(to.data, 0, sizeof(to.data));
    for (int row = 0; row < to.rows; ++row) {
        std::memcpy(to.data[row], from + row * stride, static_cast<std::size_t>(to.bytes));
    }
}

void store_tile(int at, std::uint8_t* to, long stride) {
    const Tile& from = tile(at);
    for (int row = 0; row < from.rows; ++row) {
        std::memcpy(to + row * stride, from.data[row], static_cast<std::size_t>(from.bytes));
    }
}

void zero_tile(int at) {
    std::memset(tile(at).data, 0, sizeof(Tile::data));
}

float word(const Tile& of, int row, int at) {
    float found;
    std::memcpy(&found, &of.data[row][4 * at], sizeof(found));
    return found;
}

// Half 0 or 1 of a word, as a float.
float half(const Tile& of, int row, int at, int which) {
    std::uint16_t bits;
    std::memcpy(&bits, &of.data[row][4 * at + 2 * which], sizeof(bits));
    const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
    float found;
    std::memcpy(&found, &wide, sizeof(found));
    return found;
}

// TDPBF16PS: sum += a * b, where words of a's rows and of b's columns are pairs.
void multiply(int sum_at, int a_at, int b_at) {
    Tile& sum = tile(sum_at);
    const Tile &a = tile(a_at), &b = tile(b_at);
    expect(sum_at != a_at && sum_at != b_at && a_at != b_at, "TDPBF16PS: a tile is named twice");
    expect(a.bytes % 4 == 0 && b.bytes % 4 == 0 && sum.bytes % 4 == 0, "TDPBF16PS: half a word");
    expect(sum.rows == a.rows && sum.bytes == b.bytes && a.bytes / 4 == b.rows,
           "TDPBF16PS: tiles do not fit");
    const unsigned control = _mm_getcsr();
    _mm_setcsr(0x9FC0);  // subnormal numbers are zeros; rounded to nearest; no exceptions
    for (int m = 0; m < sum.rows; ++m) {
        float even[kBytes / 4] = {}, odd[kBytes / 4] = {};
        for (int k = 0; k < a.bytes / 4; ++k) {
            for (int n = 0; n < sum.bytes / 4; ++n) {
                even[n] = std::fma(half(a, m, k, 0), half(b, k, n, 0), even[n]);
                odd[n] = std::fma(half(a, m, k, 1), half(b, k, n, 1), odd[n]);
            }
        }
        for (int n = 0; n < sum.bytes / 4; ++n) {
            const float total = word(sum, m, n) + (even[n] + odd[n]);
            std::memcpy(&sum.data[m][4 * n], &total, sizeof(total));
        }
    }
    _mm_setcsr(control);
    ++products;
}

// --- From machine code to what it does -----------------------------------------------------------

struct Memory {
    std::uint8_t* base;  // with the displacement
    long index;          // scaled
    int length;          // bytes of ModRM, SIB and displacement
};

long long& register_of(ucontext_t* context, int number) {
    constexpr int kOrder[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                              REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                              REG_R12, REG_R13, REG_R14, REG_R15};
    return context->uc_mcontext.gregs[kOrder[number]];
}

// The operand in memory of an instruction whose ModRM is at `at`; `x` and `b` are VEX's bits.
Memory operand(ucontext_t* context, const std::uint8_t* at, int x, int b) {
    const int mod = at[0] >> 6, rm = at[0] & 7;
    int length = 1;
    long address = 0, index = 0;
    bool wide = mod == 2;
    if (rm == 4) {
        const int sib = at[length++], index_number = ((sib >> 3) & 7) | x << 3;
        if (index_number != 4) {
            index = register_of(context, index_number) << (sib >> 6);
        }
        if (mod == 0 && (sib & 7) == 5) {
            wide = true;
        } else {
            address = register_of(context, (sib & 7) | b << 3);
        }
    } else if (mod == 0 && rm == 5) {  // after this instruction, which has no immediate
        address = reinterpret_cast<long>(at) + 5;
        wide = true;
    } else {
        address = register_of(context, rm | b << 3);
    }
    if (wide) {
        std::int32_t displacement;
        std::memcpy(&displacement, at + length, sizeof(displacement));
        address += displacement;
        length += 4;
    } else if (mod == 1) {
        address += static_cast<std::int8_t>(at[length++]);
    }
    return {reinterpret_cast<std::uint8_t*>(address), index, length};
}

// Whether the instruction at the context's address was one of AMX; then it is done.
bool execute(ucontext_t* context) {
    auto* const code = reinterpret_cast<const std::uint8_t*>(context->uc_mcontext.gregs[REG_RIP]);
    // VEX.128.0F38.W0 in three bytes.
    if (code[0] != 0xC4 || (code[1] & 0x1F) != 2 || (code[2] & 0x84) != 0) {
        return false;
    }
    const bool in_memory = code[4] >> 6 != 3;
    const int prefix = code[2] & 3, opcode = code[3], operands = ((code[2] >> 3) & 15) ^ 15;
    const int reg = ((code[4] >> 3) & 7) | ((~code[1] >> 7) & 1) << 3, rm = code[4] & 7;
    Memory memory{nullptr, 0, 1};
    if (in_memory) {
        memory = operand(context, code + 4, (~code[1] >> 6) & 1, (~code[1] >> 5) & 1);
    }
    enum { kNone, k66, kF3, kF2 };
    if (opcode == 0x49 && prefix == kNone && in_memory) {  // LDTILECFG
        load_config(memory.base + memory.index);
    } else if (opcode == 0x49 && prefix == kNone && code[4] == 0xC0) {  // TILERELEASE
        state = State{};
    } else if (opcode == 0x49 && prefix == kF2 && !in_memory) {  // TILEZERO
        zero_tile(reg);
    } else if (opcode == 0x4B && prefix == kF2 && in_memory && rm == 4) {  // TILELOADD
        load_tile(reg, memory.base, memory.index);
    } else if (opcode == 0x4B && prefix == kF3 && in_memory && rm == 4) {  // TILESTORED
        store_tile(reg, memory.base, memory.index);
    } else if (opcode == 0x5C && prefix == kF3 && !in_memory) {  // TDPBF16PS reg, rm, vvvv
        multiply(reg, rm, operands);
    } else {
        return false;
    }
    context->uc_mcontext.gregs[REG_RIP] += 4 + memory.length;
    return true;
}

void on_illegal(int, siginfo_t*, void* context) {
    if (!execute(static_cast<ucontext_t*>(context))) {
        signal(SIGILL, SIG_DFL);  // which the same instruction raises again
    }
}

}  // namespace

extern "C" {

bool amx_native_or_emulated() {
    constexpr long kRequestPermission = 0x1023, kTileData = 18;  // asm/prctl.h
    if (syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0) {
        return true;
    }
    struct sigaction action{};
    action.sa_sigaction = &on_illegal;
    action.sa_flags = SA_SIGINFO;
    expect(sigaction(SIGILL, &action, nullptr) == 0, "no handler can be installed");
    return false;
}

long amx_products() {
    return products;
}

const char* amx_fault() {
    return fault;
}
}
