"""The errors that regbench raises on purpose.

Each message says what is wrong, where, and what to do; the command line prints it as one line.

    RegbenchError
    |-- ConfigError              a config or a command line that cannot be run       exit 2
    |-- DatasetError             an image, a label map or a folder that cannot be used
    |-- MethodError              a method that could not do its work                  status failed
    |   |-- MethodDeclined       it refuses this case, with a reason                  status skipped
    |   |-- MethodCrashed        the interpreter that it runs in has died             status crashed
    |   `-- InvalidDisplacement  it returned NaN or a field on the wrong grid         status invalid
    |-- MetricDeclined           a metric that does not exist for this case         NaN with a reason
    `-- StoreError               a run folder that cannot be read or written          exit 2

Anything else that reaches the user as a traceback is a bug in regbench.
"""

from __future__ import annotations


class RegbenchError(Exception):
    """The root of all errors that carry a message for the user."""


class ConfigError(RegbenchError):
    """A config, a parameter or a command line that cannot be run as it is written."""


class DatasetError(RegbenchError):
    """Input data that cannot be used: missing, corrupt, not finite, or on grids that do not fit."""


class MethodError(RegbenchError):
    """A registration method that could not do its work on this pair."""


class MethodDeclined(MethodError):
    """A method that refuses a case for a stated reason: package missing, grid unsupported."""


class MethodCrashed(MethodError):
    """A method in another interpreter (`regbench.lodging`) that took that interpreter down with it."""


class InvalidDisplacement(MethodError):
    """A returned displacement that cannot be scored: values not finite, or another grid."""


class MetricDeclined(RegbenchError):
    """A metric that is not defined for a case for a stated reason, such as surfaces on a sheared grid."""


class StoreError(RegbenchError):
    """A run folder or a result file that cannot be read or written."""
