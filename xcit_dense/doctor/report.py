"""A diagnosis as text."""

from xcit_dense.doctor.diagnosis import Diagnosis

MOST_LOSSES = 8


def report(diagnosis: Diagnosis) -> str:
    """What was found, several lines."""
    lines = []
    if diagnosis.model_name is not None:
        height, width = diagnosis.image_size
        lines.append(
            f"{diagnosis.model_name}: {diagnosis.parameters / 1e6:.2f} M parameters, "
            f"{diagnosis.backbone_parameters / 1e6:.2f} M of them in the backbone"
        )
        if diagnosis.flops is not None:
            lines.append(f"prediction of {height}x{width}: {diagnosis.flops / 1e9:.2f} GFLOPs")
    if diagnosis.levels is not None and diagnosis.levels.backbone:
        lines += _level_lines(diagnosis)
    if diagnosis.losses:
        lines.append(f"losses of a step: {_shortened(diagnosis.losses)}")
    lines += [str(finding) for finding in diagnosis.findings]
    lines.append(_verdict(diagnosis))
    return "\n".join(lines)


def _verdict(diagnosis: Diagnosis) -> str:
    if not diagnosis.is_healthy:
        return "not healthy"
    return "healthy" if diagnosis.is_tried else "no verdict"


def _shortened(losses: dict[str, float]) -> str:
    """Decoders of many layers have a loss for each."""
    first = [f"{name} {value:.3g}" for name, value in losses.items()][:MOST_LOSSES]
    more = len(losses) - len(first)
    return ", ".join(first) + (f" and {more} more" if more else "")


def _level_lines(diagnosis: Diagnosis) -> list[str]:
    table = diagnosis.levels
    lines = ["level  stride  channels  read by"]
    for index, (level, readers) in enumerate(zip(table.backbone, table.readers, strict=True)):
        who = ", ".join(readers) or "nobody"
        lines.append(f"{index:>5}  {level.stride:>6}  {level.channels:>8}  {who}")
    if table.neck is not None:
        strides = ", ".join(str(level.stride) for level in table.neck)
        lines.append(f"the neck makes maps of strides {strides}")
    return lines
