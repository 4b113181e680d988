"""Compiling and running emitted C and C++ with the machine's compilers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

STANDARDS = {"c": ("gcc", "c11"), "c++": ("g++", "c++14")}
"""Compiler and the oldest standard that the headers are written for."""

WARNINGS = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion"]


def run_program(folder: Path, language: str, files: dict[str, str]) -> list[list[int]]:
    """The numbers that a program prints, line by line; the file `main` is the one compiled."""
    compiler, standard = STANDARDS[language]
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
    program = folder / "program"
    command = [compiler, "-x", language, f"-std={standard}", *WARNINGS, "main", "-o", str(program)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]
    printed = subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout
    return [list(map(int, line.split())) for line in printed.splitlines()]


PRINT = """
#include <stdio.h>
static inline void print_list(const metal4conv_int *numbers, int count)
{
    for (int index = 0; index < count; ++index) {
        printf("%lld ", (long long)numbers[index]);
    }
}
static inline void print_tensor(metal4conv_tensor tensor)
{
    printf("%d %d ", tensor.rank, tensor.data_type);
    printf("%d %d ", tensor.element_bytes, tensor.expected_buffer_index);
    print_list(tensor.dimensions, tensor.rank);
    print_list(tensor.strides, tensor.rank);
    print_list(tensor.cpu_strides, tensor.rank);
    printf("%lld %lld\\n", (long long)tensor.byte_length, (long long)tensor.cpu_byte_length);
}
"""
"""Prints a tensor as `numbers_of` lists it."""
