"""`python -m regbench`, the same as the command `regbench`."""

from regbench.cli import main

if __name__ == "__main__":
    main()
