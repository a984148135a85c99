# SPDX-License-Identifier: Apache-2.0
"""Fails unless libperseus_client.so exports exactly what perseus.h declares, and plain C programs use it:
the one beside this file, and the example of docs/client.md."""

import argparse
import re
import subprocess
import sys
from pathlib import Path

STRICT = ["-std=c99", "-pedantic-errors", "-Wall", "-Wextra", "-Wstrict-prototypes", "-Werror"]


def run(command: list[str], **options) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def exported(nm: str, library: Path) -> set[str]:
    """Symbols that the loader offers to others, without the version's own."""
    symbols = set()
    for line in run([nm, "-D", "--defined-only", str(library)]).splitlines():
        kind, name = line.split()[-2:]
        if kind != "A":
            symbols.add(name.split("@")[0])
    return symbols


def declared(header: Path) -> set[str]:
    return set(re.findall(r"PERSEUS_EXPORT\s+\w+\s+(perseus_\w+)\(", header.read_text()))


def example_of(page: Path) -> str:
    """The first C program of a page."""
    blocks = re.findall(r"^```c\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    programs = [block for block in blocks if "int main" in block]
    if not programs:
        sys.exit(f"{page} has no C program")
    return programs[0]


def build_and_run(name: str, source: str, a: argparse.Namespace) -> str:
    path = a.scratch / f"{name}.c"
    path.write_text(source)
    program = a.scratch / name
    folder = a.library.parent
    run([a.compiler, *STRICT, f"-I{a.source}", str(path), "-o", str(program),
         f"-L{folder}", "-lperseus_client", f"-Wl,-rpath,{folder}"])  # fmt: skip
    log = a.scratch / f"{name}.jsonl"
    log.unlink(missing_ok=True)
    env = {"PERSEUS_BACKEND": f"log:{log}", "PATH": "/usr/bin:/bin"}
    return run([str(program)], env=env)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("library", "source", "scratch"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--compiler", required=True)
    parser.add_argument("--nm", required=True)
    a = parser.parse_args()
    here = exported(a.nm, a.library)
    there = declared(a.source / "perseus/client/perseus.h")
    if here != there:
        sys.exit(
            f"exported but not declared: {sorted(here - there)}; declared but not exported: {sorted(there - here)}"
        )
    printed = build_and_run("c99_program", (Path(__file__).parent / "program.c").read_text(), a)
    if printed != "3 steps, 12 computations, version 1\n":
        sys.exit(f"the C program printed {printed!r}")
    build_and_run("documented", example_of(a.source / "docs/client.md"), a)
    print(f"{len(here)} functions are exported; two C programs use them")


main()
