"""Time this checkout and another beside the published arithmetic; --help lists the options."""

if __name__ == "__main__":  # here: the processes that it starts import this file
    from dev.benchmark.checkouts import main

    main()
