"""What every evaluation takes from the command line, besides its protocol's own options."""

from __future__ import annotations

from dataclasses import dataclass, field

from .finetuning import FinetuneConfig

CHOICES = ("test", "val")


@dataclass(frozen=True)
class EvaluationOptions:
    """What every evaluation takes.

    Attributes:
        data: folder of a store, or the name of an embedded one.
        protocol: which samples train and which test, as declared by the store.
        stream: of the checkpoint's encoders, joint, motion or bone; all takes each that it has.
        choose: what the best epoch is chosen on: test, as published, or val, the split's validation
            samples. With val, k, learning rates of a sweep and searched weights are chosen on them
            too, instead of on folds of the training samples, and results are of the test samples.
        baselines: evaluate also what a pretrained encoder has to beat.
        name: what the pretrained encoder is called in results and tables.
        seed: of classifiers, draws and clusters.
        device: cpu, cuda, cuda:N, or auto for a GPU where there is one.
        backend: of the ops; auto picks the fastest that can run.
        encode_batch: sequences encoded at once.
        threads: CPU threads; 0 leaves it to torch.
        output: folder for the results; evaluations/PROTOCOL-STORE-SPLIT-TIME when left out.
        csv: file that every evaluation adds its numbers to.
        scratch: recipe of the supervised baseline; finetune and semi use their own, with the
            encoder at the classifier's learning rate.
    """

    data: str = "ui_prmd"
    protocol: str = "xsub"
    stream: str = "all"
    choose: str = "test"
    baselines: bool = False
    name: str = "pretrained"
    seed: int = 0
    device: str = "auto"
    backend: str = "auto"
    encode_batch: int = 256
    threads: int = 0
    output: str | None = None
    csv: str = "evaluations/results.csv"
    scratch: FinetuneConfig = field(default_factory=lambda: FinetuneConfig(lr_encoder=0.1))
