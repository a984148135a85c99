# SPDX-License-Identifier: Apache-2.0
"""The frontier problem as a plain linear program for HiGHS, and exact sums in Python integers.

Nothing here knows hulls, slopes, flows or scaling: a computation runs a convex mixture of its measured options.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import highspy
import numpy as np

TOLERANCES = (1e-10, 1e-9, 1e-8, 1e-7)  # HiGHS takes none below 1e-10


@dataclass(frozen=True)
class Problem:
    """A problem as oracle_dump prints it."""

    option_sets: list
    option_set_of: list
    rank_of: list
    edges: list
    blocking_power_w: list
    tensor: int

    @property
    def size(self) -> int:
        return len(self.option_set_of)

    @property
    def total_power_w(self) -> float:
        return math.fsum(self.blocking_power_w)

    def options(self, i: int) -> list:
        """[(time_s, energy_j), ...] of computation i."""
        return self.option_sets[self.option_set_of[i]]

    @cached_property
    def costs(self) -> list:
        """Effective cost of every option, per computation, in J."""
        power = [self.blocking_power_w[r] for r in self.rank_of]
        return [[e - power[i] * t for t, e in self.options(i)] for i in range(self.size)]

    @cached_property
    def order(self) -> list:
        """The computations, each after its predecessors."""
        waits = [0] * self.size
        out = [[] for _ in range(self.size)]
        for a, b, _ in self.edges:
            waits[b] += 1
            out[a].append(b)
        ready = [i for i in range(self.size) if waits[i] == 0]
        for i in ready:
            for b in out[i]:
                waits[b] -= 1
                if waits[b] == 0:
                    ready.append(b)
        assert len(ready) == self.size
        return ready

    def makespan(self, durations: list) -> Fraction:
        """Exact longest path."""
        into = [[] for _ in range(self.size)]
        for a, b, lag in self.edges:
            into[b].append((a, Fraction(lag)))
        end = [Fraction(0)] * self.size
        for i in self.order:
            end[i] = max((end[a] + lag for a, lag in into[i]), default=Fraction(0)) + durations[i]
        return max(end)

    def least_cost(self, i: int, duration: float) -> float:
        """The cheapest mixture of options of computation i with a mean time of at most `duration`."""
        points = list(zip((t for t, _ in self.options(i)), self.costs[i], strict=True))
        best = min((c for t, c in points if t <= duration), default=math.inf)
        for fast, fast_cost in points:
            for slow, slow_cost in points:
                if fast <= duration < slow and slow_cost < fast_cost:
                    share = (duration - fast) / (slow - fast)
                    best = min(best, fast_cost + share * (slow_cost - fast_cost))
        return best


@dataclass(frozen=True)
class Optimum:
    """Value of a linear program, and the size of the numbers that it was summed up from."""

    cost_j: float
    scale_j: float
    tolerance: float  # of feasibility, in the program's own units, which are around 1


class LinearProgram:
    """min sum c over mixtures of options with everything done by T; T fixed, or free at a price in W."""

    def __init__(self, problem: Problem):
        self._problem = problem
        self._offset = math.fsum(min(c) for c in problem.costs)
        spread = math.fsum(max(c) - min(c) for c in problem.costs)
        self._spread = spread if spread > 0 else 1.0
        longest = max(t for options in problem.option_sets for t, _ in options)
        self._second = 1 / longest  # time units of the program per second
        self._highs = highspy.Highs()
        self._highs.setOptionValue("output_flag", False)
        self._highs.setOptionValue("threads", 1)
        self._highs.passModel(self._model())

    def _model(self) -> highspy.HighsLp:
        p = self._problem
        first_share = p.size + 1  # columns: a start per computation, T, a share per option
        share_columns, costs = [], [0.0] * first_share
        for i in range(p.size):
            share_columns.append(range(len(costs), len(costs) + len(p.costs[i])))
            costs += [(c - min(p.costs[i])) / self._spread for c in p.costs[i]]
        rows = []  # (lower, upper, {column: value})
        for i in range(p.size):
            times = {k: -t * self._second for k, (t, _) in zip(share_columns[i], p.options(i), strict=True)}
            rows.append((1.0, 1.0, dict.fromkeys(share_columns[i], 1.0)))
            rows.append((0.0, math.inf, {p.size: 1.0, i: -1.0} | times))
            for a, b, lag in p.edges:
                if a == i:
                    rows.append((lag * self._second, math.inf, {b: 1.0, i: -1.0} | times))
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = len(costs), len(rows)
        lp.col_cost_ = np.array(costs)
        lp.col_lower_ = np.zeros(len(costs))
        lp.col_upper_ = np.full(len(costs), highspy.kHighsInf)
        lp.row_lower_ = np.array([r[0] for r in rows])
        lp.row_upper_ = np.array([r[1] for r in rows])
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_ = np.cumsum([0] + [len(r[2]) for r in rows])
        lp.a_matrix_.index_ = np.array([k for r in rows for k in r[2]])
        lp.a_matrix_.value_ = np.array([v for r in rows for v in r[2].values()])
        return lp

    def _run(self) -> Optimum:
        # With numbers of very different size in one program HiGHS may not reach the finest tolerance.
        for tolerance in TOLERANCES:
            self._highs.setOptionValue("primal_feasibility_tolerance", tolerance)
            self._highs.setOptionValue("dual_feasibility_tolerance", tolerance)
            self._highs.clearSolver()
            self._highs.run()
            if self._highs.getModelStatus() == highspy.HighsModelStatus.kOptimal:
                break
        else:
            raise AssertionError(self._highs.modelStatusToString(self._highs.getModelStatus()))
        value = self._highs.getInfo().objective_function_value
        scale = self._spread + math.fsum(abs(min(c)) for c in self._problem.costs)
        return Optimum(self._offset + self._spread * value, scale, tolerance)

    def at(self, target_s: float) -> Optimum:
        """C(target)."""
        self._highs.changeColCost(self._problem.size, 0.0)
        self._highs.changeColBounds(self._problem.size, 0.0, target_s * self._second)
        return self._run()

    def self_timed(self) -> Optimum:
        """The least of C(T) + T sum P over all T."""
        price = self._problem.total_power_w / self._second / self._spread
        self._highs.changeColCost(self._problem.size, price)
        self._highs.changeColBounds(self._problem.size, 0.0, highspy.kHighsInf)
        return self._run()


def exact_bound(problem: Problem, certificate: dict, target_s: float) -> Fraction:
    """sum_i min_k (c_ik + phi_i t_ik) + sum_e phi_e lag_e - F T without rounding; checks conservation on the way."""
    unit = Fraction(2) ** certificate["unit_exponent"]
    through = certificate["computation"]
    assert len(through) == problem.size
    assert min(through) >= 0
    source, sink = list(through), list(through)
    bound = -certificate["value"] * unit * Fraction(target_s)
    for e, flow in certificate["edges"]:
        a, b, lag = problem.edges[e]
        assert flow > 0
        sink[a] -= flow
        source[b] -= flow
        if lag:
            bound += flow * unit * Fraction(lag)
    assert min(source) >= 0
    assert min(sink) >= 0
    assert sum(source) == sum(sink) == certificate["value"]
    least = {}
    for i in range(problem.size):
        key = (problem.option_set_of[i], problem.rank_of[i], through[i])
        if key not in least:
            price = through[i] * unit - Fraction(problem.blocking_power_w[problem.rank_of[i]])
            least[key] = min(Fraction(e) + price * Fraction(t) for t, e in problem.options(i))
        bound += least[key]
    return bound
