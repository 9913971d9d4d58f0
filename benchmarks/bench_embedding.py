"""Features of recorded sequences: preprocessing and the published encoder, per sequence.

Recordings of NTU's kind, 40 to 120 frames and two bodies. The baseline prepares and encodes them
one by one in eager PyTorch; `one_by_one` is this package used in the same way, `batches` as it is
meant to be, and `network` is the encoder alone on sequences that are prepared; `..._bf16` are the
same in bf16. FLOP are those of the network; sequences a second are 1000 over the milliseconds.
"""

from __future__ import annotations

import torch
from baseline.encoder import Encoder as BaselineEncoder
from bench_skeleton_augment import LAYOUT
from bench_stgcn_block import EMBEDDING
from bench_stgcn_block import work as training_work
from harness import BASELINE, Bench, Case, cases, in_bf16
from limits import Work
from measure import Step

from aimclr_fast.inference.encoder import EmbeddingModel, Encoder, Traits
from aimclr_fast.nn import STGCN, SkeletonEncoder
from aimclr_fast.nn.precision import autocast

CPU_SIZES = [{"N": 64}]
GPU_SIZES = [{"N": 256}]  # one by one, these take a second


class Inputs:
    def __init__(self, case: Case) -> None:
        self.case = case
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(0)
        lengths = torch.randint(40, 121, (case["N"],), generator=generator).tolist()
        self.sequences = [
            torch.randn(2, frames, LAYOUT.num_joints, 3, generator=generator).numpy()
            for frames in lengths
        ]
        self.network = SkeletonEncoder(STGCN(LAYOUT), EMBEDDING)
        self.size = case["N"]

    def encoder(self) -> Encoder:
        """Computes in the precision of the case."""
        model = EmbeddingModel(self.network, Traits())
        model.precision = self.case.precision
        return Encoder(model, torch.device(self.case.device))


def baseline(inputs: Inputs) -> Step:
    encoder = inputs.encoder()
    network = BaselineEncoder(LAYOUT).to(encoder.device).eval()

    @torch.inference_mode()
    def run() -> None:
        for sequence in inputs.sequences:
            ready = torch.from_numpy(encoder.prepare(sequence))[None].to(encoder.device)
            with autocast(inputs.case.precision, encoder.device):
                network(ready).cpu()

    return Step(run, calls=inputs.size, host=True)


def one_by_one(inputs: Inputs) -> Step:
    encoder = inputs.encoder()

    def run() -> None:
        for sequence in inputs.sequences:
            encoder(sequence).cpu()

    return Step(run, calls=inputs.size, host=True)


def batches(inputs: Inputs) -> Step:
    encoder = inputs.encoder()
    return Step(lambda: encoder(inputs.sequences).cpu(), calls=inputs.size, host=True)


def network(inputs: Inputs) -> Step:
    encoder = inputs.encoder()
    ready = torch.stack([torch.from_numpy(encoder.prepare(s)) for s in inputs.sequences])
    ready = ready.to(encoder.device)

    @torch.inference_mode()
    def run() -> None:
        for batch in ready.split(64):
            encoder.model(batch)

    return Step(run, calls=inputs.size)


def work(case: Case) -> Work:
    """Of one sequence, forward alone."""
    return Work(flop=training_work(case).flop / 3 / case["N"], precision=case.precision)


BENCH = Bench(
    op="embedding",
    cases=cases(CPU_SIZES, "cpu", "fp32") + cases(GPU_SIZES, "cuda", "bf16", "fp32", "tf32"),
    inputs=Inputs,
    work=work,
    providers={
        BASELINE: baseline,
        "one_by_one": one_by_one,
        "batches": batches,
        "network": network,
        **in_bf16(baseline=baseline, batches=batches, network=network),
    },
    package=("one_by_one", "batches", "batches_bf16"),
)


@BENCH.parametrize()
def test_embedding(compare, case, provider):
    compare(BENCH, case, provider)
