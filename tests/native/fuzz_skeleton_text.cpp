// Coverage-guided fuzzing of csrc/cpu/skeleton_text/skeleton_text.cpp, without a library: inputs are
// mutated, and those that reach a new edge of the parser join the corpus.
//
//   g++ -std=c++17 -O2 -g -I csrc -fsanitize=address,undefined -fno-sanitize-recover=all
//       -fsanitize-coverage=trace-pc -c csrc/cpu/skeleton_text/skeleton_text.cpp -o parser.o
//   g++ -std=c++17 -O2 -g -I csrc -fsanitize=address,undefined -fno-sanitize-recover=all
//       tests/native/fuzz_skeleton_text.cpp parser.o -o fuzz
//   ./fuzz 1000000 SEED file.skeleton ...
//
// Every input and output lies in a heap block of exactly its size, so that the sanitizer sees the
// first byte read or written outside. Prints counts; a finding aborts.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cpu/skeleton_text/skeleton_text.h"

namespace {

constexpr std::size_t kMap = 1 << 13;
std::uint8_t seen_now[kMap];
std::uint8_t seen_ever[kMap];
std::uintptr_t previous = 0;

}  // namespace

extern "C" __attribute__((no_sanitize("address", "undefined"))) void __sanitizer_cov_trace_pc() {
    const auto here = reinterpret_cast<std::uintptr_t>(__builtin_return_address(0));
    seen_now[(here ^ previous) % kMap] = 1;
    previous = here >> 1;
}

