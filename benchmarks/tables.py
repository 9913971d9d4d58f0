"""Put measured results into Markdown: every table between markers is made from a CSV file.

    python benchmarks/tables.py            # rewrite the pages that have some
    python benchmarks/tables.py --check    # fail if a table is not what its file says
    python benchmarks/tables.py --show X   # print all tables of benchmarks/results/X.csv

A table stands between <!-- table:RESULTS/OP --> and <!-- /table -->, for OP of
benchmarks/results/RESULTS.csv; OP may be followed by :PRECISION, as in h100/eadm_pool:bf16, and is
"limits" for what the hardware reached. Of what is predicted or counted without a GPU there are
those named in PREDICTIONS.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import results
from results import BASELINE, BF16, FLOOR, LIMITS

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
PAGES = [ROOT / "README.md", BENCHMARKS / "README.md", BENCHMARKS / "baseline" / "README.md"]
TABLE = re.compile(r"(<!-- table:(\S+) -->\n)(.*?)(<!-- /table -->)", re.DOTALL)
MARKER = "<!-- table:"
Row = dict[str, str]
Rows = list[Row]


class TableError(ValueError):
    """A marker names what there is no result for, or is not closed."""


def render(text: str, folder: Path = results.FOLDER) -> str:
    """`text` with every table between markers made anew."""
    found = len(TABLE.findall(text))
    if found != text.count(MARKER):
        raise TableError(f"{text.count(MARKER)} tables begin, {found} of them are well formed")
    return TABLE.sub(lambda match: match[1] + table(match[2], folder) + match[4], text)


def table(name: str, folder: Path = results.FOLDER) -> str:
    """The Markdown of RESULTS/OP or RESULTS/OP:PRECISION, with a line on the machine, or of one of
    `PREDICTIONS`.
    """
    if name in PREDICTIONS:
        return "\n".join([*PREDICTIONS[name](folder), ""])
    stem, _, rest = name.partition("/")
    op, _, precision = rest.partition(":")
    path = folder / f"{stem}.csv"
    if not path.exists():
        raise TableError(f"table {name}: there is no {path.name} in {folder.name}/")
    rows = [row for row in results.read(path) if row["op"] == op]
    if op != LIMITS and precision:
        rows = [row for row in rows if row["precision"] == precision]
    if not rows:
        raise TableError(f"table {name}: {path.name} has no such rows")
    lines = limits_table(rows) if op == LIMITS else times_table(rows)
    return "\n".join([*lines, "", machine(rows[0], rows), ""])


def times_table(rows: Rows) -> list[str]:
    """Cases down, providers across; then what the fastest of this package's gains."""
    names = [row["provider"] for row in rows]
    if any(row["baseline_ms"] for row in rows):  # it may have no row yet: a run was cut short
        names.append(BASELINE)
    providers = ordered(names)
    precisions = ordered(row["precision"] for row in rows)
    keys = ordered((row["precision"], row["case"]) for row in rows)
    keys.sort(key=lambda key: (precisions.index(key[0]), batch_size(key[1])))
    compared = any(row["package"] == "1" for row in rows)
    header = ["case", *providers]
    if compared:
        header += ["speed-up", "of the limit", "extra memory"]
    lines = [markdown(header), markdown(["---", *["---:"] * (len(header) - 1)])]
    for key in keys:
        by = {r["provider"]: r for r in rows if (r["precision"], r["case"]) == key}
        times = [milliseconds(by.get(provider)) for provider in providers]
        timed = [row for row in by.values() if row["package"] == "1" and row["ms"]]
        best = min(timed, key=lambda row: float(row["ms"]), default=None)
        if best is not None and best["baseline_ms"]:  # timed in turns with it
            times[providers.index(BASELINE)] = f"{float(best['baseline_ms']):.3g}"
        if best is not None:
            place = providers.index(best["provider"])
            times[place] = f"**{times[place]}**"
        sizes = key[1].replace("-", ", ")
        if len(precisions) > 1:
            sizes += f", {key[0]}"
        wide = None if best is None else by.get(best["provider"].removesuffix(BF16))
        gained = gains(best, by.get(BASELINE), wide) if compared else []
        lines.append(markdown([sizes, *times, *gained]))
    return lines


