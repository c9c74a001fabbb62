"""Show from how many tokens on the engine, with the gram form of attention, is the faster.

It is the benchmark with other defaults, from 196 to 4,096 tokens, and takes its options.
Ratios are to the plain model in the direct form (xcit_direct). xcit_gram is the engine in
inference and the plain model in the gram form in training; xcit_auto chooses.
"""

import sys

OPTIONS = """
    --contenders xcit_direct xcit_gram xcit_auto --repeats 9 --out work_dirs/attention_forms
    --sizes 224 320 448 512 640 768 1024 --training-sizes 224 320 448 512 640 768 1024
"""

if __name__ == "__main__":  # here: the processes that it starts import this file
    from dev.benchmark.command import main

    main([*OPTIONS.split(), *sys.argv[1:]])
