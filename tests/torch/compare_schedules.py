#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares every schedule that PyTorch has with ours, order by order, over a grid of sizes.

    python -m venv build/torch-venv && build/torch-venv/bin/pip install -r tests/torch/requirements.txt
    build/torch-venv/bin/python tests/torch/compare_schedules.py --binary build/release/bin/perseus

Prints counts; exits 1 at a difference. `--write-golden` instead writes the recorded orders that the quick C++ tests
compare with (tests/golden/schedules).
"""

from __future__ import annotations

import argparse
import concurrent.futures
import datetime
import hashlib
import os
import pathlib
import subprocess
import sys

import torch
import torch_orders

MICROBATCHES = (*range(1, 21), 24, 32, 48, 64)
# Sizes whose orders are kept in full, as files that a person can read.
SAMPLES = {
    "gpipe": [(4, 6, 1)],
    "1f1b": [(1, 3, 1), (4, 8, 1), (8, 12, 1)],
    "interleaved-1f1b": [(2, 4, 2), (4, 8, 2), (4, 10, 3), (4, 3, 2)],
    "interleaved-zero-bubble": [(4, 8, 2), (4, 10, 3), (3, 2, 2)],
    "looped-bfs": [(4, 6, 2), (2, 3, 3)],
    "zbv": [(4, 8, 2), (4, 3, 2), (1, 2, 2)],
    "dualpipev": [(4, 10, 2), (3, 6, 2), (2, 4, 2)],
}
# PyTorch wants as many microbatches as ranks for 1F1B; Megatron-Core and we do not.
WIDER_THAN_TORCH = ("1f1b",)


def grid(max_pp: int):
    for name in torch_orders.NAMES:
        for pipeline in range(1, max_pp + 1):
            for virtual_stages in torch_orders.virtual_stage_counts(name):
                yield name, pipeline, virtual_stages


def ours(binary: str, name: str, pipeline: int, microbatches: int, virtual_stages: int) -> tuple[str | None, str]:
    """Our order as CSV, or None and the message of the refusal."""
    command = [
        binary,
        "schedule",
        "--schedule",
        name,
        "--pp",
        str(pipeline),
        "--microbatches",
        str(microbatches),
        "--virtual-stages",
        str(virtual_stages),
        "--format",
        "csv",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return done.stdout, ""
    if done.returncode != 1:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()}")
    return None, done.stderr.strip()


def difference(theirs: str, mine: str | None, refusal: str) -> str | None:
    if mine is None:
        return f"we refuse what PyTorch accepts: {refusal}"
    for rank, (a, b) in enumerate(zip(theirs.splitlines(), mine.splitlines(), strict=False)):
        if a != b:
            cells = zip(a.split(","), b.split(","), strict=False)
            at = next((i for i, (x, y) in enumerate(cells) if x != y), "the end")
            return f"rank {rank} differs at cell {at}:\n  PyTorch {a}\n  ours    {b}"
    return None if theirs == mine else "another number of ranks"


def compare(binary: str, max_pp: int) -> int:
    pool = concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count())
    total = failed = 0
    for name in torch_orders.NAMES:
        equal = refused = wider = 0
        sizes = [(p, m, v) for n, p, v in grid(max_pp) if n == name for m in MICROBATCHES]
        mine = pool.map(lambda size, name=name: ours(binary, name, *size), sizes)
        for size, (text, refusal) in zip(sizes, mine, strict=True):
            theirs = torch_orders.order(name, *size)
            problem = None
            if theirs is not None:
                problem = difference(torch_orders.csv_text(theirs), text, refusal)
                equal += problem is None
            elif text is None:
                refused += 1
            elif name in WIDER_THAN_TORCH:
                wider += 1
            else:
                problem = "we accept what PyTorch refuses"
            if problem is not None:
                failed += 1
                print(f"{name} pp={size[0]} microbatches={size[1]} virtual stages={size[2]}: {problem}")
        total += len(sizes)
        print(f"{name:24} {equal:5} equal, {refused:4} refused by both, {wider:3} accepted only here")
    print(f"{total} sizes compared with torch {torch.__version__}, {failed} differ")
    return 1 if failed else 0


def write_golden(folder: pathlib.Path, max_pp: int) -> int:
    origin = (
        f"# torch {torch.__version__}, tests/torch/compare_schedules.py --write-golden, "
        f"{datetime.date.today().isoformat()}\n"
    )
    with (folder / "orders.sha256").open("w") as out:
        out.write(origin)
        out.write(
            "# name pp virtual_stages microbatches SHA-256: of the files (one line of cells per rank, no bubbles)\n"
            "# of all these microbatch counts, one after the other. Counts of the grid that are absent: refused.\n"
        )
        out.write(f"# grid: microbatches {','.join(map(str, MICROBATCHES))}\n")
        for name, pipeline, virtual_stages in grid(max_pp):
            accepted, digest = [], hashlib.sha256()
            for microbatches in MICROBATCHES:
                ranks = torch_orders.order(name, pipeline, microbatches, virtual_stages)
                if ranks is not None:
                    accepted.append(str(microbatches))
                    digest.update(torch_orders.csv_text(ranks).encode())
            out.write(f"{name} {pipeline} {virtual_stages} {','.join(accepted)} {digest.hexdigest()}\n")
    for name, sizes in SAMPLES.items():
        for pipeline, microbatches, virtual_stages in sizes:
            ranks = torch_orders.order(name, pipeline, microbatches, virtual_stages)
            file = folder / f"{name}-pp{pipeline}-m{microbatches}-v{virtual_stages}.csv"
            file.write_text(torch_orders.csv_text(ranks))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="build/release/bin/perseus", help="our command line (default: %(default)s)")
    parser.add_argument("--max-pp", type=int, default=8, help="largest number of ranks (default: %(default)s)")
    parser.add_argument("--write-golden", type=pathlib.Path, metavar="DIR", help="record PyTorch's orders instead")
    arguments = parser.parse_args()
    if arguments.write_golden is not None:
        return write_golden(arguments.write_golden, arguments.max_pp)
    return compare(arguments.binary, arguments.max_pp)


if __name__ == "__main__":
    sys.exit(main())
