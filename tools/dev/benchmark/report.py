"""The tables, in Markdown."""

from collections.abc import Callable

from dev.benchmark.markdown import markdown_table
from dev.benchmark.names import INFERENCE, MODES, TRAINING
from dev.benchmark.results import Measurement, Results

_TITLES = {INFERENCE: "Inference", TRAINING: "Training step (forward and backward)"}
_UNKNOWN = "-"

Column = tuple[str, Callable[[Measurement], str]]


def report(results: Results) -> str:
    """Everything that a run has found, as Markdown."""
    parts = [_header(results)]
    for mode in MODES:
        if measurements := results.of_mode(mode):
            images = measurements[0].batch_size
            title = f"## {_TITLES[mode]}, {images} image{'s' if images > 1 else ''}"
            parts.append(f"{title}\n\n{_mode_table(results, mode)}")
    if growth := _growth_rows(results):
        parts.append(f"## Growth\n\n{_growth_table(growth)}")
    return "\n\n".join(parts) + "\n"


def ratio(reference: float | None, value: float | None, better: str, worse: str) -> str:
    """How many times better a value is than the reference; less is better.

    >>> ratio(3.0, 2.0, "faster", "slower")
    '1.50x faster'
    >>> ratio(2.0, 3.0, "faster", "slower")
    '1.50x slower'
    """
    if not reference or not value:
        return _UNKNOWN
    if value <= reference:
        return f"{reference / value:.2f}x {better}"
    return f"{value / reference:.2f}x {worse}"


def _header(results: Results) -> str:
    lines = [f"{name}: {value}" for name, value in (results.machine | results.settings).items()]
    for dtype in results.gemm_rates:
        if rates := results.gemm_rate(dtype):
            lines.append(
                f"matrix products in {dtype}: {rates.matmul / 1e9:.0f} GFLOP/s by torch.mm, "
                f"{rates.convolution / 1e9:.0f} GFLOP/s by a 1x1 convolution; shares are of the "
                "faster"
            )
    if results.bandwidth:
        lines.append(f"memory bandwidth: {results.bandwidth / 1e9:.0f} GB/s")
    lines.append(f"ratios: to {results.reference}; 1 MB = 10^6 bytes")
    lines += [
        f"peak memory: {method}"
        for method in dict.fromkeys(m.peak_method for m in results.measurements if m.peak_method)
    ]
    lines.append(f"made by: `{results.command}`")
    return "# Time and memory\n\n" + "\n".join(f"- {line}" for line in lines)


def _mode_table(results: Results, mode: str) -> str:
    measurements = results.of_mode(mode)
    columns = _columns(results, mode, any(m.difference is not None for m in measurements))
    rows = []
    for measurement in measurements:
        size = f"{measurement.height}x{measurement.width}"
        if measurement.measured:
            cells = [cell(measurement) for _, cell in columns]
        else:
            cells = [measurement.status] + [""] * (len(columns) - 1)
        rows.append([size, measurement.contender, *cells])
    return markdown_table(["size", "contender", *(title for title, _ in columns)], rows)


def _columns(results: Results, mode: str, with_difference: bool) -> list[Column]:
    def against(field: str, better: str, worse: str) -> Callable[[Measurement], str]:
        def cell(measurement: Measurement) -> str:
            reference = results.reference_of(measurement)
            if reference is measurement:
                return "reference"
            value = getattr(measurement, field)
            return ratio(reference and getattr(reference, field), value, better, worse)

        return cell

    columns: list[Column] = [
        ("median ms", lambda m: _digits(1e3 * m.median_seconds)),
        ("time", against("median_seconds", "faster", "slower")),
        ("peak MB", lambda m: _megabytes(m.peak_bytes)),
        ("memory", against("peak_bytes", "less", "more")),
    ]
    if mode == TRAINING:
        columns += [
            ("kept for backward MB", lambda m: _megabytes(m.kept_bytes)),
            ("kept", against("kept_bytes", "less", "more")),
        ]
    columns += [
        ("outputs MB", lambda m: _megabytes(m.output_bytes)),
        ("GFLOP", lambda m: _UNKNOWN if m.flops is None else _digits(m.flops / 1e9)),
        ("share of limit", lambda m: _share(results, m)),
    ]
    if with_difference:
        columns.append(("difference from xcit_direct", lambda m: _difference(m.difference)))
    return columns


def _growth_rows(results: Results) -> list[list[str]]:
    """A row for each contender; none where no contender ran on two large sizes."""
    rows = []
    known = False
    for mode in MODES:
        for contender in dict.fromkeys(m.contender for m in results.of_mode(mode)):
            exponents = results.growth(mode, contender)
            known = known or any(power is not None for power in exponents)
            cells = [_UNKNOWN if power is None else f"{power:.2f}" for power in exponents]
            rows.append([mode, contender, *cells])
    return rows if known else []


def _growth_table(rows: list[list[str]]) -> str:
    table = markdown_table(["mode", "contender", "time", "peak memory"], rows)
    return (
        "Power of the number of pixels that time and memory follow from 512x512 on: 1 is linear, "
        f"2 quadratic.\n\n{table}"
    )


def _share(results: Results, measurement: Measurement) -> str:
    rates = results.gemm_rate(measurement.dtype)
    if not rates or not measurement.flops:
        return _UNKNOWN
    return f"{measurement.flops / measurement.median_seconds / rates.fastest:.0%}"


def _difference(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.1e}"


def _megabytes(size: int | None) -> str:
    return _UNKNOWN if size is None else _digits(size / 1e6)


def _digits(value: float) -> str:
    """Three digits that count, and never an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
