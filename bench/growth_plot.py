# SPDX-License-Identifier: Apache-2.0
"""Draws how the exact frontier's time and breakpoints grow, from Google Benchmark's JSON.

  build/bench/bin/frontier_bench --benchmark_filter=frontier_to_t_star --benchmark_format=json > growth.json
  python3 bench/growth_plot.py growth.json docs/solver_growth.svg

Standard library only. Log-log; one dot per size, named stages x microbatches.
"""

import json
import math
import sys

WIDTH, HEIGHT, MARGIN = 720, 440, 64


def read_points(path):
    """(stages, microbatches, computations, milliseconds of CPU time, breakpoints) of every frontier_to_t_star run."""
    with open(path, encoding="utf-8") as file:
        runs = json.load(file)["benchmarks"]
    points = []
    for run in runs:
        name, *sizes = run["name"].split("/")
        if name == "frontier_to_t_star" and not run.get("error_occurred"):
            points.append((int(sizes[0]), int(sizes[1]), run["computations"], run["cpu_time"], run["breakpoints"]))
    return sorted(points)


def scale(low, high, length):
    """A map from [low, high] to [0, length], logarithmic."""
    span = math.log10(high) - math.log10(low) or 1
    return lambda value: (math.log10(value) - math.log10(low)) / span * length


def decades(low, high):
    return [10**k for k in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]


def draw(points):
    low_x, high_x = min(p[2] for p in points) / 2, max(p[2] for p in points) * 2
    low_y, high_y = min(p[3] for p in points) / 2, max(p[3] for p in points) * 2
    to_x = scale(low_x, high_x, WIDTH - 2 * MARGIN)
    to_y = scale(low_y, high_y, HEIGHT - 2 * MARGIN)

    def x(v):
        return MARGIN + to_x(v)

    def y(v):
        return HEIGHT - MARGIN - to_y(v)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for tick in decades(low_x, high_x):
        out.append(
            f'<path d="M{x(tick):.1f} {MARGIN}V{HEIGHT - MARGIN}" stroke="#ddd"/>'
            f'<text x="{x(tick):.1f}" y="{HEIGHT - MARGIN + 18}" text-anchor="middle">{tick:,}</text>'
        )
    for tick in decades(low_y, high_y):
        out.append(
            f'<path d="M{MARGIN} {y(tick):.1f}H{WIDTH - MARGIN}" stroke="#ddd"/>'
            f'<text x="{MARGIN - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g} ms</text>'
        )
    for stages in sorted({p[0] for p in points}):
        line = [p for p in points if p[0] == stages]
        path = "L".join(f"{x(p[2]):.1f} {y(p[3]):.1f}" for p in line)
        out.append(f'<path d="M{path}" fill="none" stroke="#2a6"/>')
    for stages, microbatches, computations, ms, breakpoints in points:
        out.append(
            f'<circle cx="{x(computations):.1f}" cy="{y(ms):.1f}" r="4" fill="#164"/>'
            f'<text x="{x(computations) + 7:.1f}" y="{y(ms) - 6:.1f}">{stages} x {microbatches}: '
            f"{breakpoints:,.0f}</text>"
        )
    out.append(
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 14}" text-anchor="middle">computations</text>'
        f'<text x="{MARGIN}" y="{MARGIN - 24}">CPU time of the complete frontier [T_min, T*]; labels: stages x '
        "microbatches: breakpoints</text></svg>"
    )
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[2], "w", encoding="utf-8") as target:
        target.write(draw(read_points(sys.argv[1])))
