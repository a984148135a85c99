# SPDX-License-Identifier: Apache-2.0
"""The C++ and CMake of README.md are the stranger's project that check.install builds, word for word."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
STRANGER = ROOT / "tests/install/stranger"


def main() -> str | None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"```(cpp|cmake)\n(.*?)```", readme, re.DOTALL))
    program = (STRANGER / "main.cc").read_text(encoding="utf-8").split("\n", 1)[1]
    if blocks.get("cpp") != program:
        return "README.md: the C++ example differs from tests/install/stranger/main.cc"
    project = (STRANGER / "CMakeLists.txt").read_text(encoding="utf-8")
    for line in blocks.get("cmake", "nothing").splitlines():
        if line.replace("0.1", "${PERSEUS_VERSION}") not in project.splitlines():
            return f"README.md: the CMake line `{line}` is not in tests/install/stranger/CMakeLists.txt"
    return None


if __name__ == "__main__":
    sys.exit(main())
