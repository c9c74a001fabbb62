"""What was found, in Markdown and as a picture."""

import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from dev.benchmark.run import MEASURED, Measurement
from matplotlib.figure import Figure


def describe_machine(device: str) -> str:
    """Names of the hardware and of the software that matter for time."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = re.search(r"^model name\s*: (.+)$", info, re.MULTILINE)
    hardware = f"{name[1] if name else platform.machine()}, {os.cpu_count()} cores"
    if device == "cuda":
        hardware = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    return f"{hardware}, torch {torch.__version__}"


def markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with aligned columns."""
    rows = [[cell.replace("|", "/") for cell in row] for row in rows]  # what a message may contain
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    lines = [titles, ["-" * width for width in widths], *rows]
    return "\n".join(f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines)


def report(rows: Sequence[Measurement], references: Sequence[str]) -> str:
    """A table for each mode; numbers have their ratios to those of the references beside them.

    Args:
        rows: the measurements of one run.
        references: labels of contenders.
    """
    of_place = {(row.mode, row.size, row.contender): row for row in rows}

    def cell(row: Measurement, name: str, unit: float) -> str:
        value = getattr(row, name)
        if row.status != MEASURED or value is None:
            return "-"
        parts = [f"{value / unit:.4g}"]
        for reference in references:
            other = of_place.get((row.mode, row.size, reference))
            if other and other is not row and other.status == MEASURED and value:
                parts.append(f"{(getattr(other, name) or 0) / value:.2f}x")
        return " ".join(parts)

    parts = [
        "Medians, 1 MB = 10^6 bytes. Memory is the peak beyond weights and image, outputs "
        f"included. Ratios (above 1 is better) are to {' and to '.join(references)}."
    ]
    for mode in dict.fromkeys(row.mode for row in rows):
        lines = []
        for row in (row for row in rows if row.mode == mode):
            numbers = [cell(row, "median", 1e-3), cell(row, "peak_bytes", 1e6)]
            lines.append([str(row.size), row.contender, *numbers, row.status])
        table = markdown_table(["size", "contender", "ms", "peak MB", "status"], lines)
        parts += [f"## {mode.capitalize()}", table]
    return "\n\n".join(parts) + "\n"


def draw(rows: Sequence[Measurement], title: str) -> Figure:
    """Draw time and peak memory against the number of pixels, two panels for each mode."""
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
