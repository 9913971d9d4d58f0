"""No function of the native library or of a binding takes more than eight parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parents[2] / "csrc"
MOST = 8
SOURCES = sorted(path for path in CSRC.rglob("*") if path.suffix in {".h", ".cpp", ".cu", ".cuh"})
# A type and a name, with or without a default: "const float* x", "int (&items)[4]", "Index k = 1".
PARAMETER = re.compile(
    r"(const\s+)?(unsigned\s+)?[A-Za-z_][\w:]*(\s*<.*>)?(\s*const)?[\s*&.]+((const|__restrict(__)?)\s+)?"
    r"(\(&?\w+\)(\[\w*\])+|[A-Za-z_]\w*(\[\w*\])*)(\s*=.*)?",
    re.DOTALL,
)
OPEN, CLOSE = "([{<", ")]}>"


def without_comments(text: str) -> str:
    text = re.sub(r"//[^\n]*|/\*.*?\*/", " ", text, flags=re.DOTALL)
    text = re.sub(r'"(\\.|[^"\\\n])*"', '""', text)
    return re.sub(r"\\\n", "\n", text).replace("->", "  ").replace("<<", "  ").replace(">=", "  ")


def items(text: str, start: int) -> list[str]:
    """What stands between the bracket at `start` and its partner, split at the commas."""
    depth, found = 0, [""]
    for place in range(start, len(text)):
        character = text[place]
        if character in CLOSE:
            depth -= 1
            if depth == 0:
                return [item.strip() for item in found]
        if character == "," and depth == 1:
            found.append("")
        elif depth > 0:
            found[-1] += character
        if character in OPEN:
            depth += 1
    return []


def parameter_lists(text: str) -> Iterator[tuple[str, int]]:
    """What stands before each list of parameters, and how many there are."""
    text = without_comments(text)
    for match in re.finditer(r"\(", text):
        found = items(text, match.start())
        if len(found) > 1 and all(PARAMETER.fullmatch(item) for item in found):
            yield text[: match.start()].split("\n")[-1].strip(), len(found)


def too_long(text: str) -> list[str]:
    return [before for before, count in parameter_lists(text) if count > MOST]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(CSRC).as_posix())
def test_no_function_takes_more_than_eight_parameters(path):
    assert not too_long(path.read_text())


NINE = "const float* x, std::int64_t n, {}int a, int b, int c, int d, int e, int f"


@pytest.mark.parametrize(
    "source",
    [
        "Status run({});",
        "template <typename T>\nStatus run({}) {{\n    return {{}};\n}}",
        "struct S {{ explicit S({}) : x(x) {{}} }};",
        "module.def(\"run\", []({}) {{ return 1; }});",
        "#define RUN(T) Status run({});",
        "__global__ void __launch_bounds__(64, 1)\n    kernel({});",
        "Status run( // of a row, or of none\n    {});",
    ],
)  # fmt: skip
def test_the_rule_catches_nine(source):
    assert too_long(source.format(NINE.format("bool last = false, ")))
    assert not too_long(source.format(NINE.format("")))


@pytest.mark.parametrize(
    "parameter",
    [
        "const std::vector<int>& items", "float (&items)[4]", "Real<T>* out",
        "const std::array<std::uintptr_t, 7>& params", "Stored<T> value", "const T* const rows[3]",
        "float* __restrict out", "const Call<T>& call", "std::pair<int, int> key = {1, 2}",
    ],
)  # fmt: skip
def test_every_kind_of_parameter_counts(parameter):
    assert too_long(f"Status run({NINE.format('')}, {parameter});")


def test_calls_are_no_declarations():
    assert not too_long("return run(a, b, c + 1, d, e, f(x, y), g, h, i, j);")


def test_functions_are_found():
    """The rule reads what is there: most files of kernels declare something."""
    counts = {path: len(list(parameter_lists(path.read_text()))) for path in SOURCES}
    assert sum(count > 0 for count in counts.values()) > len(counts) / 2
