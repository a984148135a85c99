#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares `perseus` with its published peer, the solver lowtime, on the same profile in the same run.

    python bench/peer_lowtime.py --perseus build/release/bin/perseus        # 4x8, 8x32 and, cut short, 8x96

The peer is set up as the frequency optimizer that ships it does: cost = energy - blocking power * quantised time, an
exponential fit chosen by grid search, a unit time of 1 ms, a 1F1B pipeline. Only its solver loop is timed, not the fit and
the building of the graph. Its plans are then costed with the measured times and energies of the profile, as ours are.
Writes bench/results/peer_lowtime.md.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core each, before numpy is loaded

import networkx as nx
from lowtime.cost_model import ExponentialModel
from lowtime.graph_utils import add_sink_node, add_source_node
from lowtime.operation import CandidateExecutionOptions, ExecutionOption, OperationSpec
from lowtime.perseus.instruction import Backward, Forward, Instruction
from lowtime.solver import PhillipsDessouky

ROOT = Path(__file__).resolve().parent.parent
UNIT_TIME_S = 0.001  # the default of the peer's optimizer
NOISE_FACTOR = 0.95  # likewise, where its filter leaves three options or fewer
OUR_RUNS = 5  # the best counts: other work on the machine only ever adds
POINTS = 12  # points of the peer's frontier that are costed
KINDS = {"F": ("forward", Forward), "B": ("backward", Backward)}

Key = tuple[int, str]  # stage, "F" or "B"
Order = list[list[tuple[str, int]]]  # per stage: (kind, microbatch)


@dataclass
class Size:
    """stages x microbatches."""

    stages: int
    microbatches: int

    @classmethod
    def parse(cls, text: str) -> Size:
        stages, microbatches = text.split("x")
        return cls(int(stages), int(microbatches))

    def __str__(self) -> str:
        return f"{self.stages}x{self.microbatches}"


