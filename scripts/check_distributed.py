"""Check that several processes train as one: on the CPU, through gloo.

    python scripts/check_distributed.py --processes 2 4 --steps 100

For each number of processes: in float64, weights, losses and queue after so many steps against
those of one process with the same global batch, with synchronized batch statistics and with frozen
ones (the fast backends); the queue of every rank after every step; with statistics of each rank,
which are another computation, that all ranks end equal. Then, by the training command, a
rank is killed: the others must say so and end, and the run must go on with another number of
processes. Exits with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import copy
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo  # optimizers import it; here once for all processes
from kill_and_resume import write_shortened
from torch import Tensor

from aimclr_fast.config import DataConfig, ModelConfig, OptimConfig, TrainConfig
from aimclr_fast.data import open_store
from aimclr_fast.nn.methods import Views
from aimclr_fast.train import command_line
from aimclr_fast.training.checkpoint import digest, load_checkpoint
from aimclr_fast.training.distributed import Ranks, join
from aimclr_fast.training.guard import StepGuard
from aimclr_fast.training.job import Job
from aimclr_fast.training.loop import Pretraining
from aimclr_fast.training.metrics import read_metrics
from aimclr_fast.training.monitor import Monitor
from aimclr_fast.training.placement import Batch, place_sequences

CPU = torch.device("cpu")
BATCH = 8
ALLOWED = 1e-9  # of the largest value, in float64
TINY = """\
data: {store: store, split: odd-even}
model: {channels: 2, features: 8, embedding: 8, dropout: 0.5, queue_size: 32, momentum: 0.99}
optim: {epochs: EPOCHS, batch_size: 8, lr: 0.01, mining_epoch: 2}
monitor: {knn_every: 1, linear_probe: false}
save_steps: 2
threads: 1
"""


def prepare(folder: Path, epochs: int) -> None:
    """A store of a few sequences, and a config for it."""
    write_shortened(folder / "store", 41)
    (folder / "tiny.yaml").write_text(TINY.replace("EPOCHS", str(epochs)))


class Checked(Pretraining):
    """In float64, with frozen batch statistics if asked; compares the ranks' queues each step."""

    def __init__(self, frozen: bool, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._frozen, self.equal_queues = frozen, 0
        self.losses: list[Any] = []
        for stream in self.streams.values():
            stream.model.double()
            stream.guard = StepGuard(stream.model, CPU, self.job.losses)

    def augment(self, batch: Batch, step: int | Tensor, offset: int = 0) -> Views:
        views = super().augment(batch, step, offset)
        return {
            stream: {name: view.double() for name, view in of.items()}
            for stream, of in views.items()
        }

    def train_step(self, batch: Batch) -> Tensor:
        for stream in self.streams.values():
            stream.model.train(not self._frozen)
        report = super().train_step(batch)
        self.losses.append(report[0, 0].item())
        model = self.streams["joint"].models["joint"]
        queues = self.ranks.collect(digest([model.queue, model.queue_ptr]))
        self.equal_queues += len(set(queues)) == 1
        return report


def train(ranks: Ranks, folder: Path, statistics: str, steps: int, result: Path) -> None:
    """Take so many steps; the first rank writes what came of them."""
    store = open_store(folder / "store")
    samples = torch.arange(len(store))
    per_epoch = len(store) // BATCH
    config = TrainConfig(
        data=DataConfig(store=str(folder / "store")),
        # Frozen: nothing is dropped, since energy-based dropping rescales by the batch, too.
        model=ModelConfig(
            channels=2, features=8, embedding=8, dropout=0.0, queue_size=64, momentum=0.99,
            keep_prob=1.0 if statistics == "frozen" else 0.7,
        ),
        optim=OptimConfig(
            epochs=-(-steps // per_epoch), batch_size=BATCH, lr=0.01, mining_epoch=2,
            clip_norm=1.0,
        ),
        batch_statistics="rank" if statistics == "rank" else "synchronized",
        precision="fp32",  # the models are of float64
    )  # fmt: skip
    placed = place_sequences(store.positions, CPU, "device")
    frozen = statistics == "frozen"
    training = Checked(frozen, Job(config, CPU, ranks), store.layout, placed, samples)
    while training.step < steps:
        for _ in training.train_epoch():
            if training.step == steps:
                break
    model = training.streams["joint"].models["joint"]
    state = copy.deepcopy(model.state_dict())
    scores = Monitor(
        placed.data,
        torch.from_numpy(np.array(store.labels)) % 4,  # few classes, so that some are right
        samples[::2],
        samples[1::2],
        stream="joint",
        batch_size=8,
        ranks=ranks,
    ).score(model.query_encoder.float())
    every_rank = ranks.collect(digest([state, training.streams["joint"].optimizer.state_dict()]))
    if ranks.first:
        about: dict[str, Any] = {
            "equal_queues": training.equal_queues,
            "equal_ranks": len(set(every_rank)) == 1,
        }
        about |= {"state": state, "losses": training.losses, "scores": scores.as_dict()}
        torch.save(about, result)


def fork(work: Callable[[], None], said: Path) -> int:
    """Do `work` in a process of its own, which says what it says to a file; returns its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with said.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        work()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException as error:
        print(repr(error))
    finally:
        sys.stdout.flush()
        os._exit(code)


def job(processes: int, work: Callable[[], None], said: Path) -> list[int]:
    """Processes that find each other as those of torchrun do; returns their ids."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def as_rank(rank: int) -> None:
        names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_PORT")
        values = (rank, rank, processes, processes, port)
        os.environ |= {name: str(value) for name, value in zip(names, values, strict=True)}
        os.environ["MASTER_ADDR"] = "127.0.0.1"
        work()

    return [
        fork(lambda rank=rank: as_rank(rank), said.with_suffix(f".{rank}"))  # type: ignore[misc]
        for rank in range(processes)
    ]


def exit_codes(children: list[int]) -> list[int]:
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def all_said(said: Path) -> str:
    return "\n".join(file.read_text() for file in sorted(said.parent.glob(f"{said.stem}.*")))


def difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Largest difference of any weight, statistic or key, over the largest value of its tensor."""
    return max(
        float((a - b).abs().max() / a.abs().max().clamp(min=1e-30))
        for a, b in ((one[name].double(), other[name].double()) for name in one)
    )


def equality(folder: Path, processes: int, steps: int, statistics: str) -> list[str]:
    """Compare a job of several processes with one alone."""
    results = {}
    for size in (1, processes):
        result, said = folder / f"{statistics}-{size}.pt", folder / f"{statistics}-{size}.txt"
        if not result.exists():
            work = lambda: train(join("cpu"), folder, statistics, steps, result)  # noqa: E731, B023
            codes = exit_codes(job(size, work, said))
            if any(codes):
                raise SystemExit(f"{size} processes ended with {codes}:\n{all_said(said)}")
        results[size] = torch.load(result, weights_only=True)
    one, several = results[1], results[processes]
    weights = difference(one["state"], several["state"])
    losses = max(abs(a - b) for a, b in zip(one["losses"], several["losses"], strict=True))
    same = several["equal_ranks"] and (statistics == "rank" or one["scores"] == several["scores"])
    print(
        f"{processes} processes, {statistics} statistics, {steps} steps: weights differ by "
        f"{weights:.1e} (relative), losses by {losses:.1e}; queues of all ranks equal after "
        f"{several['equal_queues']} steps, "
        f"{'weights' if statistics == 'rank' else 'weights and kNN'} {'' if same else 'not '}at "
        "the end",
        flush=True,
    )
    moved = difference(one["state"], torch.load(folder / "start.pt", weights_only=True))
    good = several["equal_queues"] == steps and (
        statistics == "rank" or max(weights, losses) < ALLOWED
    )
    if not good or not same or moved < 1e-3:
        return [f"{processes} processes, {statistics}"]
    return []


def mistake(folder: Path) -> list[str]:
    """A mistake ends all ranks, and is said once."""

    def command() -> None:
        os.chdir(folder)
        command_line(["--config", "tiny.yaml", "--output", "none", "--optim.batch_size", "9"])

    codes = exit_codes(job(2, command, folder / "mistake.txt"))
    said = all_said(folder / "mistake.txt").strip()
    print(f"a mistake: exit codes {codes}: {said}")
    return [] if codes == [2, 2] and said.count("\n") == 0 and "multiple of" in said else [said]


def killed_rank(folder: Path, processes: int, others: int) -> list[str]:
    """Kill one rank of a run; it goes on with another number of processes."""
    failures = []

    def command() -> None:
        os.chdir(folder)
        command_line(["--config", "tiny.yaml", "--output", "run", "--resume", "auto"])

    children = job(processes, command, folder / "killed.txt")
    while not (folder / "run/previous-1.pt").exists():
        time.sleep(0.01)
    os.kill(children[-1], signal.SIGKILL)
    codes = exit_codes(children)
    step = load_checkpoint(folder / "run/checkpoint.pt")["step"]
    said = all_said(folder / "killed.txt")
    print(f"rank {processes - 1} of {processes} killed: exit codes {codes}, saved at step {step}")
    if set(codes[:-1]) != {2} or "another process of the job has ended" not in said:
        failures.append(f"killed rank: {said}")
    codes = exit_codes(job(others, command, folder / "resumed.txt"))
    epochs = [line["epoch"] for line in read_metrics(folder / "run")]
    print(f"resumed with {others}: exit codes {codes}, epochs {epochs} in metrics.jsonl")
    if any(codes) or epochs != list(range(len(epochs))):
        failures.append(f"resumed: {all_said(folder / 'resumed.txt')}")
    return failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=10, help="of the run that loses a rank")
    options = parser.parse_args()
    torch.set_num_threads(1)
    failures = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, options.epochs)
        start = folder / "start.pt"
        exit_codes(
            [fork(lambda: train(Ranks(), folder, "synchronized", 1, start), folder / "start.txt")]
        )
        torch.save(torch.load(start, weights_only=True)["state"], start)
        for processes in options.processes:
            for statistics in ("synchronized", "frozen", "rank"):
                failures += equality(folder, processes, options.steps, statistics)
        failures += mistake(folder)
        most = options.processes[-1]
        failures += killed_rank(folder, most, 1 if most == 2 else 2)
    if failures:
        raise SystemExit("FAILED: " + "\n".join(failures))


if __name__ == "__main__":
    main()
