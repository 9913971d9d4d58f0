"""The structs of csrc whose members Python passes by name (csrc/common/fields.h)."""

from __future__ import annotations

import re
import subprocess

import pytest
from missing import compiler, require
from native.conftest import ROOT

STRUCT = re.compile(r"^struct \w+ \{\n((?:(?!\};).*\n)*?)\s*AIMCLR_FIELDS\(([^)]*)\)", re.MULTILINE)
SOURCES = [
    path for path in sorted((ROOT / "csrc").rglob("*")) if path.suffix in (".h", ".cpp", ".cu")
]
LISTING = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in SOURCES
    if path.name != "fields.h" and "AIMCLR_FIELDS(" in re.sub("//.*", "", path.read_text())
}


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def declared(members: str) -> list[str]:
    """Names in the declarations of a struct's members, without its functions."""
    statements = re.sub(r"//.*|AIMCLR_HD[^{]*\{[^}]*\}|= [^;,]*|\[[^\]]*\]", "", members).split(";")
    return [words(one)[-1] for each in statements if each.strip()
            for one in each.split(",")]  # fmt: skip


@pytest.mark.parametrize("file", LISTING)
def test_every_member_is_listed(file):
    """One that is not would be zero, whatever Python passes."""
    text = LISTING[file]
    structs = STRUCT.findall(text)
    assert len(structs) == len(re.findall(r"^ +AIMCLR_FIELDS\(", text, re.MULTILINE))
    for members, listed in structs:
        assert declared(members) == words(listed)


def test_a_member_that_is_left_out_is_found():
    text = LISTING["csrc/cpu/stgcn_block/stgcn_block.h"].replace("keep_bytes, identity", "identity")
    wrong = [one for members, one in STRUCT.findall(text) if declared(members) != words(one)]
    assert len(wrong) == 1


PROGRAM = """
#include <cstdio>
#include <string>

#include "common/fields.h"

struct Call {
    int first, x, last;
    AIMCLR_FIELDS(first,x , last)
};

struct Print {
    void operator()(std::string_view names, int, int, int) {
        for (int i = 0; i < 4; ++i) {
            std::printf("<%s>", std::string(aimclr::next_name(names)).c_str());
        }
    }
};

int main() {
    Print print;
    Call{}.fields(print);
}
"""


def test_names_are_separated_by_commas_and_blanks_at_will(tmp_path):
    require(compiler(), "no C++ compiler was found")
    (tmp_path / "names.cpp").write_text(PROGRAM)
    subprocess.run(
        [compiler(), "-std=c++17", "-I", str(ROOT / "csrc"), "names.cpp", "-o", "names"],
        cwd=tmp_path, check=True,
    )  # fmt: skip
    done = subprocess.run([tmp_path / "names"], capture_output=True, text=True, check=True)
    assert done.stdout == "<first><x><last><>"
