# SPDX-License-Identifier: Apache-2.0
"""The line that each test of a row of the fault table prints (docs/faults.md says which test is which row's), and
somebody who works beside the fault.

    row 3, an owner is killed: 12 tries, GPUs left low 0, acknowledged lost 0 of 12, others' requests delayed 0 of 812,
    slowest 0.031 s

(one line). All three must be 0, and figures() asserts it. "-" stands where there is nothing to count: nobody works
beside a fault that stops the whole agent.
"""

import threading
import time
from collections.abc import Iterable

from node import PATIENCE_S, Client, Node, wait_until

# A request of a bystander is answered within a nap of the GPU's thread, 1 ms. What takes longer than this is delayed
# by the fault, however busy the machine is (assumed).
DELAYED_S = 2.0
LEAST_REQUESTS = 20  # that a bystander makes beside a fault, however short that is


class Others:
    """A thread that leases a GPU and changes its clock again and again while a fault is at work elsewhere."""

    def __init__(self, node: Node, gpu: str = "1"):
        self.requests = 0
        self.delayed = 0
        self._stop = threading.Event()
        self._client = Client(node.socket)
        self._lease, self._mailbox = self._client.acquire(gpu, "bystander")
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        renewed = time.monotonic()
        while not self._stop.is_set():
            mhz = 1200 + 15 * (self.requests % 2)
            start = time.monotonic()
            sequence = self._mailbox.post(mhz)
            while self._mailbox.applied()[0] != sequence and time.monotonic() - start < PATIENCE_S:
                time.sleep(0.0005)
            late = time.monotonic() - start > DELAYED_S or self._mailbox.applied() != (sequence, mhz, "applied")
            self.requests += 1
            self.delayed += late
            if time.monotonic() - renewed > 1:
                self._client.renew(self._lease["lease"])
                renewed = time.monotonic()

    def go_on(self, requests: int) -> None:
        """Returns when it has made so many more."""
        until = self.requests + requests
        wait_until(lambda: self.requests >= until)

    def __enter__(self) -> "Others":
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.go_on(LEAST_REQUESTS - self.requests)
        self._stop.set()
        self._thread.join()
        if kind is None:
            self._client.release(self._lease["lease"])
        self._client.close()


def figures(
    row: str | int,
    what: str,
    *,
    tries: int,
    left_low: int,
    lost: tuple[int, int] | None = None,
    others: Others | None = None,
    times_s: Iterable[float] = (),
) -> None:
    """Prints the line and asserts its zeros. `lost`: how many of how many acknowledged things are gone."""
    times = list(times_s)
    acknowledged = f"{lost[0]} of {lost[1]}" if lost else "-"
    delayed = f"{others.delayed} of {others.requests}" if others else "-"
    slowest = f", slowest {max(times):.3f} s" if times else ""
    print(
        f"row {row}, {what}: {tries} tries, GPUs left low {left_low}, acknowledged lost {acknowledged}, "
        f"others' requests delayed {delayed}{slowest}"
    )
    assert tries > 0
    assert left_low == 0
    assert lost is None or lost[0] == 0
    if others:
        assert others.requests > 0
        assert others.delayed == 0
