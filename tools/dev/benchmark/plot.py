"""The picture: time and peak memory against the number of pixels."""

from collections.abc import Sequence

from dev.benchmark.run import MEASURED, Measurement
from matplotlib.figure import Figure


def draw(rows: Sequence[Measurement], title: str) -> Figure:
    """Draw every mode that was measured, with a panel for time and one for memory."""
    modes = list(dict.fromkeys(row.mode for row in rows))
    figure = Figure(figsize=(15, 5.5 * len(modes)), layout="constrained")
    figure.suptitle(title)
    for mode, panels in zip(modes, figure.subplots(len(modes), 2, squeeze=False), strict=True):
        of_mode = [row for row in rows if row.mode == mode and row.status == MEASURED]
        sizes = {row.size.height * row.size.width: str(row.size) for row in of_mode}
        for contender in dict.fromkeys(row.contender for row in rows):  # a colour each
            points = [row for row in of_mode if row.contender == contender]
            pixels = [row.size.height * row.size.width for row in points]
            style = dict(linewidth=2.5 if "xcit" in contender else 1.2, marker="o", label=contender)
            panels[0].plot(pixels, [row.median for row in points], **style)
            panels[1].plot(
                pixels, [row.peak_bytes and row.peak_bytes / 1e6 for row in points], **style
            )
        for panel, label in zip(panels, ("seconds", "peak memory in MB"), strict=True):
            panel.set(title=mode, ylabel=label, xscale="log", yscale="log")
            panel.set_xticks(list(sizes), list(sizes.values()))
            panel.set_xticks([], minor=True)
            panel.legend()
    return figure