def gains(best: Row | None, baseline: Row | None, wide: Row | None) -> list[str]:
    """Speed-up over the baseline, share of the limit, and memories: the baseline's, where the best
    computes in bf16 that of the same in fp32, and its own.
    """
    if best is None:
        return ["", "", ""]
    speedup = f"{float(best['speedup']):.3g}×" if best["speedup"] else ""
    share = f"{100 * float(best['share']):.0f} %" if best["share"] else ""
    rows = [baseline, *([] if wide is best else [wide]), best]
    memories = [found for row in rows if row is not None and (found := megabytes(row))]
    return [speedup, share, " → ".join(memories)]


def limits_table(rows: Rows) -> list[str]:
    lines = [markdown(["limit", "measured"]), markdown(["---", "---:"])]
    for row in rows:
        rate = float(row["rate"])
        if row["case"] == "copy":
            lines.append(
                markdown([f"{row['device']}: copy, read + written", f"{rate / 1e9:,.0f} GB/s"])
            )
        else:
            what = f"{row['device']}: matrix product, {row['precision']}"
            lines.append(markdown([what, f"{rate / 1e12:.3g} TFLOP/s"]))
    return lines


def machine(row: dict[str, str], rows: Rows) -> str:
    where = row["gpu"] if row["device"] == "cuda" else row["cpu"]
    # The CPU's own work is part of those.
    host = f", {row['cpu']}" if row["device"] == "cuda" else f", {row['threads']} threads"
    versions = f"torch {row['torch']}"
    if row["triton"] and any(each["provider"] == "triton" for each in rows):
        versions += f", Triton {row['triton']}"
    return (
        f"Medians in milliseconds on {where}{host}; {versions}, Python {row['python']}, "
        f"commit {row['commit']}, {row['date']}."
        if row["op"] != LIMITS
        else f"{where}{host}; {versions}, commit {row['commit']}, {row['date']}."
    )


def milliseconds(row: dict[str, str] | None) -> str:
    if row is None:
        return ""
    return f"{float(row['ms']):.3g}" if row["ms"] else row["status"]


def megabytes(row: dict[str, str]) -> str:
    if not row["extra_mb"]:
        return ""
    value = float(row["extra_mb"])
    return f"{value / 1000:.3g} GB" if value >= 1000 else f"{value:.3g} MB"


