"""Check and time the network on a GPU; --help lists the options."""

import sys

if __name__ == "__main__":  # here: the processes that it starts import this file
    from dev.gpu_check.command import main

    sys.exit(main())
