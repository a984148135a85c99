# SPDX-License-Identifier: Apache-2.0
"""The orders of computations that torch.distributed.pipelining runs, per rank, without GPU or process group.

How each is taken, and why:

* Schedules of one stage per rank (GPipe, 1F1B) run from code, not from a list: their `_step_microbatches` is run here on
  a stage whose chunks are recorded instead of computed. (Their `pipeline_order` is only for display, and for 1F1B it is
  wrong on the last rank: it numbers that rank's forwards from 1.)
* Schedules of several stages per rank are run by `_PipelineScheduleRuntime` from `pipeline_order_with_comms`; the
  computations of that list, without its communication, are the order. It must equal `pipeline_order`.
"""

from __future__ import annotations

from unittest import mock

from torch.distributed.pipelining import schedules
from torch.distributed.pipelining.stage import PipelineStage

# Our name -> PyTorch's. One stage per rank:
SINGLE = {"gpipe": "GPipe", "1f1b": "1F1B"}
# Several stages per rank, and the counts of them that are compared:
MULTI = {
    "interleaved-1f1b": ("Interleaved1F1B", (1, 2, 3, 4)),
    "interleaved-zero-bubble": ("InterleavedZeroBubble", (1, 2, 3, 4)),
    "looped-bfs": ("LoopedBFS", (1, 2, 3, 4)),
    "zbv": ("ZBVZeroBubble", (2,)),
    "dualpipev": ("DualPipeV", (2,)),
}
NAMES = (*SINGLE, *MULTI)

Order = list[list[str]]  # per rank, the cells of a compute_only schedule file without its bubbles


def virtual_stage_counts(name: str) -> tuple[int, ...]:
    return (1,) if name in SINGLE else MULTI[name][1]


def _mock_stage(pipeline: int, stages: int, rank: int) -> mock.NonCallableMagicMock:
    stage = mock.create_autospec(PipelineStage, instance=True)
    stage.group_rank = rank
    stage.group_size = pipeline
    stage.num_stages = stages
    stage.stage_index = rank
    stage.is_first = rank == 0
    stage.is_last = rank == stages - 1
    stage.submod = None
    for transfer in ("fwd_recv", "fwd_send", "bwd_recv", "bwd_send"):
        getattr(stage, f"get_{transfer}_ops").return_value = []
    return stage


def _executed(torch_name: str, pipeline: int, microbatches: int) -> Order:
    ranks: Order = []
    for rank in range(pipeline):
        cells: list[str] = []
        stage = _mock_stage(pipeline, pipeline, rank)
        stage.forward_one_chunk.side_effect = lambda chunk, *_, cells=cells, rank=rank, **__: cells.append(
            f"{rank}F{chunk}"
        )
        stage.backward_one_chunk.side_effect = lambda chunk, *_, cells=cells, rank=rank, **__: cells.append(
            f"{rank}B{chunk}"
        )
        schedule = schedules.get_schedule_class(torch_name)(stage, microbatches)
        schedule._initialize_stage = lambda *_, **__: None
        schedule._step_microbatches()
        ranks.append(cells)
    return ranks


def _listed(torch_name: str, pipeline: int, microbatches: int, virtual_stages: int) -> Order:
    stage = _mock_stage(pipeline, pipeline * virtual_stages, 0)
    schedule = schedules.get_schedule_class(torch_name)([stage] * virtual_stages, microbatches)
    ranks: Order = []
    for rank in range(pipeline):
        run = [str(a) for a in schedule.pipeline_order_with_comms[rank] if a is not None and a.is_compute_op]
        listed = [str(a) for a in schedule.pipeline_order[rank] if a is not None]
        if run != listed:
            raise AssertionError(f"{torch_name}: rank {rank} lists another order than it runs")
        ranks.append(run)
    return ranks


def order(name: str, pipeline: int, microbatches: int, virtual_stages: int) -> Order | None:
    """PyTorch's order, or None where PyTorch refuses the sizes."""
    try:
        if name in SINGLE:
            return _executed(SINGLE[name], pipeline, microbatches)
        return _listed(MULTI[name][0], pipeline, microbatches, virtual_stages)
    except ValueError:
        return None


def csv_text(ranks: Order) -> str:
    """A compute_only schedule file without bubbles: one line of cells per rank."""
    return "".join(",".join(cells) + "\n" for cells in ranks)
