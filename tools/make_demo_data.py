"""Make the demo's data set of coloured shapes; --help lists the options."""

from dev.demo_data.data_set import main

if __name__ == "__main__":
    main()
