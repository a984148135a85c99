#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails where perseus-agent, which runs as root, is made of more than it may: `check_links.py EXECUTABLE TARGET,...`.

The targets are those that CMake links, directly or not. The executable itself is looked at too: its shared libraries,
and the namespaces of the functions in it.
"""

import re
import subprocess
import sys

ROOMS = {"core", "format", "wire", "gpu", "lease", "agent"}
OTHER_TARGETS = {
    "perseus-agent", "perseus_flags", "CLI11::CLI11", "fmt::fmt", "yaml-cpp", "OpenSSL::Crypto", "Threads::Threads",
}  # fmt: skip
SHARED_LIBRARIES = re.compile(
    r"^(linux-vdso|ld-linux-[\w-]+|libc|libm|libdl|libpthread|libstdc\+\+|libgcc_s|libfmt|libyaml-cpp|libcrypto"
    r"|lib[atul]+san|libubsan|libgcov)\.so"
)


def main(executable: str, targets: str) -> list[str]:
    allowed = {f"perseus_{room}" for room in ROOMS} | OTHER_TARGETS
    problems = [f"it links {target}" for target in targets.split(",") if target not in allowed]
    needed = subprocess.run(["ldd", executable], capture_output=True, text=True, check=True).stdout
    for line in needed.splitlines():
        name = line.split()[0].rpartition("/")[2]
        if not SHARED_LIBRARIES.match(name):
            problems.append(f"it loads {name}")
    symbols = subprocess.run(["nm", "-C", executable], capture_output=True, text=True, check=True).stdout
    rooms = set(re.findall(r"\bperseus::(\w+)::", symbols))
    assert "agent" in rooms, "the executable has no symbols: nothing was checked"
    problems += [f"it has functions of perseus::{room}" for room in sorted(rooms - ROOMS)]
    return problems


if __name__ == "__main__":
    found = main(*sys.argv[1:])
    print("\n".join(found) if found else "perseus-agent is made of nothing but what it may be")
    sys.exit(1 if found else 0)
