"""The results of the walk over mm's configs, as a document."""

from collections.abc import Callable, Mapping, Sequence

from dev.swap_coverage.families import CHECKED, DECLINED, FAILED, FamilyOutcome

from xcit_dense.mm.config_tree import PACKAGES

Stacks = Mapping[str, Sequence[FamilyOutcome]]

_PREAMBLE = """# Which of mm's own models take XCiT

Written by `tools/check_swap_coverage.py`, not by hand: every config that the installed mmdet and
mmseg bring along is rewritten by the swap, and of each family (a folder of configs) the swapped
model of one config is built with XCiT-N12/16, trained for a step and run once, on random images.

- **checked**: the swapped model learns and predicts, every weight of it gets a gradient, and the
  strides and widths that the config declares are those of the maps.
- **declined**: there is a reason, and it is given. "The same with its own backbone" is what the
  config does before any swap, in this environment.
- **failed**: it should have worked.

A family has no backbone to swap where that is the whole model (UNet, BiSeNet, ...), or where there
is none; the shares are of the others.
"""


def coverage_document(stacks: Stacks) -> str:
    """Markdown: a summary and a table for each package.

    Args:
        stacks: the outcomes by the name of the environment in which they were found.
    """
    parts = [_PREAMBLE, _summary(stacks)]
    for package in PACKAGES:
        parts += [f"## {package}\n", _table(package, stacks)]
    return "\n".join(parts)


def _summary(stacks: Stacks) -> str:
    rows = [
        "| | families | of these with a backbone to swap | checked | declined | failed "
        "| configs rewritten | declined |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for stack, outcomes in stacks.items():
        for package in PACKAGES:
            mine = [outcome for outcome in outcomes if outcome.package == package]
            results = [outcome.result for outcome in mine if outcome.has_backbone]
            checked = results.count(CHECKED)
            cells = [
                f"{package}, {stack}",
                len(mine),
                len(results),
                f"{checked} ({checked / max(len(results), 1):.0%})",
                results.count(DECLINED),
                results.count(FAILED),
                sum(outcome.rewritten for outcome in mine),
                sum(sum(outcome.declined.values()) for outcome in mine),
            ]
            rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows) + "\n"


def _table(package: str, stacks: Stacks) -> str:
    by_family: dict[str, dict[str, FamilyOutcome]] = {}
    for stack, outcomes in stacks.items():
        for outcome in outcomes:
            if outcome.package == package:
                by_family.setdefault(outcome.family, {})[stack] = outcome
    rows = ["| family | configs rewritten | model | result |", "|---|---|---|---|"]
    for family, outcomes in sorted(by_family.items()):
        rows.append(
            f"| {family} | {_on_each(outcomes, _count)} | {_on_each(outcomes, _model)} | "
            f"{_on_each(outcomes, _result)} |"
        )
    return "\n".join(rows) + "\n"


def _on_each(
    outcomes: Mapping[str, FamilyOutcome], describe: Callable[[FamilyOutcome], str]
) -> str:
    """One text if it is the same on every stack, else one for each."""
    texts = {stack: describe(outcome) for stack, outcome in outcomes.items()}
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return "; ".join(f"{stack}: {text}" for stack, text in texts.items())


def _count(outcome: FamilyOutcome) -> str:
    total = outcome.rewritten + sum(outcome.declined.values()) + len(outcome.failed)
    return f"{outcome.rewritten} of {total}"


def _model(outcome: FamilyOutcome) -> str:
    return outcome.model


def _result(outcome: FamilyOutcome) -> str:
    reason = outcome.reason.replace("|", "/")
    return f"{outcome.result}: {reason}" if reason else outcome.result
