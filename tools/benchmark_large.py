"""Measure what predictions on large images cost and how good they are; --help has the options."""

if __name__ == "__main__":  # here: the processes that it starts import this file
    from dev.benchmark_large.command import main

    main()
