#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares early-recompute-1f1b with EarlyRecomputation1F1B of the published solver lowtime, order by order.

    python -m venv build/lowtime-venv && build/lowtime-venv/bin/pip install -r tests/lowtime/requirements.txt
    build/lowtime-venv/bin/python tests/lowtime/compare_early_recompute.py --binary build/release/bin/perseus

lowtime joins a recomputation to its backward in one `ForwardBackward` where no gap lies between the two, and writes a
`Recomputation` of its own otherwise. We always write both, R then B: each may then have its own clock. Prints counts;
exits 1 at a difference. `--write-golden DIR` instead records the orders that the C++ tests compare with.
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys
from unittest import mock

from lowtime.perseus.instruction import Backward, Forward, ForwardBackward, Recomputation
from lowtime.perseus.schedule import EarlyRecomputation1F1B

CELLS = {Forward: ("F",), Recomputation: ("R",), Backward: ("B",), ForwardBackward: ("R", "B")}
MICROBATCHES = (*range(1, 20), 32)
SAMPLES = ((4, 8), (3, 2))


# Times and costs do not matter to the order, but lowtime's instructions read the times of their options.
_SPEC = mock.Mock()
_SPEC.options.options = [mock.Mock(quant_time=1)]


def csv_text(pipeline: int, microbatches: int) -> str:
    lines = []
    for rank in range(pipeline):
        order = EarlyRecomputation1F1B(pipeline, microbatches, rank, dict.fromkeys(CELLS, _SPEC))
        cells = [f"{i.stage_id}{letter}{i.micro_batch_id}" for i in order for letter in CELLS[type(i)]]
        lines.append(",".join(cells) + "\n")
    return "".join(lines)


def compare(binary: str, max_pp: int) -> int:
    total = failed = 0
    for pipeline in range(1, max_pp + 1):
        for microbatches in MICROBATCHES:
            command = [
                binary,
                "schedule",
                "--schedule",
                "early-recompute-1f1b",
                "--pp",
                str(pipeline),
                "--microbatches",
                str(microbatches),
                "--format",
                "csv",
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            total += 1
            if done.stdout != csv_text(pipeline, microbatches):
                failed += 1
                print(
                    f"pp={pipeline} microbatches={microbatches} differs\nlowtime:\n{csv_text(pipeline, microbatches)}"
                    f"ours:\n{done.stdout}{done.stderr}"
                )
    print(f"{total} sizes compared with lowtime, {failed} differ")
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="build/release/bin/perseus", help="our command line (default: %(default)s)")
    parser.add_argument("--max-pp", type=int, default=8, help="largest number of ranks (default: %(default)s)")
    parser.add_argument("--write-golden", type=pathlib.Path, metavar="DIR", help="record lowtime's orders instead")
    arguments = parser.parse_args()
    if arguments.write_golden is None:
        return compare(arguments.binary, arguments.max_pp)
    for pipeline, microbatches in SAMPLES:
        file = arguments.write_golden / f"early-recompute-1f1b-pp{pipeline}-m{microbatches}-v1.csv"
        file.write_text(csv_text(pipeline, microbatches))
    return 0


if __name__ == "__main__":
    sys.exit(main())
