"""Numbers of other evaluators, reproduced with their rules and their quirks, and with notes where they mislead.

`regbench.metrics` says what regbench holds to be right; nothing here feeds into it. Kept apart so that published
tables can be checked: what Learn2Reg and LUMIR state for a submission, number by number.
"""

from regbench.compat.report import evaluate_submission, write_report

__all__ = ["evaluate_submission", "write_report"]
