# SPDX-License-Identifier: Apache-2.0
"""Zeus's own client, unmodified, gets a real schedule: `unmodified_client.py BINARY` (an environment with requirements.txt,
Zeus itself installed with --no-deps, since its own needs include a GPU's libraries).

What stands around the client is replaced: torch (it takes the job id across ranks), the GPU and the clock controller.
Client, wire format and server are real. Four ranks run as threads; afterwards each replays its step.
"""

import sys
import tempfile
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))
from server_process import Server

CLOCKS = (1410, 1200, 990, 780)
PP, DP = 2, 2


def replace_surroundings() -> None:
    job_id: list[str] = []
    known = threading.Event()

    def broadcast(objects: list, src: int) -> None:
        if objects[0] is not None:
            job_id.append(objects[0])
            known.set()
        assert known.wait(60)
        objects[0] = job_id[0]

    class Gpus:
        def get_supported_memory_clocks(self, _: int) -> list[int]:
            return [1215]

        def get_supported_graphics_clocks(self, _: int, memory: int) -> list[int]:
            assert memory == 1215
            return list(reversed(CLOCKS))

    class Controller:
        def __init__(self, device_id: int) -> None:
            self.set: list[int] = []

        def set_frequency(self, mhz: int) -> None:
            self.set.append(mhz)

    modules: dict[str, dict] = {
        "torch": {"cuda": types.SimpleNamespace(set_device=lambda _: None)},
        "torch.distributed": {"is_initialized": lambda: True, "broadcast_object_list": broadcast},
        "zeus.device": {"get_gpus": Gpus},
        "zeus.utils.framework": {"sync_execution": lambda devices, sync_with: None},
        "zeus.optimizer.pipeline_frequency.frequency_controller": {"FrequencyController": Controller},
    }
    for name, members in modules.items():
        module = types.ModuleType(name)
        vars(module).update(members)
        sys.modules[name] = module
    sys.modules["torch"].distributed = sys.modules["torch.distributed"]


def main() -> None:
    replace_surroundings()
    from zeus.optimizer.pipeline_frequency.optimizer import PipelineFrequencyOptimizer

    with tempfile.TemporaryDirectory() as folder, Server(Path(sys.argv[1]), Path(folder) / "state") as server:
        server.plan_job()

        def rank(number: int) -> list[int]:
            dp, pp = divmod(number, PP)
            client = PipelineFrequencyOptimizer(
                rank=number, dp_rank=dp, pp_rank=pp, tp_rank=0, device_id=0, dp_degree=DP, pp_degree=PP, tp_degree=1,
                world_size=PP * DP, server_url=f"http://127.0.0.1:{server.port}", job_metadata="gpt",
            )  # fmt: skip
            _, plan = server.poll("gpt", f"{dp}.{pp}.0", 0)
            names = {"F": "forward", "B": "backward"}
            client.on_step_begin()
            for kind, *_ in plan["operations"]:
                client.on_instruction_begin(names[kind])
                client.on_instruction_end(names[kind])
            client.on_step_end()
            assert client.frequency_controller.set == [mhz for _, _, _, mhz, _ in plan["operations"]]
            return client.frequency_controller.set

        with ThreadPoolExecutor(PP * DP) as pool:
            clocks = list(pool.map(rank, range(PP * DP)))
    assert len({clock for row in clocks for clock in row}) > 1, "a plan that saves energy has more than one clock"
    print(f"{len(clocks)} unmodified Zeus clients got their schedules: rank 0 runs {clocks[0]}")


if __name__ == "__main__":
    main()
