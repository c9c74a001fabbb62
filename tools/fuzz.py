"""Try hostile and damaged input; --help lists the options."""

from dev.fuzz.command import main

if __name__ == "__main__":
    main()
