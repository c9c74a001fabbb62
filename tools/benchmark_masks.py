"""Measure memory and time of the masks of a large image; --help lists the options."""

if __name__ == "__main__":  # here: the processes that it starts import this file
    from dev.benchmark.masks import main

    main()
