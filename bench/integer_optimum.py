#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How near the proven bound any assignment of clocks can come, by a mixed-integer programme (small pipelines).

    build/bench/bin/realise_gap dump noisy 4 8 0.5 5 > noisy-4x8.txt
    python3 bench/integer_optimum.py noisy-4x8.txt [SECONDS_PER_TARGET]      # needs highspy and numpy (PyPI)

Prints per target, in per cent above the flow's bound: the plan at once, the polished plan, the best assignment that
HiGHS found and what it proved that none can go below.
"""

import sys

import highspy
import numpy


def read(path):
    with open(path, encoding="utf-8") as file:
        words = iter(file.read().split())
    size, edge_count, targets = (int(next(words)) for _ in range(3))
    options = [[(float(next(words)), float(next(words))) for _ in range(int(next(words)))] for _ in range(size)]
    edges = [(int(next(words)), int(next(words))) for _ in range(edge_count)]
    return options, edges, [[float(next(words)) for _ in range(5)] for _ in range(targets)]


def useful(options):
    """Options by rising time whose cost falls: no other can be in an optimum."""
    kept = []
    for time, cost in sorted(options):
        if not kept or cost < kept[-1][1]:
            kept.append((time, cost))
    return kept


def solve(options, edges, target, seconds):
    """Best cost found and proven bound: start times s_i, one binary per option."""
    size = len(options)
    ladders = [[o for o in useful(row) if o[0] <= target] for row in options]
    cost = [0.0] * size
    first = []
    for row in ladders:
        first.append(len(cost))
        cost += [c for _, c in row]
    upper = [target] * size + [1.0] * (len(cost) - size)
    starts, index, value, low, high = [0], [], [], [], []

    def add(entries, lower, higher):
        for column, coefficient in entries:
            index.append(column)
            value.append(coefficient)
        starts.append(len(index))
        low.append(lower)
        high.append(higher)

    def duration(i):
        return [(first[i] + k, -t) for k, (t, _) in enumerate(ladders[i])]

    for i in range(size):
        add([(first[i] + k, 1.0) for k in range(len(ladders[i]))], 1.0, 1.0)
        add([(i, -1.0)] + duration(i), -target, highspy.kHighsInf)
    for a, b in edges:
        add([(b, 1.0), (a, -1.0)] + duration(a), 0.0, highspy.kHighsInf)

    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(cost), len(low)
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = numpy.array(cost), numpy.zeros(len(cost)), numpy.array(upper)
    lp.row_lower_, lp.row_upper_ = numpy.array(low), numpy.array(high)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_, lp.a_matrix_.index_ = numpy.array(starts), numpy.array(index)
    lp.a_matrix_.value_ = numpy.array(value)
    lp.integrality_ = [highspy.HighsVarType.kContinuous] * size + [highspy.HighsVarType.kInteger] * (len(cost) - size)
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("time_limit", seconds)
    highs.setOptionValue("mip_rel_gap", 1e-6)
    highs.passModel(lp)
    highs.run()
    info = highs.getInfo()
    return info.objective_function_value, info.mip_dual_bound


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    options, edges, targets = read(sys.argv[1])
    seconds = float(sys.argv[2]) if len(sys.argv) == 3 else 60.0
    print("| target, s | at once | polished | best known | proven least |\n|---|---|---|---|---|")
    for target, waiting, bound, once, polished in targets:
        best, least = solve(options, edges, target, seconds)
        cells = [100 * (energy / bound - 1) for energy in (once, polished, best + waiting, least + waiting)]
        print(f"| {target:.4f} | " + " | ".join(f"{c:.4f} %" for c in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
