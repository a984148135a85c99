# SPDX-License-Identifier: Apache-2.0
"""The documents keep what they show: commands run, outputs are as printed, links lead somewhere.

In a page of PAGES, a fenced block `console` is a session in the repository's root, with the binary on the PATH. Pages
write files only below the current folder, so the test runs each page's sessions in order in one folder that holds a
copy of examples/.

    ```console
    $ perseus plan --job examples/x.yaml \\
    >     -o plan.json
    T_min      1.45703 s ...       the rest of a line is left out
    ...                            any number of lines is left out
    ```

A command must end with 0, or, where its output shows `perseus: error:`, with another code. Words must agree exactly,
blanks and rules of tables do not matter, and numbers may differ by 2 %, percentages also by half a per cent (a better
plan is no error of a document). A fenced block whose first line is `# NAME` with the suffix
.yaml or .csv is written to that file before the session goes on.
"""

import csv
import hashlib
import os
import re
import shlex
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = ("README.md", "docs/guide.md", "docs/schedules.md", "docs/formats.md")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"# ([\w.-]+\.(?:yaml|csv))\n")
NUMBER = re.compile(r"([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)( %)?")
SECONDS_TAKEN = re.compile(r"(breakpoints in )\S+( s\.)")
RELATIVE = 0.02  # assumed: a document that is this far off is wrong, a solver that improves a plan moves less
ABSOLUTE = 1e-3  # of numbers near 0, such as gaps; assumed
ABSOLUTE_PERCENT = 0.5  # assumed


def steps(page: str) -> list[tuple[str, str]]:
    """("file NAME", text) and (command, shown output) in the order of the page."""
    found = []
    for language, body in FENCE.findall((ROOT / page).read_text(encoding="utf-8")):
        if named := FILE_NAME.match(body):
            found.append((f"file {named[1]}", body[named.end() :]))
        elif language == "console":
            for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                command, _, output = re.sub(r"\\\n> *", "", part).partition("\n")
                found.append((command, output))
    return found


def numbers_agree(shown: tuple[str, str], actual: tuple[str, str]) -> bool:
    """Two numbers, each with " %" behind it or nothing."""
    a, b = float(shown[0]), float(actual[0])
    return abs(a - b) <= max(RELATIVE * abs(b), ABSOLUTE_PERCENT if shown[1] else ABSOLUTE)


def lines_agree(shown: str, actual: str) -> bool:
    """One line of a document against one of the program."""
    shown, actual = (re.sub(r"─+", "─", SECONDS_TAKEN.sub(r"\1N\2", line)) for line in (shown, actual))
    cut = shown.endswith("...")
    shown = shown.removesuffix("...").rstrip()
    words = [NUMBER.sub(r"N\2", line).split() for line in (shown, actual)]
    if cut:
        words[1] = words[1][: len(words[0])]
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(actual), strict=False)
    return words[0] == words[1] and all(numbers_agree(a, b) for a, b in pairs)


def difference(shown: list[str], actual: list[str]) -> str | None:
    """The first shown line that the output lacks, or None. `...` stands for any lines, also none."""
    at = 0
    anywhere = False
    for line in shown:
        if line == "...":
            anywhere = True
            continue
        here = range(at, len(actual)) if anywhere else range(at, min(at + 1, len(actual)))
        match = next((i for i in here if lines_agree(line, actual[i])), None)
        if match is None:
            return line
        at = match + 1
        anywhere = False
    return None if anywhere or at == len(actual) else f"(the end; the program goes on: {actual[at]})"


@pytest.mark.parametrize("page", PAGES)
def test_commands_do_what_the_page_shows(perseus_binary, tmp_path, page):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    environment = os.environ | {"LC_ALL": "C.UTF-8"}
    problems = []
    for command, output in steps(page):
        if command.startswith("file "):
            (tmp_path / command.removeprefix("file ")).write_text(output, encoding="utf-8")
            continue
        program, *arguments = shlex.split(command)
        assert program == "perseus", f"{page}: a console block runs {program}"
        done = subprocess.run(
            [str(perseus_binary), *arguments], cwd=tmp_path, env=environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False, timeout=300,
        )  # fmt: skip
        refused = "perseus: error:" in output
        if (done.returncode != 0) != refused:
            problems.append(f"$ {command}\nended with {done.returncode}:\n{done.stdout}")
        elif output and (missing := difference(output.splitlines(), done.stdout.splitlines())):
            problems.append(f"$ {command}\nthe page shows: {missing}\nthe program says:\n{done.stdout[:4000]}")
    assert not problems, f"{page}:\n" + "\n".join(problems)


