"""The nearest sequences of a store to recordings: exact, from a file that is made once."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from browser import in_browser

from aimclr_fast import load_encoder
from aimclr_fast.data import open_store, resolve_store, write_store
from aimclr_fast.inference.index import FeatureIndex, IndexFileError, make_index, open_index
from aimclr_fast.search import command_line


def search(*arguments: object) -> None:
    command_line([*map(str, arguments), "--encoder=ui_prmd", "--device=cpu"])


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    full = resolve_store("ui_prmd_unaligned")
    rows = np.arange(0, len(full), 41)
    store = write_store(
        folder / "store",
        full.as_tensor(rows).numpy(),
        {name: column[rows] for name, column in full.samples.items()},
        layout=full.layout,
        classes=full.class_names,
        preprocessing=full.preprocessing,
    )
    (folder / "in").mkdir()
    for row in (3, 20):
        x = store.as_tensor(row)[..., 0].permute(1, 2, 0).numpy()
        np.save(folder / "in" / f"{row:02}.npy", x)
    return folder


def rows_of(folder) -> list[dict[str, str]]:
    with (folder / "neighbors.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_nearest_sequences_are_named_and_drawn(stores, tmp_path, capsys):
    search(stores / "store", stores / "in", "--k=3", f"--out={tmp_path}")
    store, rows = open_store(stores / "store"), rows_of(tmp_path)
    assert [(row["query"], row["rank"]) for row in rows] == [
        (query, str(rank)) for query in ("03", "20") for rank in (1, 2, 3)
    ]
    names = store.samples["name"].tolist()
    assert rows[0]["name"] == names[3]
    assert rows[3]["name"] == names[20]
    assert rows[0]["label"] == store.class_names[store.labels[3]]
    distances = [float(row["distance"]) for row in rows]
    assert distances[:3] == sorted(distances[:3])
    assert "encoding 49 sequences" in capsys.readouterr().out
    titles = in_browser(
        tmp_path / "neighbors.html",
        'return [...document.querySelectorAll("figcaption")].map((one) => one.textContent);',
    )
    assert [title.split(" (")[0].rsplit(" ", 1)[0] for title in titles if title[0] != "n"] == [
        "03",
        "20",
    ]
    assert sum(title.startswith("neighbor ") for title in titles) == 6


def test_an_index_is_made_once_and_checked(stores, tmp_path, capsys):
    index = tmp_path / "features.npy"
    search(stores / "store", stores / "in", f"--out={tmp_path / 'a'}", f"--index={index}")
    before, first = index.stat().st_mtime_ns, rows_of(tmp_path / "a")
    capsys.readouterr()
    search(stores / "store", stores / "in", f"--out={tmp_path / 'b'}", f"--index={index}")
    assert index.stat().st_mtime_ns == before
    assert rows_of(tmp_path / "b") == first
    assert "encoding" not in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        search("ui_prmd", stores / "in", f"--out={tmp_path / 'c'}", f"--index={index}")
    assert caught.value.code == 2
    assert "is of another store" in capsys.readouterr().err
    for store, rows in (("ui_prmd", 2000), (stores / "store", 49)):  # one that nobody named
        search(store, stores / "in", f"--out={tmp_path / 'd'}")
        said = capsys.readouterr().out
        assert f"encoding {rows:,} sequences" in said
    assert "made anew: " in said
    assert "is of another store" in said


def test_queries_are_people_and_windows(stores, tmp_path):
    x = np.load(stores / "in" / "03.npy")
    np.save(tmp_path / "two.npy", np.stack([x, x[::-1]]))
    search(
        stores / "store", tmp_path / "two.npy", "--k=1", f"--out={tmp_path}", "--rate=10",
        "--window=2.5s",
    )  # fmt: skip
    assert [row["query"] for row in rows_of(tmp_path)] == [
        f"two person {person} {time} s" for person in (1, 2) for time in ("0-2.5", "2.5-5")
    ]


def test_a_store_that_was_prepared_otherwise_is_told(stores, tmp_path, capsys):
    store = open_store(stores / "store")
    short = store.as_tensor().numpy()[:, :, ::5]
    write_store(
        tmp_path / "short", short, {"name": store.samples["name"]}, layout=store.layout,
        preprocessing=store.preprocessing and replace(store.preprocessing, frames=10),
    )  # fmt: skip
    search(tmp_path / "short", stores / "in", f"--out={tmp_path / 'out'}")
    said = capsys.readouterr().out
    assert "prepared otherwise than the encoder's training data (frames 10, not 50): " in said
    search(stores / "store", stores / "in", f"--out={tmp_path / 'out2'}")
    assert "prepared otherwise" not in capsys.readouterr().out


def test_damaged_files_are_refused(stores, tmp_path):
    store, encoder = open_store(stores / "store"), load_encoder("ui_prmd", device="cpu")
    file = tmp_path / "x.npy"
    made = make_index(store, encoder, file, encoder_sha256="0")
    again = open_index(file, store, encoder, encoder_sha256="0")
    np.testing.assert_array_equal(again.features, made.features)
    kept = np.array(made.features)
    del made, again  # a mapped file must not be cut
    with pytest.raises(IndexFileError, match="is of another encoder"):
        open_index(file, store, encoder, encoder_sha256="1")
    content = file.read_bytes()
    file.write_bytes(content[:-100])
    with pytest.raises(IndexFileError, match="not an index that can be read"):
        open_index(file, store, encoder, encoder_sha256="0")
    np.save(file, kept[:-1])
    with pytest.raises(IndexFileError, match="damaged"):
        open_index(file, store, encoder, encoder_sha256="0")
    file.with_suffix(".json").unlink()
    with pytest.raises(IndexFileError, match="not an index that can be read"):
        open_index(file, store, encoder, encoder_sha256="0")


@pytest.mark.parametrize("count", [1, 7, 65_536, 70_001])
def test_every_row_is_compared(count):
    random = np.random.default_rng(count)
    features = random.standard_normal((count, 5)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    queries = torch.from_numpy(random.standard_normal((3, 5)).astype(np.float32))
    k = min(4, count)
    distances, rows = FeatureIndex(features, {}).nearest(queries, k)
    cosine = torch.nn.functional.normalize(queries, dim=1) @ torch.from_numpy(features).T
    expected = cosine.topk(k, dim=1)
    torch.testing.assert_close(1 - distances, expected.values)
    torch.testing.assert_close(cosine.gather(1, rows), expected.values)
    for wrong in (0, count + 1):
        with pytest.raises(ValueError, match="k must lie in"):
            FeatureIndex(features, {}).nearest(queries, wrong)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["store", "in", "--k=50"], "--k 50: must be from 1 to 49"),
        (["store", "in", "--index=x.csv"], "must end in .npy"),
        (["store", "nothing"], "nothing"),
        (["nothing", "in"], "neither an embedded data set"),
    ],
)
def test_what_cannot_be_searched_is_one_line(arguments, message, stores, monkeypatch, capsys):
    monkeypatch.chdir(stores)
    with pytest.raises(SystemExit) as caught:
        search(*arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
