"""A picture of how many times slower the peers are than mpcc."""

from __future__ import annotations

from pathlib import Path

from benchmarks import compare
from benchmarks.cases import CASES
from benchmarks.compare import TITLES
from benchmarks.results import Results

__all__ = ["plot"]

_COLOURS = {"spu": "#4477aa", "mp-spdz": "#cc6677", "tf-encrypted": "#228833", "crypten": "#ccbb44"}


def plot(results: Results, path: Path) -> None:
    """Bars per case and peer on a logarithmic axis; hollow ones are published figures, scaled.

    Args:
        results: what to draw; cases without a peer are left out.
        path: .svg or .png.
    """
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "mpcc"
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch
    from matplotlib.ticker import FuncFormatter

    cases = []
    for case in CASES:
        row, figures = compare.ours(results, case), compare.figures(results, case)
        if row is not None and figures:
            cases.append((CASES[case].title, {p: (f, row.median) for p, f in figures.items()}))
    figure, axes = plt.subplots(figsize=(7.2, 1.2 + 0.62 * max(1, len(cases))))
    height = 0.8 / len(TITLES)
    for i, (_, found) in enumerate(cases):
        for j, peer in enumerate(TITLES):
            if peer not in found:
                continue
            their, mine = found[peer]
            times = their.seconds / mine
            at = i - 0.4 + (j + 0.5) * height
            colour = _COLOURS[peer]
            axes.barh(
                at,
                times - 1,
                height * 0.9,
                left=1,
                facecolor=colour if their.measured else "none",
                edgecolor=colour,
            )
            axes.annotate(
                f"{times:.3g}",
                (max(times, 1.0), at),
                textcoords="offset points",
                xytext=(3, 0),
                va="center",
                fontsize=7,
            )
    axes.set_yticks(range(len(cases)), [title for title, _ in cases])
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="times slower than mpcc (left of 1: faster)")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.axvline(1, color="black", linewidth=0.8)
    axes.axvline(10, color="black", linewidth=0.5, linestyle=":")
    axes.margins(x=0.12)
    axes.grid(True, axis="x", alpha=0.3)
    legend = [Patch(facecolor=_COLOURS[p], label=title) for p, title in TITLES.items()]
    legend.append(Patch(facecolor="none", edgecolor="grey", label="published, scaled"))
    axes.legend(
        handles=legend, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(legend), fontsize=8,
        frameon=False, columnspacing=1.0, handlelength=1.4,
    )  # fmt: skip
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