@dataclass
class Profile:
    """Measured (clock -> time in s, energy in J) of each stage and kind, with the blocking power."""

    path: Path
    blocking_power_w: float
    options: dict[Key, dict[int, tuple[float, float]]] = field(default_factory=lambda: defaultdict(dict))

    def __post_init__(self) -> None:
        letters = {name: letter for letter, (name, _) in KINDS.items()}
        with open(self.path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if letter := letters.get(row["instruction"]):
                    value = (float(row["time"]), float(row["energy"]))
                    self.options[int(row["stage"]), letter][int(row["frequency"])] = value


def order_1f1b(size: Size) -> Order:
    """Warm-up forwards, then one forward and one backward in turn, then the backwards that are left."""
    order: Order = []
    for stage in range(size.stages):
        warmup = min(size.stages - stage - 1, size.microbatches)
        row = [("F", m) for m in range(warmup)]
        for m in range(warmup, size.microbatches):
            row += [("F", m), ("B", m - warmup)]
        row += [("B", m) for m in range(size.microbatches - warmup, size.microbatches)]
        order.append(row)
    return order


class Pipeline:
    """The DAG of one iteration, nodes numbered stage by stage in order of execution from 2 on (0 source, 1 sink)."""

    def __init__(self, size: Size) -> None:
        self.nodes: list[tuple[int, str, int]] = []  # (stage, kind, microbatch) of node 2, 3, ...
        for stage, row in enumerate(order_1f1b(size)):
            self.nodes += [(stage, kind, m) for kind, m in row]
        number = {node: i + 2 for i, node in enumerate(self.nodes)}
        self.edges = {(number[a], number[b]) for a, b in zip(self.nodes, self.nodes[1:], strict=False) if a[0] == b[0]}
        for stage in range(size.stages - 1):
            for m in range(size.microbatches):
                self.edges.add((number[stage, "F", m], number[stage + 1, "F", m]))
                self.edges.add((number[stage + 1, "B", m], number[stage, "B", m]))
        graph = nx.DiGraph(self.edges)
        self.topological = list(nx.topological_sort(graph))
        self.predecessors = {node: list(graph.predecessors(node)) for node in graph}

    def makespan(self, durations: dict[int, float]) -> float:
        end: dict[int, float] = {}
        for node in self.topological:
            end[node] = max((end[p] for p in self.predecessors[node]), default=0.0) + durations[node]
        return max(end.values())


@dataclass
class PeerPoint:
    """One point of the peer's frontier: the time it promises and the clock of every node."""

    promised_s: float
    clocks: list[int]


@dataclass
class PeerResult:
    """What the peer did."""

    seconds: float  # of its solver loop, CPU time
    iterations: int
    expected_iterations: int
    complete: bool
    points: list[PeerPoint]


def peer_spec(profile: Profile, key: Key) -> OperationSpec:
    options = []
    for clock, (seconds, joules) in profile.options[key].items():
        option = ExecutionOption[int](real_time=seconds, unit_time=UNIT_TIME_S, cost=joules, knob=clock)
        option.cost -= profile.blocking_power_w * option.quant_time * option.unit_time
        options.append(option)
    candidates = CandidateExecutionOptions[int](options=options)
    if len(candidates.options) <= 3:
        candidates = CandidateExecutionOptions[int](options=options, noise_factor=NOISE_FACTOR)
    return OperationSpec[int](options=candidates, cost_model=ExponentialModel(candidates, search_strategy="best"))


def run_peer(profile: Profile, size: Size, pipeline: Pipeline, limit_s: float) -> PeerResult:
    """The peer's whole frontier from slow to fast, or as much of it as fits `limit_s`."""
    specs = {(s, kind): peer_spec(profile, (s, kind)) for s in range(size.stages) for kind in KINDS}
    dag = nx.DiGraph()
    operations: list[Instruction] = []
    for number, (stage, kind, m) in enumerate(pipeline.nodes, 2):
        operations.append(KINDS[kind][1](spec=specs[stage, kind], stage_id=stage, micro_batch_id=m))
        dag.add_node(number, op=operations[-1])
    dag.add_edges_from(pipeline.edges)
    add_source_node(dag, 0)
    add_sink_node(dag, 1)
    dag.graph.update(source_node=0, sink_node=1)
    slowest = pipeline.makespan({n: op.max_duration for n, op in enumerate(operations, 2)})
    fastest = pipeline.makespan({n: op.min_duration for n, op in enumerate(operations, 2)})

    points: list[PeerPoint] = []
    complete = False
    bookkeeping = 0.0
    start = time.process_time()
    results = PhillipsDessouky(dag).run()
    while time.process_time() - start < limit_s:
        if (result := next(results, None)) is None:
            complete = True
            break
        pause = time.process_time()
        points.append(PeerPoint(result.real_time, [op.assigned_knob for op in operations]))
        bookkeeping += time.process_time() - pause
    seconds = time.process_time() - start - bookkeeping
    return PeerResult(seconds, len(points), int(slowest - fastest) + 1, complete, points)


def cost(profile: Profile, size: Size, pipeline: Pipeline, clocks: list[int]) -> tuple[float, float]:
    """Time and energy (blocking up to that time included) of a plan by the profile's own numbers."""
    measured = [profile.options[s, k][clock] for (s, k, _), clock in zip(pipeline.nodes, clocks, strict=True)]
    makespan = pipeline.makespan({n: t for n, (t, _) in enumerate(measured, 2)})
    busy = sum(t for t, _ in measured)
    blocking = profile.blocking_power_w * (size.stages * makespan - busy)
    return makespan, sum(e for _, e in measured) + blocking


class Perseus:
    """Our binary on one profile."""

    def __init__(self, binary: Path, profile: Profile, size: Size) -> None:
        self.binary = binary
        self.t_min_s = 0.0  # known after frontier()
        self.inputs = ["--profile", str(profile.path), "--pp", str(size.stages), "--schedule", "1f1b",
                       "--microbatches", str(size.microbatches),
                       "--blocking-power", repr(profile.blocking_power_w)]  # fmt: skip

    def _json(self, command: str, *flags: str) -> dict:
        run = subprocess.run(
            [str(self.binary), command, *self.inputs, *flags], capture_output=True, text=True, check=False
        )
        if run.returncode != 0:
            sys.exit(f"perseus {command} {' '.join(flags)} ended with {run.returncode}: {run.stderr}")
        return json.loads(run.stdout)

    def frontier(self, which: str) -> dict:
        """The complete frontier over a range; `solver.seconds` is the best of OUR_RUNS."""
        runs = [self._json("frontier", "--all", "--range", which, "--json") for _ in range(OUR_RUNS)]
        self.t_min_s = runs[0]["t_min_s"]
        return min(runs, key=lambda run: run["solver"]["seconds"])

    def plan(self, target_s: float, *flags: str) -> dict:
        """The plan for a time that the peer reached; a last bit lost in its sum must not put it under T_min."""
        return self._json("plan", "--target-time", repr(max(target_s, self.t_min_s)), *flags, "--json")


@dataclass
class Comparison:
    """One line of the table."""

    size: Size
    peer: PeerResult
    ours_tstar: dict
    ours_tmax: dict
    peer_fastest: tuple[float, float]  # time, energy
    peer_gaps: list[float]  # energy above the proven bound at its own time, of points up to T*; the fastest last
    peer_overshoot: float  # worst time over the promised one, relative
    our_gap_at_peer: float  # of our unpolished plan at the peer's fastest time
    our_polished_gap_at_peer: float


def compare(binary: Path, profile: Profile, size: Size, limit_s: float) -> Comparison:
    pipeline = Pipeline(size)
    ours = Perseus(binary, profile, size)
    ours_tstar, ours_tmax = ours.frontier("tstar"), ours.frontier("tmax")
    all_max_clocks = [max(profile.options[s, k]) for s, k, _ in pipeline.nodes]
    all_max_time, _ = cost(profile, size, pipeline, all_max_clocks)
    if abs(all_max_time / ours_tstar["all_max"]["time_s"] - 1) > 1e-9:
        sys.exit(f"{size}: the two sides do not solve the same pipeline: all-max takes {all_max_time!r} s here, "
                 f"{ours_tstar['all_max']['time_s']!r} s there")  # fmt: skip

    peer = run_peer(profile, size, pipeline, limit_s)
    costed = [(point, *cost(profile, size, pipeline, point.clocks)) for point in peer.points]
    fastest = min(costed, key=lambda entry: entry[1])
    useful = [entry for entry in costed if entry[1] <= ours_tstar["t_star_s"]]
    step = max(1, len(useful) // POINTS)
    sampled = [*useful[::step], fastest] if useful else []
    return Comparison(
        size=size,
        peer=peer,
        ours_tstar=ours_tstar,
        ours_tmax=ours_tmax,
        peer_fastest=fastest[1:],
        peer_gaps=[energy / ours.plan(seconds)["lower_bound_j"] - 1 for _, seconds, energy in sampled],
        peer_overshoot=max(seconds / point.promised_s - 1 for point, seconds, _ in costed),
        our_gap_at_peer=ours.plan(fastest[1])["gap"],
        our_polished_gap_at_peer=ours.plan(fastest[1], "--polish", "1")["gap"],
    )


def describe_peer_time(peer: PeerResult) -> str:
    if peer.complete:
        return f"{peer.seconds:.2f} s"
    pace = peer.seconds / peer.iterations
    return (f"stopped after {peer.seconds:.0f} s and {peer.iterations} of about {peer.expected_iterations} iterations "
            f"(at that pace {pace * peer.expected_iterations:.0f} s)")  # fmt: skip


def describe_peer_gaps(gaps: list[float]) -> str:
    if not gaps:
        return "T* not reached"
    return f"{gaps[-1]:.3%}; up to T*: median {statistics.median(gaps):.3%}, worst {max(gaps):.3%}"


def row(c: Comparison) -> str:
    all_max = c.ours_tstar["all_max"]
    ours, whole = c.ours_tstar["solver"], c.ours_tmax["solver"]
    sign = "" if c.peer.complete else "over "
    reached = "fastest plan" if c.peer.complete else "fastest plan so far"
    return (
        f"| {c.size} | {describe_peer_time(c.peer)} | {ours['seconds'] * 1e3:.2f} ms, {ours['breakpoints']} breakpoints "
        f"| {whole['seconds'] * 1e3:.2f} ms, {whole['breakpoints']} | {sign}{c.peer.seconds / whole['seconds']:,.0f}x "
        f"| {reached}: {c.peer_fastest[0]:.4f} s, {c.peer_fastest[0] / all_max['time_s'] - 1:+.2%} against all-max "
        f"| {describe_peer_gaps(c.peer_gaps)} "
        f"| {c.peer_overshoot:+.2%} | {c.our_gap_at_peer:.3%}, polished {c.our_polished_gap_at_peer:.3%} |"
    )


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def report(comparisons: list[Comparison], arguments: argparse.Namespace) -> str:
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("lowtime", "networkx", "numpy", "scipy"))
    lines = [
        "# Against the peer: lowtime",
        "",
        "Written by `bench/peer_lowtime.py`. Both sides solve the same 1F1B pipeline from the same profile in one run on one",
        "core. The peer's time is its solver loop alone (CPU time, one run); ours is `solver.seconds` of `perseus frontier",
        f"--all` (best of {OUR_RUNS}). The peer covers its whole range, so the ratio is taken against our whole range",
        "`[T_min, T_max]`. Times and energies of both sides' plans are counted from the measured options; a gap is energy",
        "above the proven lower bound of any assignment of clocks that ends by the plan's own time.",
        "",
        f"- date: {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC; commit: {commit or 'unknown'}",
        f"- machine: {cpu_name()}, {os.cpu_count()} cores; Python {platform.python_version()}; {versions}",
        f"- profile: {arguments.origin}; blocking power {arguments.blocking_power} W; unit time of the peer "
        f"{UNIT_TIME_S * 1e3:g} ms; peer cut off after {arguments.limit:g} s of CPU time",
        "",
        "| stages x microbatches | peer, whole frontier | ours, `[T_min, T*]` | ours, `[T_min, T_max]` | ratio "
        "| peer's time | peer's gap | peer past its promise, worst | our gap at the peer's fastest time |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join(lines + [row(c) for c in comparisons]) + "\n"


def synthesise(binary: Path, model: str, gpu: str, stages: int, folder: Path) -> Path:
    path = folder / f"{model}-{gpu}-pp{stages}.csv"
    subprocess.run([str(binary), "synth", "--model", model, "--gpu-model", gpu, "--pp", str(stages), "--tp", "8",
                    "--microbatch-size", "1", "-o", str(path)], check=True)  # fmt: skip
    return path


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--perseus", type=Path, default=ROOT / "build/release/bin/perseus", help="our binary")
    parser.add_argument("--sizes", nargs="+", type=Size.parse, default=[Size(4, 8), Size(8, 32), Size(8, 96)])
    parser.add_argument("--limit", type=float, default=400, help="CPU seconds for the peer, per size")
    parser.add_argument("--large-limit", type=float, default=90, help="the same for 8x96 and larger")
    parser.add_argument("--profile", action="append", default=[], metavar="PP=CSV",
                        help="a profile for that many stages, instead of a synthesised one")  # fmt: skip
    parser.add_argument("--model", default="gpt3-175b")
    parser.add_argument("--gpu-model", default="a100-sxm-80g")
    parser.add_argument("--blocking-power", type=float, default=85)
    parser.add_argument("--output", type=Path, default=ROOT / "bench/results/peer_lowtime.md")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    given = {int(pp): Path(path) for pp, path in (text.split("=", 1) for text in arguments.profile)}
    arguments.origin = (
        "given" if given else f"`perseus synth --model {arguments.model} --gpu-model {arguments.gpu_model}`"
    )
    comparisons = []
    with tempfile.TemporaryDirectory() as scratch:
        for size in arguments.sizes:
            path = given.get(size.stages) or synthesise(
                arguments.perseus, arguments.model, arguments.gpu_model, size.stages, Path(scratch)
            )
            large = size.stages * size.microbatches >= 8 * 96
            limit = arguments.large_limit if large else arguments.limit
            comparisons.append(compare(arguments.perseus, Profile(path, arguments.blocking_power), size, limit))
            print(row(comparisons[-1]), flush=True)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(report(comparisons, arguments), encoding="utf-8")
    print(f"written: {arguments.output}")


if __name__ == "__main__":
    main()
