# SPDX-License-Identifier: Apache-2.0
"""A rank in Python that holds the GIL inside of a training step: gil_rank.py LIBRARY SECONDS.

Prints JSON: what the client counted, and the longest time that one of its hooks took.
"""

import ctypes
import json
import sys
import time


class Options(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_size_t), ("job", ctypes.c_char_p), ("incarnation", ctypes.c_uint64),
        ("dp", ctypes.c_uint32), ("pp", ctypes.c_uint32), ("tp", ctypes.c_uint32), ("dp_rank", ctypes.c_uint32),
        ("pp_rank", ctypes.c_uint32), ("tp_rank", ctypes.c_uint32), ("schedule", ctypes.c_char_p),
        ("microbatches", ctypes.c_uint32), ("virtual_stages", ctypes.c_uint32), ("group_size", ctypes.c_uint32),
        ("orders", ctypes.c_void_p), ("blocking_power_w", ctypes.c_double), ("gpu", ctypes.c_char_p),
        ("server", ctypes.c_char_p), ("backend", ctypes.c_char_p), ("agent_socket", ctypes.c_char_p),
        ("trigger", ctypes.c_char_p), ("stream", ctypes.c_void_p), ("fingerprint", ctypes.c_char_p),
        ("log", ctypes.c_void_p), ("log_user", ctypes.c_void_p),
    )  # fmt: skip


class State(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_size_t), ("step", ctypes.c_uint64), ("generation", ctypes.c_uint64),
        ("clock_mhz", ctypes.c_uint32), ("server_connected", ctypes.c_uint32), ("clock_connected", ctypes.c_uint32),
        ("steps", ctypes.c_uint64), ("operations", ctypes.c_uint64), ("unknown_operations", ctypes.c_uint64),
        ("missing_operations", ctypes.c_uint64), ("posts", ctypes.c_uint64), ("guard_trips", ctypes.c_uint64),
        ("plans_taken", ctypes.c_uint64), ("plans_expired", ctypes.c_uint64), ("hook_timeouts", ctypes.c_uint64),
        ("dropped_reports", ctypes.c_uint64), ("refused_answers", ctypes.c_uint64), ("link_failures", ctypes.c_uint64),
        ("promised_time_s", ctypes.c_double), ("iteration_time_s", ctypes.c_double),
    )  # fmt: skip


def main(library: str, seconds: float) -> None:
    perseus = ctypes.CDLL(library)
    holds_the_lock = ctypes.PyDLL(None)  # functions of the C library, called without letting go of the GIL
    options = Options(
        size=ctypes.sizeof(Options), job=b"gil", incarnation=1, dp=1, pp=1, tp=1, schedule=b"1f1b", microbatches=2,
        virtual_stages=1, blocking_power_w=50.0, gpu=b"0",
    )  # fmt: skip
    client = ctypes.c_void_p()
    message = ctypes.create_string_buffer(512)
    assert perseus.perseus_open(ctypes.byref(options), ctypes.byref(client), message, 512) == 0, message.value
    longest = 0.0

    def hook(function, *arguments) -> None:
        nonlocal longest
        begin = time.monotonic()
        function(client, *arguments)
        longest = max(longest, time.monotonic() - begin)

    for step in range(3):
        hook(perseus.perseus_begin_step_at, ctypes.c_uint64(step))
        for kind in (0, 1):
            for microbatch in range(2):
                hook(perseus.perseus_begin, kind, 0, microbatch)
                if step == 1 and kind == 1 and microbatch == 0:
                    holds_the_lock.usleep(ctypes.c_uint(int(seconds * 1e6)))
                hook(perseus.perseus_end, kind, 0, microbatch)
        hook(perseus.perseus_end_step)
    state = State(size=ctypes.sizeof(State))
    assert perseus.perseus_get_state(client, ctypes.byref(state)) == 0
    perseus.perseus_close(client)
    print(json.dumps({"hook_timeouts": state.hook_timeouts, "steps": state.steps, "longest_hook_s": longest}))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
