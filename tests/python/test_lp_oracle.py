# SPDX-License-Identifier: Apache-2.0
"""solver/ and certify/ against linear programs solved by HiGHS and sums in exact fractions, on random pipelines.

Each seed is one problem of tests/support/random_problem.h at eight targets from T_min to beyond T_max. A longer
campaign: PERSEUS_ORACLE_SEEDS=5000 build/venv/bin/python -m pytest tests/python/test_lp_oracle.py
(PERSEUS_ORACLE_FIRST=1000000 starts elsewhere).
"""

import json
import math
import os
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from lp_oracle import LinearProgram, Problem, exact_bound

SEEDS = int(os.environ.get("PERSEUS_ORACLE_SEEDS", "240"))
FIRST = int(os.environ.get("PERSEUS_ORACLE_FIRST", "0"))
CHUNKS = 8  # tests, so that a failure leaves the others running

# Share of the sum of all costs in a program by which its optimum may be off. HiGHS works in doubles with feasibility
# tolerances of 1e-10; the worst of 2,700 programs was off by 3e-14.
LP_TOLERANCE = 1e-11
# The same for the solver, whose slopes are rounded to its power unit and times to its ticks.
SOLVER_TOLERANCE = 1e-11
# certify rounds the bound down by less than one unit in the last place of a double.
ROUNDING = Fraction(1, 2**51)


@pytest.fixture(scope="module")
def oracle_dump(root: Path) -> Path:
    binary = (
        Path(os.environ.get("PERSEUS_BUILD", root / "build" / os.environ.get("PERSEUS_PRESET", "dev"))).resolve()
        / "bin/oracle_dump"
    )
    assert binary.is_file(), f"no binary at {binary}: build a preset, or set PERSEUS_BUILD"
    return binary


def dump(binary: Path, first: int, count: int) -> list:
    done = subprocess.run([binary, str(first), str(count)], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def check_least_time(case: dict, problem: Problem) -> None:
    """T_min is the longest path of the fastest options, exact, rounded up."""
    exact = problem.makespan([min(Fraction(t) for t, _ in problem.options(i)) for i in range(problem.size)])
    assert exact <= Fraction(case["t_min_s"])
    assert Fraction(math.nextafter(case["t_min_s"], 0)) < exact


def check_durations(point: dict, problem: Problem, cost_j: float, scale_j: float) -> None:
    """The durations end by the target and cost no more than the optimum."""
    tick = Fraction(2) ** point["tick_exponent"]
    durations = [d * tick for d in point["duration"]]
    # Options and lags are rounded up to ticks, so T_min may be missed by their number; T* and T_max are nearest doubles.
    rounding = 2 * problem.size * tick + Fraction(math.ulp(point["target_s"]))
    assert problem.makespan(durations) <= Fraction(point["target_s"]) + rounding
    cost = math.fsum(problem.least_cost(i, d) for i, d in enumerate(durations))
    assert cost <= cost_j + SOLVER_TOLERANCE * scale_j


def check_bound(point: dict, problem: Problem, t_min_s: float) -> Fraction:
    """certify's bounds equal what the certificate proves, rounded down. Returns the exact one per GPU, unblocked."""
    target = Fraction(point["target_s"])
    exact = exact_bound(problem, point["certificate"], point["target_s"])
    power = sum(map(Fraction, problem.blocking_power_w))
    flow = point["certificate"]["value"] * Fraction(2) ** point["certificate"]["unit_exponent"]
    synchronised = max(Fraction(0), problem.tensor * (exact + power * target))
    # Self-timed, the end may be anywhere from T_min to the target.
    ends = [target, Fraction(t_min_s)]
    self_timed = max(Fraction(0), problem.tensor * min(exact + flow * (target - t) + power * t for t in ends))
    for name, expected in {"bound_sync_j": synchronised, "bound_self_j": self_timed}.items():
        found = Fraction(point[name])
        assert found <= expected, name
        # T_min is known rounded up here and rounded down there.
        slack = abs(power - flow) * Fraction(t_min_s) * ROUNDING * problem.tensor
        assert found >= expected * (1 - ROUNDING) - slack, name
    return exact


def check_targets(case: dict, problem: Problem, program: LinearProgram) -> None:
    """C(T), its certificate and its durations at every target."""
    check_least_time(case, problem)
    for point in case["points"]:
        optimum = program.at(point["target_s"])
        proven = check_bound(point, problem, case["t_min_s"])
        assert abs(float(proven) - optimum.cost_j) <= LP_TOLERANCE * optimum.scale_j, "not the optimum of the LP"
        check_durations(point, problem, float(proven), optimum.scale_j)


def check_best_time(case: dict, problem: Problem, program: LinearProgram) -> None:
    """No time needs less energy than T* when the pipeline ends its own iteration, and the flow at T* proves it."""
    least = program.self_timed()
    power = problem.total_power_w
    scale = LP_TOLERANCE * (least.scale_j + power * case["t_star_s"])
    assert abs(program.at(case["t_star_s"]).cost_j + power * case["t_star_s"] - least.cost_j) <= scale, "T* is not best"
    at_star = case["points"][1]
    assert at_star["target_s"] == case["t_star_s"]
    assert abs(at_star["bound_self_j"] / problem.tensor - least.cost_j) <= scale, "T* is not proven best"


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("check", [check_targets, check_best_time])
def test_frontier_equals_the_linear_program(oracle_dump: Path, check: Callable, chunk: int) -> None:
    count = SEEDS // CHUNKS
    cases = dump(oracle_dump, FIRST + chunk * count, count)
    assert len(cases) == count
    failures = []
    for case in cases:
        problem = Problem(**case["problem"])
        try:
            check(case, problem, LinearProgram(problem))
        except AssertionError as error:
            failures.append(f"{case['recipe']} (seed {case['seed']}): {error}")
    assert not failures, "\n".join(failures)
