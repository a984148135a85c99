#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails where systemd finds fault with a unit: `check_unit.py SYSTEMD_ANALYZE UNIT.in EXECUTABLE MOST_EXPOSED`.

MOST_EXPOSED is the highest exposure level that `systemd-analyze security` may give, times ten.
"""

import subprocess
import sys
import tempfile
from pathlib import Path


def main(analyze: str, template: str, executable: str, most_exposed: str) -> int:
    text = Path(template).read_text(encoding="utf-8")
    text = text.replace("@PERSEUS_LIBEXEC_DIR@/perseus-agent", executable)
    text = text.replace("@PERSEUS_BIN_DIR@/perseus", executable)
    name = Path(template).name.removesuffix(".in")
    text = text.replace("@PERSEUS_DOC_DIR@", "/usr/share/doc/perseus")
    # The group is made by sysusers.d when the package is installed; a build machine need not have it.
    text = text.replace("Group=perseus", "Group=root")
    assert "@" not in text.replace("@system-service", "").replace("@privileged", "").replace("@resources", ""), text
    with tempfile.TemporaryDirectory() as folder:
        unit = Path(folder) / name
        unit.write_text(text, encoding="utf-8")
        done = subprocess.run(
            [analyze, "verify", "--man=no", "--recursive-errors=no", unit], capture_output=True, text=True, check=False
        )
        print(done.stdout + done.stderr)
        if done.returncode != 0 or f"{name}:" in done.stdout + done.stderr:
            return 1
        graded = subprocess.run(
            [analyze, "security", "--offline=true", f"--threshold={most_exposed}", unit],
            capture_output=True,
            text=True,
            check=False,
        )
        print(graded.stdout[-300:] + graded.stderr)
        return graded.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
