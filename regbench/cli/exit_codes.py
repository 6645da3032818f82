"""The exit codes of all commands; scripts build on them, so they never change their meaning."""

from enum import IntEnum


class ExitCode(IntEnum):
    OK = 0
    FAILED = 1
    """Some cases failed, or a regression was found."""
    USAGE = 2
    """A command line, a config or a folder that cannot be used."""
    INCONCLUSIVE = 3
    NOT_COMPARABLE = 4
    NOTHING_DONE = 5
    """Nothing was run or compared: an empty plan, or every case was skipped."""
    INTERRUPTED = 130