def test_the_guide_shows_every_command():
    shown = {command.split()[1] for page in PAGES for command, _ in steps(page) if command.startswith("perseus ")}
    assert shown >= {"frontier", "plan", "verify", "schedule", "synth", "report"}


@pytest.mark.parametrize(
    ("shown", "actual", "missing"),
    [
        (["a 1.00 s", "b"], ["a   1.01 s", "b"], None),
        (["a 1.00 s", "b"], ["a   2.01 s", "b"], "a 1.00 s"),
        (["a 100 s"], ["a 103 s"], "a 100 s"),
        (["...", "b"], ["x", "a", "b"], None),
        (["a", "..."], ["a", "x"], None),
        (["a ..."], ["a rest of the line"], None),
        (["a"], ["a", "x"], "(the end; the program goes on: x)"),
        (["b"], ["a", "b"], "b"),
        (["9 breakpoints in 0.1 s."], ["9 breakpoints in 7 s."], None),
    ],
)
def test_comparing_finds_differences(shown, actual, missing):
    assert difference(shown, actual) == missing


def documents() -> list[Path]:
    kept_out = {"build", "corpus"}
    return [
        path
        for path in sorted(ROOT.rglob("*.md"))
        if not any(part in kept_out or part.startswith(".") for part in path.relative_to(ROOT).parts[:-1])
    ]


def anchors(path: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_links_resolve(document):
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", document.read_text(encoding="utf-8")))
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken, f"{document.relative_to(ROOT)}: {broken}"


def test_the_pages_suffice_to_check_a_plan(perseus, tmp_path):
    """Fence and bound of a plan, by nothing but what docs/formats.md and docs/mathematics.md say."""
    profile, pp, tp, power, lag = tmp_path / "p.csv", 3, 2, Fraction(84), 0.0003
    job = ["--schedule", "1f1b", "--pp", pp, "--microbatches", 5]
    perseus("synth", "--model", "gpt3-6.7b", "--gpu-model", "a40", "--pp", pp, "--tp", tp, "--clocks", 9, "-o", profile)
    inputs = ["--profile", profile, *job, "--tp", tp, "--blocking-power", int(power), "--p2p-lag", lag]
    plan = perseus("plan", *inputs, "--straggler", 1.1).json()

    cells = perseus("schedule", *job, "--format", "csv").stdout
    text = f"perseus-schedule/1 pp={pp} tp={tp} dp=1 virtual_stages=1\n{cells}"
    assert hashlib.sha256(text.encode()).hexdigest() == plan["schedule_sha256"]

    options: dict[tuple[str, str], list[tuple[Fraction, Fraction]]] = {}
    for row in csv.DictReader(profile.read_text().splitlines()):
        measured = Fraction(float(row["time"])), Fraction(float(row["energy"]))
        options.setdefault((row["stage"], row["instruction"][0].upper()), []).append(measured)

    computations = [(rank, c) for rank, order in enumerate(plan["ranks"]) for c in order]
    flow, edges = plan["certificate"]["computations"], plan["certificate"]["edges"]
    unit, value = Fraction(plan["certificate"]["unit_w"]), plan["certificate"]["value"]
    assert len(flow) == len(computations) and min(flow) >= 0
    for end in (0, 1):
        carried = [0] * len(flow)
        for edge in edges:
            carried[edge[end]] += edge[2]
        terminal = [f - c for f, c in zip(flow, carried, strict=True)]
        assert min(terminal) >= 0 and sum(terminal) == value

    bound = (pp * power * Fraction(plan["sync_time_s"])) - value * unit * Fraction(plan["target_time_s"])
    bound += sum(f * unit * Fraction(lag) for a, b, f in edges if computations[a][0] != computations[b][0])
    for f, (_, c) in zip(flow, computations, strict=True):
        bound += min(e + (f * unit - power) * t for t, e in options[str(c["stage"]), c["kind"]])
    assert float(tp * bound) == pytest.approx(plan["lower_bound_j"], rel=1e-12)
    assert plan["lower_bound_j"] <= tp * bound, "never above what the flow proves"
