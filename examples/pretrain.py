"""AimCLR (Guo et al., AAAI 2022) in one page, on motion that comes with the package.

Run it with: python examples/pretrain.py --epochs 20
"""

import argparse
import copy

import torch
from torch.nn.functional import normalize

from aimclr_fast import data, functional, nn


def pretrain(sequences, layout, epochs, batch_size=64, width=16, queue_size=960, temperature=0.07):
    """An encoder of sequences [S, 3, T, V, M] in meters, and the loss of each epoch."""
    backbone = nn.STGCN(layout, channels=width, features=8 * width, dropout=0.0)
    query_encoder = nn.SkeletonEncoder(backbone, embedding=64)
    key_encoder = copy.deepcopy(query_encoder).requires_grad_(False)  # follows it slowly
    queue = normalize(torch.randn(queue_size, 64), dim=1)  # keys of earlier batches: negatives
    optimizer = torch.optim.SGD(query_encoder.parameters(), lr=0.03, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    augment, step, history = functional.AugmentConfig(), 0, []
    for epoch in range(epochs):
        topk = 1 if epoch >= epochs // 2 else 0  # mine neighbors once the features mean something
        total = 0.0
        order = torch.randperm(len(sequences))[: len(sequences) // batch_size * batch_size]
        batches = order.split(batch_size)
        for batch in batches:
            # Three views of each sequence: two of them normal, one extremely augmented.
            views = functional.skeleton_augment(
                sequences, batch, layout=layout, config=augment, seed=0, step=step
            )
            query = normalize(query_encoder(views.query), dim=1)
            # EADM: the extreme view once more, without the joints and frames that stand out.
            extreme, dropped = query_encoder.forward_with_drop(views.extreme, keep_prob=0.7)
            extreme, dropped = normalize(extreme, dim=1), normalize(dropped, dim=1)
            with torch.no_grad():
                both = key_encoder.parameters(), query_encoder.parameters()
                for slow, fast in zip(*both, strict=True):
                    slow.lerp_(fast, 0.01)
                key = normalize(key_encoder(views.key), dim=1)
            # InfoNCE pulls the query to its key, and to its nearest neighbors in the queue (NNM).
            # D3M pulls the extreme rows' distribution over the keys to the query's.
            losses = functional.queue_contrast(
                query, extreme, dropped, key, queue, temperature=temperature, topk=topk
            )
            optimizer.zero_grad()
            losses.loss.backward()
            optimizer.step()
            queue = torch.cat([key, queue])[:queue_size]  # the oldest keys leave
            total, step = total + losses.loss.item(), step + 1
        schedule.step()
        history.append(total / len(batches))
        print(f"epoch {epoch + 1}/{epochs}: loss {history[-1]:.3f}")
    return query_encoder.eval(), history


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    store = data.open_embedded("ui_prmd")
    train, test = data.split(store, "xsub")
    sequences = store.as_tensor()[:, :, ::3].contiguous()  # every third frame
    encoder, _ = pretrain(sequences[train], store.layout, parser.parse_args().epochs)
    with torch.inference_mode():  # nearest neighbor by cosine similarity
        known, asked = (normalize(encoder.features(sequences[i]), dim=1) for i in (train, test))
    nearest = train[(asked @ known.T).argmax(1).numpy()]
    correct = (store.labels[nearest] == store.labels[test]).mean()
    print(f"kNN-1 {100 * correct:.1f} % on the test subjects")
