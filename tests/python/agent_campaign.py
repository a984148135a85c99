# SPDX-License-Identifier: Apache-2.0
"""Kills agents and owners at random moments, and asks the driver each time whether a GPU was left low.

    build/venv/bin/python tests/python/agent_campaign.py --kills 400 --seed 1 [--log FILE] [--perseus PATH]

Each try starts what does not run, lets two owners change clocks every millisecond, waits for a random moment (while an
owner connects, while the journal is written, between journal and driver call, between driver call and answer, or long
after), and sends SIGKILL to an owner, to the agent, or to both at once. A killed agent is followed by what a service
manager does: the stop hook (`--restore`), the next start, or both. Then the driver is asked (`perseus sim show`) until no
GPU is locked. The result is one JSON line; exit code 0 if no GPU was left low.
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from node import Node, Owner

VICTIMS = ["owner", "agent", "both"]
# What a supervisor does after the agent's death. Either alone must do.
SUPERVISORS = ["hook", "start", "hook and start"]


class Campaign:
    """One node that is killed again and again."""

    def __init__(self, node: Node, seed: int):
        self.node = node
        self.random = random.Random(seed)
        self.owners: list[Owner] = []
        self.restore_s: dict[str, list[float]] = {victim: [] for victim in VICTIMS}
        self.left_low = 0
        self.acknowledged = 0  # leases that were given when their agent was killed
        self.lost = 0  # those of which the journal knew nothing

    def start_missing(self) -> None:
        if self.node.agent is None or self.node.agent.child.poll() is not None:
            self.node.start_agent()
        # Now and then the kill comes while an owner is still on its way in.
        ready = self.random.random() < 0.7
        clocks = [210 + 15 * self.random.randrange(80) for _ in range(3)]
        self.owners = [self.node.start_owner(str(gpu), clocks, interval_s=0.001, ready=ready) for gpu in (0, 1)]
        self.ready = ready

    def kill(self, victim: str) -> None:
        # Both signals before waiting for either: they die at one moment.
        owners = self.owners if victim == "both" else [self.random.choice(self.owners)]
        doomed = []
        if victim != "agent":
            doomed += owners
        if victim != "owner":
            doomed.append(self.node.agent)
        self.random.shuffle(doomed)
        for process in doomed:
            process.signal(signal.SIGKILL)
        for process in doomed:
            process.child.wait(30)

    def supervise(self, victim: str) -> None:
        """Only if the agent is dead."""
        if self.node.agent.child.poll() is None:
            return
        if self.ready and victim == "agent":  # both owners lived, and had their leases
            self.acknowledged += 2
            self.lost += 2 - self.node.records()
        does = self.random.choice(SUPERVISORS)
        if "hook" in does:
            self.node.run_agent("--restore")
        if "start" in does:
            self.node.start_agent(wait=False)

    def one(self, number: int) -> dict:
        victim = VICTIMS[number % len(VICTIMS)]
        self.start_missing()
        delay = self.random.choice([0.0, 0.003, 0.02, 0.1]) * self.random.random()
        time.sleep(delay)
        self.kill(victim)
        start = time.monotonic()
        self.supervise(victim)
        # Owners that live hold their leases, if the agent does: only the dead ones' clocks must come back.
        for owner in self.owners:
            owner.kill()
        try:
            self.node.wait_all_back()
        except AssertionError:
            self.left_low += len(self.node.locked())
        took = time.monotonic() - start
        self.restore_s[victim].append(took)
        for owner in self.owners:
            owner.child.stdout.close()
        return {"try": number, "victim": victim, "after_s": round(delay, 6), "restore_s": round(took, 4)}

    def result(self) -> dict:
        def figures(times: list[float]) -> dict:
            times = sorted(times)
            return {"tries": len(times), "p50_s": round(times[len(times) // 2], 3), "max_s": round(times[-1], 3)}

        return {
            "kills": sum(map(len, self.restore_s.values())),
            "gpus_left_low": self.left_low,
            "acknowledged": self.acknowledged,
            "acknowledged_lost": self.lost,
            "records_left": len(list(self.node.state_dir.glob("*.lease"))),
            **{victim: figures(times) for victim, times in self.restore_s.items() if times},
        }


def run(perseus: Path, folder: Path, kills: int, seed: int, log=None) -> dict:
    """Runs a campaign in an empty folder; its result."""
    with Node(perseus, folder, seed=seed) as node:
        campaign = Campaign(node, seed)
        for number in range(kills):
            line = campaign.one(number)
            if log:
                print(json.dumps(line), file=log, flush=True)
        # What a kill left on disk is settled by the next start.
        if node.agent.child.poll() is None:
            node.agent.terminate()
        node.run_agent("--restore")
        return {"seed": seed, **campaign.result(), "locked_at_end": len(node.locked())}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", type=argparse.FileType("w"), help="one JSON line for each try")
    root = Path(__file__).resolve().parents[2]
    parser.add_argument("--perseus", type=Path, default=root / "build/dev/bin/perseus")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = run(arguments.perseus, Path(folder), arguments.kills, arguments.seed, arguments.log)
    print(json.dumps(result))
    zeros = ["gpus_left_low", "acknowledged_lost", "locked_at_end", "records_left"]
    return 0 if all(result[zero] == 0 for zero in zeros) else 1


if __name__ == "__main__":
    sys.exit(main())
