"""The one-sentence answer says what the data say, whichever way they point."""

import pytest
from support_rows import table

from regbench.analysis.headline import headline

DICE = {"identity": 0.4, "demons": 0.72, "vxm": 0.7, "vxm-sup": 0.72}


@pytest.mark.parametrize(
    ("learned", "words"),
    [
        (0.80, "Learning helps here"),
        (0.60, "Learning does not help here"),
        (0.72, "level here"),
    ],
)
def test_the_answer_follows_the_paired_difference(learned: float, words: str) -> None:
    text = headline(table(dice=DICE | {"vxm": learned - 0.01, "vxm-sup": learned}))
    assert text is not None
    assert words in text
    assert text.endswith(".")
    assert text.count(".") == 1


@pytest.mark.parametrize(
    ("after", "words"),
    [(0.50, "under the shift learning loses ground"), (0.79, "learning gains ground"), (0.72, "changes nothing")],
)
def test_the_shift_is_the_second_half(after: float, words: str) -> None:
    text = headline(table(dice=DICE, shifted=DICE | {"vxm": after, "vxm-sup": after}))
    assert text is not None
    assert words in text


def test_few_pairs_are_not_overstated() -> None:
    assert "too few" in str(headline(table(3, dice=DICE)))


def test_datasets_that_disagree_are_counted() -> None:
    good = table(dice=DICE | {"vxm-sup": 0.85})
    bad = [row | {"dataset": "other"} for row in table(dice=DICE | {"vxm": 0.5, "vxm-sup": 0.5})]
    assert "ahead on 1, behind on 1" in str(headline([*good, *bad]))


def test_without_both_paradigms_there_is_no_answer() -> None:
    assert headline(table(dice={"identity": 0.4, "demons": 0.7})) is None
    assert headline([]) is None