namespace {

struct Input {
    int target;  // joints of a .skeleton file, or minus the columns of a table
    std::string text;
};

void require(bool holds, const char* what) {
    if (!holds) {
        std::fprintf(stderr, "broken promise: %s\n", what);
        std::abort();
    }
}

template <typename T>
std::unique_ptr<T[]> block(std::int64_t size) {
    return std::unique_ptr<T[]>(new T[static_cast<std::size_t>(size)]);
}

// Returns the parser's message; "" when it took the input.
std::string run(const Input& input) {
    using namespace aimclr;
    const std::int64_t size = static_cast<std::int64_t>(input.text.size());
    auto text = block<char>(size);
    std::copy(input.text.begin(), input.text.end(), text.get());
    std::int64_t report[3] = {-1, -1, -1};
    const std::int64_t lines = std::count(input.text.begin(), input.text.end(), '\n') + 1;
    Status status;
    if (input.target > 0) {
        const int joints = input.target;
        const std::int64_t capacity = size / (cpu::kBytesPerJoint * joints) + 1;
        auto positions = block<float>(capacity * joints * 3);
        auto frame = block<std::int64_t>(capacity);
        auto id = block<std::int64_t>(capacity);
        status = cpu::read_skeleton_text(text.get(), size, joints, capacity, positions.get(),
                                         frame.get(), id.get(), report);
        if (status.code == StatusCode::kOk) {
            const std::int64_t frames = report[1], bodies = report[2];
            require(bodies >= 0 && bodies <= capacity, "bodies fit the capacity");
            require(frames >= 0 && frames <= size, "frames fit the text");
            for (std::int64_t k = 0; k < bodies; ++k) {
                require(frame[k] >= (k ? frame[k - 1] : 0) && frame[k] < frames, "frames rise");
            }
            for (std::int64_t i = 0; i < bodies * joints * 3; ++i) {
                require(std::isfinite(positions[i]), "positions are finite");
            }
        }
    } else {
        const std::int64_t columns = -input.target;
        const std::int64_t capacity = size / (2 * columns) + 1;
        auto out = block<double>(capacity * columns);
        status = cpu::read_number_table(text.get(), size, columns, capacity, out.get(), report);
        if (status.code == StatusCode::kOk) {
            require(report[1] >= 0 && report[1] <= capacity, "rows fit the capacity");
            for (std::int64_t i = 0; i < report[1] * columns; ++i) {
                require(std::isfinite(out[i]), "numbers are finite");
            }
        }
    }
    require(report[0] >= 0 && report[0] <= lines, "the line exists");
    return status.code == StatusCode::kOk ? "" : status.message;
}

using Random = std::mt19937_64;

std::size_t below(Random& random, std::size_t bound) {
    return bound ? random() % bound : 0;
}

const char* const kWords[] = {"0",
                              "1",
                              "-1",
                              "2",
                              "25",
                              "2147483648",
                              "-2147483648",
                              "9223372036854775807",
                              "9223372036854775808",
                              "18446744073709551616",
                              "nan",
                              "inf",
                              "-inf",
                              "1e309",
                              "1e-400",
                              "1e38",
                              "3.5e38",
                              "+1",
                              "-",
                              ".",
                              "1.",
                              ".5",
                              "1e",
                              "1e+",
                              "0x10",
                              "1_0",
                              "1,2",
                              "",
                              " ",
                              "\t",
                              "\r",
                              "\n",
                              "\r\n",
                              "\n\n",
                              ",",
                              ";",
                              ",,",
                              "123456789012345678901234567890",
                              "0.00000000000000000000000000000001",
                              "\xff",
                              "-0",
                              "1 2"};

void mutate(std::string& text, const std::string& other, Random& random) {
    const std::size_t size = text.size();
    const std::size_t at = below(random, size + 1);
    const std::size_t span = std::min(size - at, 1 + below(random, 1 + below(random, 400)));
    switch (below(random, 10)) {
        case 0:
            if (at < size)
                text[at] = static_cast<char>(random());
            break;
        case 1:
            text.erase(at, span);
            break;
        case 2:
            text.resize(at);
            break;
        case 3:
            text.insert(at, text.substr(below(random, size + 1), span));
            break;
        case 4:
            text.insert(at, kWords[below(random, std::size(kWords))]);
            break;
        case 5: {  // a word in a word's place
            const std::size_t begin = text.find_first_not_of(" \n", at);
            if (begin == std::string::npos)
                break;
            const std::size_t end = std::min(text.find_first_of(" \n", begin), size);
            text.replace(begin, end - begin, kWords[below(random, std::size(kWords))]);
            break;
        }
        case 6:
            if (at < size)
                text[at] = "0123456789.-+eE \t\r\n,;"[below(random, 21)];
            break;
        case 7: {  // a line gone
            const std::size_t end = text.find('\n', at);
            text.erase(at, end == std::string::npos ? end : end - at + 1);
            break;
        }
        case 8:
            text = text.substr(0, at) + other.substr(std::min(other.size(), at));
            break;
        default:
            if (at < size)
                text[at] = static_cast<char>(text[at] ^ (1 << below(random, 8)));
    }
    if (text.size() > 20000) {
        text.resize(20000);
    }
}

// The first frames of a file, with its count made to fit: short inputs are fast inputs.
std::string first_frames(const std::string& text, int frames) {
    std::string out = std::to_string(frames) + "\n";
    std::size_t at = text.find('\n') + 1;
    const auto take = [&] {
        const std::size_t end = std::min(text.find('\n', at), text.size() - 1);
        const std::string line = text.substr(at, end + 1 - at);
        at = end + 1;
        out += line;
        return std::atoi(line.c_str());
    };
    for (int frame = 0; frame < frames; ++frame) {
        for (int bodies = take(); bodies > 0; --bodies) {
            take();
            for (int joints = take(); joints > 0; --joints)
                take();
        }
    }
    return out;
}

std::vector<Input> seeds(int count, char** files) {
    std::vector<Input> corpus;
    for (int i = 0; i < count; ++i) {
        std::ifstream stream(files[i], std::ios::binary);
        const std::string text{std::istreambuf_iterator<char>(stream), {}};
        if (text.empty()) {
            std::fprintf(stderr, "cannot read %s\n", files[i]);
            std::exit(2);
        }
        corpus.push_back({25, first_frames(text, 2)});
    }
    const std::string joint = "0.1 -0.25 2.125 1 1 1 1 0 0 0 1 2\n";
    const std::string body = "72057594037931101 0 1 1 1 1 0 0.1 0.2 2\n2\n" + joint + joint;
    corpus.push_back({2, "3\n1\n" + body + "0\n2\n" + body + body});
    corpus.push_back({2,
                      "1\r\n1\r\n7 0 1 1 1 1 0 0 0 2\r\n2\r\n1e2 2 3 4 5 6 7 8 9 10 11 12\r\n1 2 3 "
                      "4 5 6 7 8 9 10 11 12"});
    corpus.push_back({-3, "1 2 3\n-4.5,5e-3,6\n\n7;8;9\n"});
    corpus.push_back({-4, "10,1,40,2\n3, 61, 95, 2\r\n"});
    return corpus;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3) {
        std::fprintf(stderr, "usage: %s RUNS SEED [file.skeleton ...]\n", argv[0]);
        return 2;
    }
    const long long runs = std::atoll(argv[1]);
    Random random(std::strtoull(argv[2], nullptr, 10));
    std::vector<Input> corpus = seeds(argc - 3, argv + 3);
    std::map<std::string, long long> outcomes;
    for (const Input& input : corpus) {
        require(run(input).empty(), "seeds are taken");
    }
    for (long long i = 0; i < runs; ++i) {
        Input input = corpus[below(random, corpus.size())];
        const std::string& other = corpus[below(random, corpus.size())].text;
        for (std::size_t n = 1 + below(random, 4); n > 0; --n) {
            mutate(input.text, other, random);
        }
        std::memset(seen_now, 0, kMap);
        previous = 0;
        ++outcomes[run(input)];
        bool fresh = false;
        for (std::size_t edge = 0; edge < kMap; ++edge) {
            fresh |= seen_now[edge] > seen_ever[edge];
            seen_ever[edge] |= seen_now[edge];
        }
        if (fresh) {
            corpus.push_back(std::move(input));
        }
    }
    const long long edges = std::count(seen_ever, seen_ever + kMap, 1);
    std::printf("%lld inputs, %lld edges, corpus of %zu\n", runs, edges, corpus.size());
    for (const auto& [message, count] : outcomes) {
        std::printf("%10lld  %s\n", count, message.empty() ? "taken" : message.c_str());
    }
    return 0;
}
