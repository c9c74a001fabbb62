"""How many of mm's own configs can be swapped: every one is tried."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from xcit_dense.doctor import Trial, diagnose
from xcit_dense.mm.config_tree import type_name
from xcit_dense.swap.config_difference import difference
from xcit_dense.swap.config_source import configs_of
from xcit_dense.swap.swap import plan_swap
from xcit_dense.swap.swap_error import BoundBackboneError, SwapError

ARCH = "nano_12"
# folders that hold parts of configs, and no whole ones
_PARTS = ("_base_", "common")
# of whoever runs this, or of whoever built a package
_ABSOLUTE_FOLDERS = re.compile(r"(?<![\w.:/])/(?:[\w.+-]+/)+")

CHECKED, DECLINED, FAILED = "checked", "declined", "failed"


@dataclass
class FamilyOutcome:
    """What became of the configs of one folder.

    Attributes:
        package: ``mmdet`` or ``mmseg``.
        family: the folder.
        rewritten: number of configs that were rewritten.
        declined: number of configs declined, by reason.
        bound: how many of these have no backbone that another could take the place of.
        failed: what went wrong with configs that should have been rewritten, by config.
        result: ``checked``, ``declined`` or ``failed``: of the family as a whole.
        config: the config whose swapped model was built and run.
        model: what that is, in a few words.
        reason: why the family is declined, or what failed.
    """

    package: str
    family: str
    rewritten: int = 0
    declined: dict[str, int] = field(default_factory=dict)
    bound: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    result: str = DECLINED
    config: str = ""
    model: str = ""
    reason: str = ""

    @property
    def has_backbone(self) -> bool:
        """Whether any of its models has a backbone that another could take the place of."""
        return bool(self.rewritten or self.failed) or self.bound < sum(self.declined.values())


def families_of(package: str) -> dict[str, list[Path]]:
    """The configs that a package brings along, by folder."""
    root = configs_of(package)
    families: dict[str, list[Path]] = {}
    for path in sorted(root.glob("*/**/*.py")):
        inner = path.relative_to(root)
        if not set(_PARTS) & set(inner.parts):
            families.setdefault(inner.parts[0], []).append(path)
    return families


def try_family(package: str, family: str, paths: list[Path]) -> FamilyOutcome | None:
    """Rewrite every config of a family; build and run the swapped model of one of them.

    Where that can not be judged here, one of another architecture of the family is run.

    Returns:
        The outcome; None for a folder without models.
    """
    outcome = FamilyOutcome(package, family)
    swapped: dict[tuple, tuple[Path, Config, Config]] = {}
    for path in paths:
        _rewrite(path, outcome, swapped)
    if not outcome.rewritten and not outcome.declined and not outcome.failed:
        return None
    for path, old, new in swapped.values():
        _check(path, old, new, outcome)
        if outcome.result != DECLINED:
            break
    if not swapped:
        outcome.reason = "; ".join(outcome.declined)
    if outcome.failed:
        outcome.result, outcome.reason = FAILED, "; ".join(outcome.failed.values())
    return outcome


def _rewrite(
    path: Path, outcome: FamilyOutcome, swapped: dict[tuple, tuple[Path, Config, Config]]
) -> None:
    try:
        old = Config.fromfile(path)
    except Exception as error:
        _decline(outcome, _unreadable(error))
        return
    if not isinstance(old.get("model"), dict) or "type" not in old.model:
        return  # a data set, or settings of a test
    try:
        new = plan_swap(old, ARCH).config
        changes = difference(old.to_dict(), new.to_dict())
        if Config._merge_a_into_b(changes, old.to_dict()) != new.to_dict():
            raise AssertionError("what is written is not what was swapped")
    except SwapError as error:
        outcome.bound += isinstance(error, BoundBackboneError)
        _decline(outcome, str(error))
    except Exception as error:
        outcome.failed[path.name] = f"{type(error).__name__}: {error}"
    else:
        outcome.rewritten += 1
        swapped.setdefault(_architecture(old.model), (path, old, new))


def _decline(outcome: FamilyOutcome, reason: str) -> None:
    outcome.declined[reason] = outcome.declined.get(reason, 0) + 1


def _unreadable(error: Exception) -> str:
    line = str(error).strip().splitlines()[0]
    for missing in ("mmpretrain", "pkg_resources"):
        if missing in str(error):
            return f"the config can not be read without {missing}"
    if isinstance(error, FileNotFoundError):
        return "the config can not be read: it inherits from a file that is not there"
    return f"the config can not be read: {type(error).__name__}: {line}"


def _architecture(model: dict) -> tuple[str, ...]:
    """What tells the architectures of a family apart."""
    parts = [model, model.get("neck"), model.get("decode_head"), model.get("bbox_head")]
    first = [part[0] if isinstance(part, (list, tuple)) else part for part in parts]
    return tuple(type_name(part) if isinstance(part, dict) else "" for part in first)


def _check(path: Path, old: Config, new: Config, outcome: FamilyOutcome) -> None:
    root = configs_of(outcome.package) / outcome.family
    outcome.config = path.relative_to(root).as_posix()
    diagnosis = diagnose(new)
    wrong = _what_is_wrong(diagnosis)
    before = _what_is_wrong(diagnose(old)) if wrong else []
    ours = [text for text in wrong if text not in before]
    outcome.reason = f"the same with its own backbone: {wrong[0]}" if wrong else ""
    if ours:
        outcome.result, outcome.reason = FAILED, ours[0]
    elif diagnosis.losses and diagnosis.flops is not None:
        outcome.result = CHECKED
        outcome.model = _in_words(diagnosis, new.model.get("decode_head"))


def _what_is_wrong(diagnosis: Trial) -> list[str]:
    return [
        _ABSOLUTE_FOLDERS.sub("", finding.text)
        for finding in diagnosis.findings
        if finding.is_wrong
    ]


def _in_words(diagnosis: Trial, decode_head: dict | list | None) -> str:
    last = decode_head[-1] if isinstance(decode_head, list) else decode_head
    head = f" with {type_name(last)}" if last else ""
    strides = ", ".join(str(stride) for stride, _ in diagnosis.levels)
    return f"{type(diagnosis.model).__name__}{head}, strides {strides}"
