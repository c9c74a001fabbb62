"""Try the swap on every config of the installed mmdet and mmseg; --help lists the options."""

from xcit_dense.openmmlab.commands.check_swap_coverage import main

if __name__ == "__main__":
    main()
