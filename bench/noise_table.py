#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Table (Markdown) and plot of noise_experiment's CSV.

build/bench/bin/noise_experiment 6 > noise.csv
python3 bench/noise_table.py noise.csv [plot.svg]      # the plot needs matplotlib
"""

import collections
import csv
import statistics
import sys

COLUMNS = ("late_pct", "hungrier_pct", "above_pct")


def read(path):
    rows = collections.defaultdict(list)
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = (float(row["time_noise"]), float(row["energy_noise"]), row["fit"])
            rows[key].append([float(row[c]) for c in COLUMNS])
    return {key: list(zip(*values, strict=True)) for key, values in sorted(rows.items())}


def print_table(groups):
    print(
        "| noise on time / energy | fit | plans | slower than promised | hungrier than promised | above the true optimum |"
    )
    print("|---|---|---|---|---|---|")
    for (time, energy, fit), columns in groups.items():
        cells = [f"{statistics.mean(c):.3f} / {max(c):.3f}" for c in columns]
        print(f"| {100 * time:g} % / {100 * energy:g} % | {fit} | {len(columns[0])} | {' | '.join(cells)} |")


def plot(groups, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.6), sharex=True)
    titles = ("slower than promised, %", "hungrier than promised, %", "above the true optimum, %")
    for column, (axis, title) in enumerate(zip(axes, titles, strict=True)):
        for fit, style in (("none", "o-"), ("convex", "s--")):
            points = [(100 * key[0], statistics.mean(c[column])) for key, c in groups.items() if key[2] == fit]
            axis.plot(*zip(*points, strict=True), style, label=f"--fit {fit}")
        axis.set_title(title)
        axis.set_xlabel("noise on time, %")
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(path)


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    groups = read(sys.argv[1])
    print_table(groups)
    if len(sys.argv) == 3:
        plot(groups, sys.argv[2])


if __name__ == "__main__":
    main()
