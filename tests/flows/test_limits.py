import pytest

from flows.limits import HOUR, make_limits
from kmunet.errors import ConfigError


def test_the_nearer_of_two_ends_holds():
    limits = make_limits(2.0, {"train": 1.0, "evaluate": 9.0})
    assert limits.of("train@busi") == HOUR
    assert 2 * HOUR - 60 < limits.of("evaluate@busi") <= 2 * HOUR
    assert limits.of("prepare@busi") <= 2 * HOUR
    assert make_limits(None, None).of("train@busi") is None
    assert make_limits(1e-9, None).left() < 1.0


@pytest.mark.parametrize(
    ("hours", "stages", "words"),
    [
        (0.0, None, "hours: 0 hours"),
        (None, {"train": -1.0}, "train: -1 hours"),
        (None, {"trian": 1.0}, "no stage 'trian': there are synthesize, prepare"),
    ],
)
def test_a_limit_that_cannot_be_is_refused(hours, stages, words):
    with pytest.raises(ConfigError, match=words):
        make_limits(hours, stages)
