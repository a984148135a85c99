# SPDX-License-Identifier: Apache-2.0
"""Compiles a file twice: `compile_twice.py FILE COMPILER ARGS...`.

As it is, it must compile: that proves that everything but the one forbidden line is right. With
PERSEUS_MUST_NOT_COMPILE defined it must fail, and the compiler's words must match the regular expression
behind `// expected:` in the file, so that it fails for the right reason.
"""

import re
import subprocess
import sys


def compile_file(command: list[str], source: str) -> subprocess.CompletedProcess:
    return subprocess.run([*command, source], capture_output=True, text=True, check=False)


def main(source: str, *command: str) -> str | None:
    """The complaint, or None if both builds end as they should."""
    with open(source, encoding="utf-8") as file:
        expected = re.search(r"^// expected: (.+)$", file.read(), re.MULTILINE)
    if expected is None:
        return f"{source}: no line `// expected: REGEX`"
    sound = compile_file([*command], source)
    if sound.returncode != 0:
        return f"{source}: does not compile even without the forbidden line\n{sound.stderr}"
    broken = compile_file([*command, "-DPERSEUS_MUST_NOT_COMPILE"], source)
    if broken.returncode == 0:
        return f"{source}: the forbidden line compiles"
    if not re.search(expected[1], broken.stderr):
        return f"{source}: fails, but not with /{expected[1]}/\n{broken.stderr}"
    return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
