"""The picture: time and peak memory against the number of pixels."""

from collections.abc import Sequence

from dev.benchmark.contenders import CONTENDERS
from dev.benchmark.run import MEASURED, Measurement
from matplotlib.figure import Figure

_DASHES = {"": "-", "bf16": "--", "fp16": ":"}


def draw(rows: Sequence[Measurement], title: str) -> Figure:
    """Draw every mode that was measured, with a panel for time and one for memory."""
    modes = list(dict.fromkeys(row.mode for row in rows))
    figure = Figure(figsize=(15, 5.5 * len(modes)), layout="constrained")
    figure.suptitle(title)
    for mode, (time, memory) in zip(
        modes, figure.subplots(len(modes), 2, squeeze=False), strict=True
    ):
        of_mode = [row for row in rows if row.mode == mode and row.status == MEASURED]
        sizes = {row.size.height * row.size.width: str(row.size) for row in of_mode}
        for contender in dict.fromkeys(row.contender for row in of_mode):
            points = [row for row in of_mode if row.contender == contender]
            pixels = [row.size.height * row.size.width for row in points]
            name, _, dtype = contender.partition(":")
            style = dict(
                color=f"C{list(CONTENDERS).index(name) % 10}",
                linestyle=_DASHES[dtype],
                linewidth=2.5 if "xcit" in name else 1.2,
                marker="o",
                label=contender,
            )
            time.plot(pixels, [row.median for row in points], **style)
            memory.plot(pixels, [(row.peak_bytes or 0) / 1e6 for row in points], **style)
        for panel, label in (time, "seconds"), (memory, "peak memory in MB"):
            panel.set(title=mode, ylabel=label, xscale="log", yscale="log")
            panel.set_xticks(list(sizes), list(sizes.values()))
            panel.set_xticks([], minor=True)
            panel.legend()
    return figure