def markdown(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def batch_size(case: str) -> int:
    """The number after N, by which cases are sorted: they are measured in another order."""
    found = re.match(r"N(\d+)", case)
    return int(found[1]) if found else 0


def ordered(values) -> list:
    """Each once, in the order of appearance; the baseline first and the floor last."""
    places = {BASELINE: 0, FLOOR: 2}
    return sorted(dict.fromkeys(values), key=lambda value: places.get(value, 1))


# --- Predictions: no GPU is needed, so that they are whole files of one command ------------------


def predictions(names: list[str], lines: Iterable[Sequence[str]], about: str = "") -> list[str]:
    """Lines of cells under a header whose first column is text; below, what they are of."""
    rule = ["---", *["---:"] * (len(names) - 1)]
    return [
        *(markdown(list(line)) for line in (names, rule, *lines)),
        *(["", about] if about else []),
    ]


def walked(folder: Path) -> list[str]:
    """Launches and bytes of a step, by step_walk.py: of both encoders, before and now."""
    lines = []
    for encoder in ("default", "triton"):
        for stem, when in (("step_walk_before", " before"), ("step_walk", "")):
            rows = [r for r in results.read(folder / f"{stem}.csv") if r["encoder"] == encoder]
            launches, read, written = (
                sum(int(row[name]) for row in rows)
                for name in ("launches", "bytes_read", "bytes_written")
            )
            lines.append(
                [
                    encoder_cell(encoder) + when,
                    f"{launches:,}",
                    f"{read / 1e9:.1f}",
                    f"{written / 1e9:.1f}",
                ]
            )
    return predictions(["encoder", "launches", "read", "written"], lines)


def predicted_steps(folder: Path) -> list[tuple[str, Rows]]:
    """The kernels of each step that predict.py has predicted for an H100."""
    found = []
    for encoder, stem, when in (
        ("default", "predict_h100", ""),
        ("triton", "predict_h100_before", " before"),
        ("triton", "predict_h100", ""),
    ):
        rows = [r for r in results.read(folder / f"{stem}.csv") if r["encoder"] == encoder]
        found.append((encoder_cell(encoder) + when, rows))
    return found


def predicted(folder: Path) -> list[str]:
    """Kernels, bytes and milliseconds of those steps."""
    names = ["encoder", "kernels", "GB", "ms", "ms with reuse", "forward", "backward"]
    lines = []
    for name, rows in predicted_steps(folder):
        moved = total(rows, "bytes_read") + total(rows, "bytes_written")
        phases = (
            total([row for row in rows if row["phase"].startswith(phase)], "us")
            for phase in ("forward", "backward")
        )
        times = (total(rows, "us"), total(rows, "reuse_us"), *phases)
        lines.append(
            [
                name,
                f"{total(rows):,.0f}",
                f"{moved / 1e9:.1f}",
                *(f"{us / 1e3:.1f}" for us in times),
            ]
        )
    return predictions(names, lines, made(predicted_steps(folder)[-1][1]))


def bounds(folder: Path) -> list[str]:
    """Milliseconds of the kernels that each limit bounds."""
    limits = {"memory": "memory", "cache": "cache", "products": "tensor", "instructions": "issue"}
    lines = []
    for name, rows in predicted_steps(folder):
        of = ([row for row in rows if row["bound"] == limit] for limit in limits.values())
        lines.append([name, *(f"{total(each, 'us') / 1e3:.1f}" if each else "" for each in of)])
    return predictions(["encoder", *limits], lines)


def inference(folder: Path) -> list[str]:
    """Kernels of a forward pass, and sequences a second, by predict_inference.py."""
    rows = results.read(folder / "predict_inference.csv")
    cases = [(precision, n) for precision in ("bf16", "float32") for n in ("1", "4096")]
    names = ["encoder", "kernels, bf16", *(f"{p}, batch {int(n):,}" for p, n in cases)]
    lines = []
    for encoder in ordered(row["encoder"] for row in rows):
        by = {(r["precision"], r["sequences"]): r for r in rows if r["encoder"] == encoder}
        rates = (f"{int(by[case]['per_second']):,}" for case in cases)
        lines.append([encoder_cell(encoder), by["bf16", "1"]["kernels"], *rates])
    return predictions(names, lines, made(rows))


def total(rows: Rows, column: str = "") -> float:
    """A column over all kernels, or their number."""
    return sum(int(row["count"]) * (float(row[column]) if column else 1) for row in rows)


def encoder_cell(encoder: str) -> str:
    return encoder if encoder == "default" else f"`{encoder}`"


def made(rows: Rows) -> str:
    return f"Commit {rows[0]['commit']}; {rows[0]['versions']}."


PREDICTIONS = {
    "step_walk": walked,
    "predict_h100": predicted,
    "predict_h100/bounds": bounds,
    "predict_inference": inference,
}


def show(name: str) -> None:
    path = Path(name) if name.endswith(".csv") else results.FOLDER / f"{name}.csv"
    for op in ordered(row["op"] for row in results.read(path)):
        try:
            text = table(f"{path.stem}/{op}", path.parent)
        except (KeyError, ValueError) as error:  # the other tables are printed all the same
            text = f"{path}: {error!r}\n"
        print(f"\n{op}\n\n{text}", end="")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, default=PAGES)
    parser.add_argument("--check", action="store_true", help="write nothing, fail on a difference")
    parser.add_argument("--show", metavar="X", help="print the tables of a file, a name or a path")
    options = parser.parse_args()
    if options.show:
        show(options.show)
        return 0
    stale = []
    for path in options.files:
        text = path.read_text(encoding="utf-8")
        try:
            fresh = render(text)
        except TableError as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 1
        if fresh != text:
            stale.append(path)
            if not options.check:
                temporary = path.with_name(f"{path.name}.tmp")
                temporary.write_text(fresh, encoding="utf-8")
                temporary.replace(path)
    for path in stale:
        print(
            f"{path}: " + ("out of date, run benchmarks/tables.py" if options.check else "written")
        )
    return int(bool(stale) and options.check)


if __name__ == "__main__":
    sys.exit(main())
