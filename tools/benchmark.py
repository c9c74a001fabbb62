"""Measure time and memory of XCiT and other backbones, side by side; --help lists the options."""

if __name__ == "__main__":  # here: the processes that it starts import this file
    from dev.benchmark.command import main

    main()
