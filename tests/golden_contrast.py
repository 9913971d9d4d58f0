"""The authors' steps of AimCLR++, SkeleMixCLR and HiCLR as calls of queue_losses.

Names, sizes and constants come from the files, so that a file of the same kind can be dropped in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from conftest import GOLDEN, Golden
from torch import Tensor

from aimclr_fast.functional import Term


@dataclass
class Step:
    """One step: embeddings [S][R] of [N, D] before normalization, and what became of them.

    Attributes:
        weights: of each set's loss in the total, [R].
        losses: [S, R].
        logits: by stream and set, [N, 1+K] or, with one more negative, [N, 1+K+1].
        softmax: likewise.
        mask: positives by stream, [N, 1+K]; none where the file has none.
        gradients: of the total by the embeddings.
    """

    embeddings: list[list[Tensor]]
    keys: list[list[Tensor]]
    queues: list[Tensor]
    terms: list[Term]
    temperature: float
    topk: int
    votes: int
    weights: list[float]
    total: Tensor
    losses: Tensor
    gradients: list[list[Tensor]]
    logits: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    softmax: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    mask: list[Tensor] = field(default_factory=list)

    def rows(self, embeddings: list[list[Tensor]]) -> list[list[Tensor]]:
        return [[F.normalize(one, dim=1) for one in sets] for sets in embeddings]


def files(method: str) -> list[str]:
    """Names of the steps of a method."""
    found = sorted(path.stem for path in (GOLDEN / method).glob("step_*.npz"))
    assert found
    return found


def opened(method: str, name: str) -> tuple[Golden, Golden]:
    """A step and the state that it started from."""
    own = GOLDEN / method / "single_state.npz"
    state = "single_state" if name.startswith("step_single") and own.exists() else "state"
    return Golden(f"{method}/{name}"), Golden(f"{method}/{state}")


def named(step: Golden, name: str) -> Iterator[str]:
    yield from step.tree(f"{name}/")


def aimclrpp(name: str) -> Step:
    step, state = opened("aimclrpp", name)
    # "emb/joint/query" of three streams, "emb/query" of one.
    names = list(dict.fromkeys(name.split("/")[0] for name in named(step, "emb")))
    streams = [f"/{name}" for name in names] if "emb/query" not in step.names else [""]
    sets = ("query", "extreme")
    queues = ["queue" + s.replace("/", "_").replace("_joint", "") for s in streams]
    return Step(
        [[step[f"emb{s}/{name}"] for name in sets] for s in streams],
        [[step[f"keys{s}"]] for s in streams],
        [state[f"before/{queue}"].T.double() for queue in queues],
        [Term(mines=True), Term(teacher=0, mines=True)],
        float(step["temperature"]),
        int(step["topk"]),
        int(step["vote"]) if name.startswith("step_cross") else 0,
        [1.0, 1.0],
        step["loss"][0],
        step["loss"][1:].view(len(streams), 2),
        [[step[f"grad_emb{s}/{name}"] for name in sets] for s in streams],
        {(at, 0): step[f"logits{s}"] for at, s in enumerate(streams)},
        {(at, r): step[f"{name}{s}"] for at, s in enumerate(streams)
         for r, name in enumerate(("p_teacher", "p_extreme"))},
        [step[f"pos_mask{s}"] for s in streams],
    )  # fmt: skip


def hiclr(name: str) -> Step:
    step, state = opened("hiclr", name)
    sets = list(named(step, "emb"))  # of growing strength
    last = len(sets) - 1
    chain = [Term(teacher=at, mines=True) for at in range(last)]
    softmax = {(0, at + 1): step[f"p_{name}"] for at, name in enumerate(sets[1:])}
    for at, name in enumerate(sets[1:]):
        softmax.setdefault((0, at), step[f"p_teacher_{name}"])
        torch.testing.assert_close(softmax[0, at], step[f"p_teacher_{name}"], rtol=1e-12, atol=0)
    return Step(
        [[step[f"emb/{name}"] for name in sets]],
        [[step["keys"]]],
        [state["before/queue"].T.double()],
        [Term(mines=True), *chain],
        float(step["temperature"]),
        int(step["topk"]),
        0,
        [1.0] + [1.0 / last] * last,
        step["loss"][0],
        step["loss"][None, 1:],
        [[step[f"grad_emb/{name}"] for name in sets]],
        {(0, 0): step["logits"]},
        softmax,
        [step["pos_mask"]],
    )


def skelemixclr(name: str) -> Step:
    """Sets: query, then trimmed and truncated rows of each mix."""
    step, state = opened("skelemixclr", name)
    shifts = step["shift"].tolist()
    embeddings, gradients = ([step[f"{name}/query"]] for name in ("emb", "grad_emb"))
    keys, terms, losses = [step["keys"]], [Term(key=0)], [step["loss"][1]]
    logits = {(0, 0): step["logits"]}
    for mix, shift in enumerate(shifts):
        for side, name in enumerate(("trimmed", "truncated")):
            logits[0, len(terms)] = step[f"logits_{name}"][mix]
            own = 0 if side else len(keys)
            terms.append(Term(negative=len(terms) - 1 if side else len(terms) + 1, key=own))
            embeddings.append(step[f"emb/{name}"][mix])
            gradients.append(step[f"grad_emb/{name}"][mix])
            losses.append(step["loss_parts"][mix, side])
        keys.append(keys[0].roll(-shift, 0))
    return Step(
        [embeddings],
        [keys],
        [state["before/queue"].T.double()],
        terms,
        float(step["temperature"]),
        0,
        0,
        [1.0] + [0.5] * (2 * len(shifts)),
        step["loss"][0],
        torch.stack(losses)[None],
        [gradients],
        logits,
    )
