"""Measures from how many tokens on the engine, with the gram form of attention, is the faster.

Usage: python tools/compare_attention_forms.py
       python tools/compare_attention_forms.py --channels 384 --tokens 400 1024 4096
"""

import argparse
import sys

from dev.benchmark.attention_forms import compare_forms

from xcit_dense.network import ARCHS


def main() -> None:
    """Prints a table: how many times faster the engine is, and what auto takes."""
    heads = {arch.embed_dims: arch.num_heads for arch in ARCHS.values()}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--channels", type=int, nargs="+", choices=heads, default=list(heads))
    parser.add_argument(
        "--tokens", type=int, nargs="+", default=[196, 400, 784, 1024, 1600, 2304, 4096]
    )
    parser.add_argument("--repeats", type=int, default=9, help="timed runs of each")
    options = parser.parse_args()
    widths = [(channels, heads[channels]) for channels in options.channels]
    note = lambda line: print(line, file=sys.stderr)  # noqa: E731
    print(compare_forms(widths, options.tokens, options.repeats, note))


if __name__ == "__main__":
    main()
