"""Finding the checkpoint from which an interrupted run goes on."""

import os
import re
from pathlib import Path

from xcit_dense.errors import UserError
from xcit_dense.weights.safe_loading import load_local_checkpoint

NAME_OF_RECORD = "last_checkpoint"
_NUMBERED = re.compile(r"(epoch|iter)_(\d+)\.pth")


def recorded_checkpoint(work_dir: str | os.PathLike) -> str | None:
    """The path that ``last_checkpoint`` names, or the file of that name in a folder that moved."""
    record = Path(work_dir, NAME_OF_RECORD)
    if not record.is_file():
        return None
    named = record.read_text(encoding="utf-8").strip()
    here = Path(work_dir, os.path.basename(named))
    return str(here) if here.is_file() else named or None


def check_resumable(path: str) -> None:
    """See that a file holds the whole state of a training run.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it is damaged, would run code, or holds weights only.
    """
    checkpoint = load_local_checkpoint(path, map_location="meta")
    missing = {"meta", "state_dict", "message_hub"} - checkpoint.keys()
    if missing:
        raise UserError(
            f"{path}: holds weights only, no state of training (no {', '.join(sorted(missing))}). "
            f"To start from these weights: --cfg-options load_from={path}"
        )


def newest_resumable(work_dir: str | os.PathLike) -> tuple[str | None, list[str]]:
    """Find the newest checkpoint of a work dir that loads.

    Args:
        work_dir: where the run keeps its log and ``last_checkpoint``.

    Returns:
        The path, None if there is none; and what is wrong with the newer ones, a line each.
    """
    problems = []
    for path in _newest_first(work_dir):
        try:
            check_resumable(path)
        except (FileNotFoundError, UserError) as error:
            problems.append(str(error))
        else:
            return path, problems
    return None, problems


def _newest_first(work_dir: str | os.PathLike) -> list[str]:
    """The recorded checkpoint, then the numbered ones of its kind, then the others."""
    recorded = recorded_checkpoint(work_dir)
    recorded_name = _NUMBERED.fullmatch(os.path.basename(recorded or ""))
    numbered = []
    for path in Path(work_dir).glob("*.pth"):
        if (name := _NUMBERED.fullmatch(path.name)) and str(path) != recorded:
            is_same_kind = recorded_name is not None and name[1] == recorded_name[1]
            numbered.append((is_same_kind, int(name[2]), str(path)))
    others = [path for _, _, path in sorted(numbered, reverse=True)]
    return [recorded, *others] if recorded else others
