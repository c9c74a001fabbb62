"""The picture: time and peak memory against the number of pixels."""

from collections.abc import Sequence

from dev.benchmark.contenders import CONTENDERS
from dev.benchmark.run import MEASURED, Measurement
from matplotlib.figure import Figure

_DASHES = {"fp32": "-", "bf16": "--", "fp16": ":"}


def draw(rows: Sequence[Measurement], title: str) -> Figure:
    """Draw every mode that was measured, with a panel for time and one for memory."""
    modes = list(dict.fromkeys(row.mode for row in rows))
    figure = Figure(figsize=(15, 5.5 * len(modes)), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(len(modes), 2, squeeze=False)
    for mode, (time, memory) in zip(modes, panels, strict=True):
        of_mode = [row for row in rows if row.mode == mode]
        for contender in dict.fromkeys(row.contender for row in of_mode):
            points = [
                row for row in of_mode if row.contender == contender and row.status == MEASURED
            ]
            pixels = [row.size.height * row.size.width for row in points]
            name, _, dtype = contender.partition(":")
            style = dict(
                color=f"C{list(CONTENDERS).index(name) % 10}",
                linestyle=_DASHES[dtype or "fp32"],
                linewidth=2.5 if "xcit" in name else 1.2,
                marker="o",
                label=contender,
            )
            time.plot(pixels, [row.median for row in points], **style)
            memory.plot(pixels, [(row.peak_bytes or 0) / 1e6 for row in points], **style)
        sizes = {row.size.height * row.size.width: str(row.size) for row in of_mode}
        for panel, label in (time, "seconds"), (memory, "peak memory in MB"):
            panel.set(title=mode, ylabel=label, xlabel="image", xscale="log", yscale="log")
            panel.set_xticks(list(sizes), list(sizes.values()))
            panel.set_xticks([], minor=True)
            panel.grid(alpha=0.3)
            panel.legend()
    return figure
