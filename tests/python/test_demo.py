# SPDX-License-Identifier: Apache-2.0
"""`perseus demo` from outside: what it prints and leaves, and how it ends when it is interrupted or one of its processes
is killed. The figures themselves depend on the machine; docs/demo.md says how well they agree."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from node import PATIENCE_S, wait_until

WHOLE_S = 280
QUICK = ("--time-scale", "40")  # less exact, and over in a minute


class Demo:
    """A running `perseus demo`; its progress is read as it comes."""

    def __init__(self, perseus: Path, folder: Path, *flags: object):
        self.folder = folder
        self.progress = folder.parent / "progress"
        command = [str(perseus), "demo", "--json", "--keep", str(folder), *map(str, flags)]
        with self.progress.open("wb") as err:
            self.child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, start_new_session=True)

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.text() or self.child.poll() is not None, 4 * PATIENCE_S)
        assert text in self.text(), self.text()

    def text(self) -> str:
        return self.progress.read_text()

    def end(self, patience_s: float = 3 * PATIENCE_S) -> tuple[int, str]:
        out, _ = self.child.communicate(timeout=patience_s)
        return self.child.returncode, out.decode()

    def processes(self) -> dict[int, str]:
        """Living processes that have its folder in their arguments."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                arguments = entry.read_bytes().decode().split("\0")
            except OSError:
                continue  # it has ended meanwhile
            if any(str(self.folder) in argument for argument in arguments) and int(entry.parent.name) != self.child.pid:
                found[int(entry.parent.name)] = " ".join(arguments)
        return found


@pytest.fixture
def demo(perseus_binary: Path, tmp_path: Path):
    started = []

    def start(*flags: object) -> Demo:
        started.append(Demo(perseus_binary, tmp_path / "demo", *flags))
        return started[-1]

    yield start
    for each in started:
        if each.child.poll() is None:
            each.child.kill()
            each.child.wait()
        each.child.stdout.close()
        for pid in each.processes():
            os.kill(pid, signal.SIGKILL)


def test_the_whole_demo(demo, root: Path) -> None:
    running = demo(*QUICK)
    code, out = running.end(WHOLE_S)
    assert code == 0, running.text()
    lines = out.splitlines()
    assert len(lines) == 1
    result = json.loads(lines[0])
    assert list(result) == [
        "all_max", "predicted", "measured", "intrinsic_saved_pct", "extrinsic_saved_pct", "straggler", "gpus_left_locked",
    ]  # fmt: skip
    for figures in ("all_max", "predicted", "measured"):
        assert result[figures].keys() == {"time_s", "energy_j"}
        assert result[figures]["time_s"] > 0
    assert result["gpus_left_locked"] == 0
    saved = 100 * (1 - result["measured"]["energy_j"] / result["all_max"]["energy_j"])
    assert result["intrinsic_saved_pct"] == pytest.approx(saved)
    assert result["intrinsic_saved_pct"] > 2
    assert result["extrinsic_saved_pct"] > 1
    assert result["straggler"]["factor"] > 1.05
    assert result["straggler"]["replan_ms"] >= 0

    assert "<script" in (running.folder / "report.html").read_text()
    rows = (running.folder / "profile.csv").read_text().splitlines()
    assert rows[0].startswith("stage,instruction,frequency,time,energy")
    assert {row.split(",")[0] for row in rows[1:]} == {"0", "1", "2", "3"}
    for name in ("agent", "server", "rank-0.0", "rank-1.3"):
        assert (running.folder / f"{name}.log").exists()
    assert running.processes() == {}
    page = (root / "docs/demo.md").read_text()
    assert "time scale" in running.text() and "a clock switch takes 12 ms in the median" in running.text()
    assert "**Every figure is simulated**" in page


def test_an_interruption_ends_everything(demo) -> None:
    running = demo(*QUICK)
    running.wait_for("all-max, without Perseus")
    wait_until(lambda: len(running.processes()) == 10)  # agent, server, eight ranks
    running.child.send_signal(signal.SIGINT)
    code, out = running.end()
    assert (code, out) == (3, "")
    assert running.text().endswith("perseus: error: interrupted\n")
    assert running.processes() == {}
    assert not list(running.folder.glob("gpus"))


@pytest.mark.parametrize(
    ("name", "pattern"), [("rank-1.2", "--pipeline 1 --stage 2 "), ("server", " serve "), ("agent", "perseus-agent")]
)
def test_a_process_that_dies_is_named_with_the_end_of_its_log(demo, name: str, pattern: str) -> None:
    running = demo(*QUICK)
    running.wait_for("all-max, without Perseus")
    wait_until(lambda: len(running.processes()) == 10)
    victims = [pid for pid, command in running.processes().items() if pattern in command]
    assert len(victims) == 1
    os.kill(victims[0], signal.SIGKILL)
    code, out = running.end()
    assert (code, out) == (3, "")
    assert re.search(rf"^perseus: error: {re.escape(name)} was killed by signal 9 \(Killed\); the end of its log:$", running.text(), re.MULTILINE)  # fmt: skip
    assert running.processes() == {}


def test_where_the_demo_itself_is_killed_nothing_goes_on(demo) -> None:
    running = demo(*QUICK)
    running.wait_for("all-max, without Perseus")
    wait_until(lambda: len(running.processes()) == 10)
    running.child.kill()
    running.child.wait()
    wait_until(lambda: running.processes() == {})
