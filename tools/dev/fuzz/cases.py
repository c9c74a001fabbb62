"""Runs each case in a process of its own, and says how it ended.

A case runs code on an input that was made to harm. It may end well or be refused with one line;
whatever else it does is a fault: code of the input is run, files are changed, it hangs, crashes, or
takes memory, or something is raised that nobody translated.
"""

import contextlib
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from xcit_dense.errors import UserError

MOST_SECONDS = 10
MOST_BYTES = 2 * 2**30
CANARY = "canary"
"""A file in the folder of a case that only hostile code would write."""
_ENDS = ("fine", "refused", "traceback")


class Case(NamedTuple):
    """What to try: ``run`` gets an empty folder, which is watched."""

    name: str
    run: Callable[[Path], None]


class Outcome(NamedTuple):
    """How a case ended: ``fine``, ``refused``, or a fault; and what it had to say."""

    case: Case
    end: str
    told: str

    @property
    def is_fault(self) -> bool:
        """Whether a promise was broken."""
        return self.end not in ("fine", "refused")


def run_cases(cases: Iterator[Case]) -> Iterator[Outcome]:
    """Run cases one after the other, each in a fork of this process, with limits."""
    with tempfile.TemporaryDirectory() as parent:
        precious = Path(parent, "precious")
        precious.write_text("as it was")
        for case in cases:
            folder = Path(parent, "case")
            folder.mkdir()
            end, told = _run_in_fork(case, folder)
            if (folder / CANARY).exists():
                end = "code was run"
            elif not precious.is_file() or precious.read_text() != "as it was":
                end = "a file was changed"
                precious.write_text("as it was")
            shutil.rmtree(folder)
            yield Outcome(case, end, told)


def _run_in_fork(case: Case, folder: Path) -> tuple[str, str]:
    report = folder.with_suffix(".txt")
    process = os.fork()
    if process == 0:
        _run_and_exit(case, folder, report)
    deadline = time.monotonic() + MOST_SECONDS
    while not (waited := os.wait4(process, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return "hang", f"over {MOST_SECONDS} s"
        time.sleep(0.002)
    told = report.read_text(errors="replace")
    code = os.waitstatus_to_exitcode(waited[1])
    if code < 0:
        return "crash", f"signal {-code}: {told[-200:]}"
    return (_ENDS[code] if code < len(_ENDS) else "crash"), told


def _run_and_exit(case: Case, folder: Path, report: Path) -> None:
    """The child: never returns."""
    code = 2
    with open(report, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout = sys.stderr = file
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, used + MOST_BYTES))
        os.chdir(folder)
        with contextlib.suppress(BaseException):  # it ends here, whatever it is
            code = _end_of(case, folder)
        file.flush()
        os._exit(code)


def _end_of(case: Case, folder: Path) -> int:
    try:
        case.run(folder)
    except (UserError, FileNotFoundError) as error:
        print(error)
        return 1
    except BaseException:
        traceback.print_exc()
        return 2
    return 0
