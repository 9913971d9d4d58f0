"""What every evaluation takes from the command line, besides its protocol's own options."""

from __future__ import annotations

from dataclasses import dataclass, field

from aimclr_fast.nn.readouts import PUBLISHED

from .finetuning import FinetuneConfig

CHOICES = ("test", "val")


@dataclass(frozen=True)
class EvaluationOptions:
    """What every evaluation takes.

    Attributes:
        data: folder of a store, or the name of an embedded one; auto: the store that the
            checkpoints were trained on.
        split: which samples train and which test, as declared by the store; auto: as the
            checkpoint was trained where `data` is its own store, otherwise xsub.
        stream: encoder to evaluate: joint, motion or bone; all takes each that a checkpoint has.
        pool: readout of the encoders' feature maps: mean, as published, max, joints, parts,
            segments, or several of them with + between, such as mean+max.
        side_by_side: take the streams of a checkpoint as one representation, their features side by
            side.
        choose: samples that the best epoch is chosen on: test, as published, or val, the split's
            validation samples. With val, k, learning rates of a sweep and searched weights are
            chosen on them too, instead of on folds of the training samples; results are always of
            the test samples.
        baselines: evaluate baselines as well.
        name: name of the pretrained encoder in results and tables.
        seed: seed of classifiers, draws and clusters.
        device: cpu, cuda, cuda:N, or auto for a GPU where there is one.
        backend: backend of the ops; auto picks the fastest that can run.
        precision: what frozen encoders compute in: fp32, or bf16 on GPUs and on CPUs with
            AVX512-BF16 or AMX. Features, classifiers and what is fine-tuned are float32.
        encode_batch: number of sequences encoded at once.
        threads: number of CPU threads; 0 leaves it to torch.
        output: folder for the results; default: evaluations/PROTOCOL-STORE-SPLIT-TIME.
        csv: file that every evaluation appends its numbers to.
        scratch: recipe of the supervised baseline; finetune and semi use their own, with the
            encoder at the classifier's learning rate.
    """

    data: str = "auto"
    split: str = "auto"
    stream: str = "all"
    pool: str = PUBLISHED
    side_by_side: bool = False
    choose: str = "test"
    baselines: bool = False
    name: str = "pretrained"
    seed: int = 0
    device: str = "auto"
    backend: str = "auto"
    precision: str = "fp32"
    encode_batch: int = 256
    threads: int = 0
    output: str | None = None
    csv: str = "evaluations/results.csv"
    scratch: FinetuneConfig = field(default_factory=lambda: FinetuneConfig(lr_encoder=0.1))
