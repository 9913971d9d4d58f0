#include "cpu/skeleton_text/skeleton_text.h"

#include <charconv>
#include <cmath>
#include <cstring>
#include <system_error>

namespace aimclr::cpu {
namespace {

constexpr int kInfoColumns = 10;
constexpr int kJointColumns = 12;

struct Line {
    const char* begin;
    const char* end;
};

// Hands out lines without their "\n" or "\r\n", and counts them.
class Lines {
  public:
    Lines(const char* text, std::int64_t size) : at_(text), end_(text + size) {}

    bool next(Line& line) {
        if (at_ == end_) {
            return false;
        }
        const std::size_t left = static_cast<std::size_t>(end_ - at_);
        const void* newline = std::memchr(at_, '\n', left);
        line.begin = at_;
        line.end = newline == nullptr ? end_ : static_cast<const char*>(newline);
        at_ = newline == nullptr ? end_ : line.end + 1;
        if (line.end != line.begin && line.end[-1] == '\r') {
            --line.end;
        }
        ++number_;
        return true;
    }

    std::int64_t number() const {
        return number_;
    }

  private:
    const char* at_;
    const char* end_;
    std::int64_t number_ = 0;
};

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
bool is_blank(char c) {
    return c == ' ' || c == '\t';
}
bool is_separator(char c) {
    return is_blank(c) || c == ',' || c == ';';
}

// Words between blanks: places where a blank, or the line's start, is followed by anything else.
// One comparison per byte and no branches, so that the compiler makes it vectors.
int count_words(const char* begin, std::int64_t size) {
    int words = size > 0 && !is_blank(begin[0]) ? 1 : 0;
    for (std::int64_t i = 1; i < size; ++i) {
        const int before = (begin[i - 1] == ' ') | (begin[i - 1] == '\t');
        const int here = (begin[i] == ' ') | (begin[i] == '\t');
        words += before & (here ^ 1);
    }
    return words;
}

bool is_empty(const Line& line) {
    return count_words(line.begin, line.end - line.begin) == 0;
}

constexpr double kPowersOfTen[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                   1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                   1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
constexpr std::uint64_t kExact = std::uint64_t{1} << 53;

// Reads a finite number at `at` and moves past it; the caller checks what follows.
// Digits that fit a double exactly over an exact power of ten give the correctly rounded quotient;
// anything else, exponents included, goes to the library.
bool read_number(const char*& at, const char* end, double& value) {
    const char* p = at;
    const bool negative = p != end && *p == '-';
    if (p != end && (*p == '-' || *p == '+')) {
        ++p;
    }
    const char* const digits = p;
    std::uint64_t mantissa = 0;
    while (p != end && is_digit(*p)) {
        mantissa = mantissa * 10 + static_cast<std::uint64_t>(*p++ - '0');
    }
    std::int64_t count = p - digits;
    std::int64_t decimals = 0;
    if (p != end && *p == '.') {
        const char* const point = ++p;
        while (p != end && is_digit(*p)) {
            mantissa = mantissa * 10 + static_cast<std::uint64_t>(*p++ - '0');
        }
        decimals = p - point;
        count += decimals;
    }
    if (count == 0) {
        return false;
    }
    const bool exponent = p != end && (*p == 'e' || *p == 'E');
    if (!exponent && count <= 18 && mantissa <= kExact) {
        value = static_cast<double>(mantissa) / kPowersOfTen[decimals];
    } else {
        const auto [stop, error] = std::from_chars(digits, end, value);
        if (error != std::errc() || !std::isfinite(value)) {
            return false;
        }
        p = stop;
    }
    value = negative ? -value : value;
    at = p;
    return true;
}

void skip_blanks(const char*& at, const char* end) {
    while (at != end && is_blank(*at)) {
        ++at;
    }
}

// The first word of a line as an integer. Ids fill 64 bits, and some files write them signed.
bool read_integer(const Line& line, bool alone, std::int64_t& value) {
    const char* at = line.begin;
    skip_blanks(at, line.end);
    std::from_chars_result result = std::from_chars(at, line.end, value);
    if (result.ec == std::errc::result_out_of_range && at != line.end && *at != '-') {
        std::uint64_t whole = 0;
        result = std::from_chars(at, line.end, whole);
        value = static_cast<std::int64_t>(whole);
    }
    if (result.ec != std::errc()) {
        return false;
    }
    at = result.ptr;
    if (at != line.end && !is_blank(*at)) {
        return false;
    }
    skip_blanks(at, line.end);
    return !alone || at == line.end;
}

// A line that holds one count and nothing else.
Status read_count(Lines& lines, std::int64_t& count, const char* ended, const char* wrong) {
    Line line;
    if (!lines.next(line)) {
        return invalid_argument(ended);
    }
    std::int64_t value = 0;
    if (!read_integer(line, true, value) || value < 0) {
        return invalid_argument(wrong);
    }
    count = value;
    return {};
}

Status read_joint(Lines& lines, float* xyz) {
    Line line;
    if (!lines.next(line)) {
        return invalid_argument("the file ends within a body");
    }
    const char* at = line.begin;
    for (int i = 0; i < 3; ++i) {
        skip_blanks(at, line.end);
        double value = 0.0;
        if (!read_number(at, line.end, value) || (at != line.end && !is_blank(*at))) {
            return invalid_argument("x, y and z must be finite numbers");
        }
        xyz[i] = static_cast<float>(value);
        if (!std::isfinite(xyz[i])) {
            return invalid_argument("x, y and z must be finite numbers");
        }
    }
    if (3 + count_words(at, line.end - at) != kJointColumns) {
        return invalid_argument("a joint must have 12 columns");
    }
    return {};
}

Status read_body(Lines& lines, int joints, float* positions, std::int64_t* id) {
    Line line;
    if (!lines.next(line)) {
        return invalid_argument("the file ends before a body that its count promises");
    }
    if (count_words(line.begin, line.end - line.begin) != kInfoColumns ||
        !read_integer(line, false, *id)) {
        return invalid_argument("a body must begin with its id and 9 more columns");
    }
    std::int64_t count = 0;
    AIMCLR_RETURN_IF_ERROR(read_count(lines, count, "the file ends before a count of joints",
                                      "expected a count of joints"));
    if (count != joints) {
        return invalid_argument("wrong number of joints");
    }
    for (int joint = 0; joint < joints; ++joint) {
        AIMCLR_RETURN_IF_ERROR(read_joint(lines, positions + 3 * joint));
    }
    return {};
}

Status read_frames(Lines& lines, std::int64_t size, int joints, std::int64_t capacity,
                   float* positions, std::int64_t* frame, std::int64_t* id, std::int64_t* report) {
    std::int64_t frames = 0;
    AIMCLR_RETURN_IF_ERROR(
        read_count(lines, frames, "the file is empty", "expected a count of frames"));
    if (frames > size) {  // a frame takes a line at least
        return invalid_argument("more frames than the file can hold");
    }
    std::int64_t bodies = 0;
    for (std::int64_t t = 0; t < frames; ++t) {
        std::int64_t count = 0;
        AIMCLR_RETURN_IF_ERROR(read_count(lines, count,
                                          "the file ends before a frame that its count promises",
                                          "expected a count of bodies"));
        if (count > capacity - bodies) {
            return invalid_argument("more bodies than the file can hold");
        }
        for (std::int64_t body = 0; body < count; ++body, ++bodies) {
            frame[bodies] = t;
            AIMCLR_RETURN_IF_ERROR(
                read_body(lines, joints, positions + bodies * joints * 3, id + bodies));
        }
    }
    Line line;
    while (lines.next(line)) {
        if (!is_empty(line)) {
            return invalid_argument("text after the last frame");
        }
    }
    report[1] = frames;
    report[2] = bodies;
    return {};
}

Status read_row(const Line& line, std::int64_t columns, double* out) {
    const char* at = line.begin;
    for (std::int64_t column = 0; column < columns; ++column) {
        if (column > 0) {
            // Blanks, then one comma or semicolon at most, then blanks: ",," leaves a cell out.
            const char* const before = at;
            skip_blanks(at, line.end);
            if (at != line.end && (*at == ',' || *at == ';')) {
                ++at;
            }
            if (at == before) {
                return invalid_argument(at == line.end ? "too few columns" : "expected a number");
            }
        }
        skip_blanks(at, line.end);
        if (at == line.end) {
            return invalid_argument("too few columns");
        }
        if (!read_number(at, line.end, out[column])) {
            return invalid_argument("expected a finite number");
        }
    }
    while (at != line.end && is_separator(*at)) {
        ++at;
    }
    return at == line.end ? Status{} : invalid_argument("too many columns, or not a number");
}

}  // namespace

Status read_skeleton_text(const char* text, std::int64_t size, int joints, std::int64_t capacity,
                          float* positions, std::int64_t* frame, std::int64_t* id,
                          std::int64_t* report) {
    if (report == nullptr || size < 0 || joints < 1 || capacity < 0 ||
        (size > 0 && text == nullptr) ||
        (capacity > 0 && (positions == nullptr || frame == nullptr || id == nullptr))) {
        return invalid_argument("skeleton_text: bad size or null pointer");
    }
    Lines lines(text, size);
    const Status status = read_frames(lines, size, joints, capacity, positions, frame, id, report);
    report[0] = lines.number();
    return status;
}

Status read_number_table(const char* text, std::int64_t size, std::int64_t columns,
                         std::int64_t capacity, double* out, std::int64_t* report) {
    if (report == nullptr || size < 0 || columns < 1 || capacity < 0 ||
        (size > 0 && text == nullptr) || (capacity > 0 && out == nullptr)) {
        return invalid_argument("number_table: bad size or null pointer");
    }
    Lines lines(text, size);
    Line line;
    std::int64_t rows = 0;
    Status status;
    while (status.code == StatusCode::kOk && lines.next(line)) {
        if (is_empty(line)) {
            continue;
        }
        if (rows == capacity) {
            status = invalid_argument("more rows than the file can hold");
        } else {
            status = read_row(line, columns, out + rows * columns);
            ++rows;
        }
    }
    report[0] = lines.number();
    report[1] = rows;
    return status;
}

}  // namespace aimclr::cpu
