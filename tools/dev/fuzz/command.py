"""The command line of ``tools/fuzz.py``."""

import random
from argparse import ArgumentParser
from collections import Counter

from dev.fuzz.annotations import annotation_cases
from dev.fuzz.cases import run_cases
from dev.fuzz.checkpoints import checkpoint_cases
from dev.fuzz.command_lines import command_line_cases
from dev.fuzz.images import image_cases
from dev.fuzz.kills import kill_outcomes

KINDS = {
    "checkpoints": checkpoint_cases,
    "annotations": annotation_cases,
    "images": image_cases,
    "command_lines": command_line_cases,
}
"""What makes the cases of a kind, from a random generator and their number."""


BY_HAND = {"kills": kill_outcomes}
"""What yields outcomes of a kind that takes minutes, so that it must be named."""


def main(argv: list[str] | None = None) -> None:
    """Try what the arguments say (``sys.argv`` if None), and print faults and counts."""
    parser = ArgumentParser(
        description="Generate hostile and damaged input, and see that it is refused: no code runs, "
        "no file changes, no hang, crash or traceback. Exit code 1 if there was a fault."
    )
    kinds = ", ".join(KINDS)
    by_hand = ", ".join(BY_HAND)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {kinds} (these); {by_hand}")
    parser.add_argument("--count", type=int, default=200, help="cases of each kind (200)")
    parser.add_argument("--seed", type=int, default=0, help="of the generated input (0)")
    parser.add_argument("--verbose", action="store_true", help="print all that faults said")
    args = parser.parse_args(argv)
    if unknown := set(args.kinds) - {*KINDS, *BY_HAND}:
        parser.error(f"{', '.join(sorted(unknown))}: no KIND; there are {kinds}, {by_hand}")
    num_faults = 0
    for kind in args.kinds or KINDS:
        ends: Counter[str] = Counter()
        generator = random.Random(args.seed)
        if kind in BY_HAND:
            outcomes = BY_HAND[kind](generator, args.count)
        else:
            outcomes = run_cases(KINDS[kind](generator, args.count))
        for outcome in outcomes:
            ends[outcome.end] += 1
            if outcome.is_fault:
                num_faults += 1
                told = outcome.told.strip()
                said = told if args.verbose else told[-300:].splitlines()[-1:]
                print(f"{outcome.case.name}, seed {args.seed}: {outcome.end}: {said}")
        print(f"{kind}: " + ", ".join(f"{number} {end}" for end, number in ends.most_common()))
    if num_faults:
        raise SystemExit(1)
