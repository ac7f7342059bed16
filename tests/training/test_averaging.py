"""The average against its closed form, and what it does to the model."""

import pytest
import torch
from torch import nn

from kmunet.training.averaging import WeightAverage


def _model():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).double()


def test_it_is_the_mean_with_a_decay_that_grows_up():
    model = _model()
    average = WeightAverage(model, decay=0.5)
    expected = model[0].weight.detach().clone()
    for step in range(1, 30):
        with torch.no_grad():
            model[0].weight.add_(0.1 * step)
        average.update()
        keep = min(0.5, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * model[0].weight.detach()
    torch.testing.assert_close(average.mean["0.weight"], expected)


def test_running_statistics_are_averaged_and_counts_copied():
    model = _model()
    average = WeightAverage(model, decay=0.9)
    model(torch.randn(4, 2, dtype=torch.float64))
    average.update()
    keep = 2 / 11
    mean = model[1].running_mean
    torch.testing.assert_close(average.mean["1.running_mean"], (1 - keep) * mean)
    assert average.mean["1.num_batches_tracked"] == 1


def test_it_is_applied_and_taken_back_also_after_an_error():
    model = _model()
    average = WeightAverage(model, decay=0.9)
    with torch.no_grad():
        model[0].weight.fill_(7.0)

    def fail():
        with average.applied():
            assert not (model[0].weight == 7.0).any()
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert (model[0].weight == 7.0).all()


def test_it_goes_on_from_a_checkpoint():
    model = _model()
    one, two = WeightAverage(model, 0.9), WeightAverage(model, 0.9)
    one.update()
    two.load(one.mean, one.steps)
    for average in (one, two):
        with torch.no_grad():
            model[0].bias.fill_(3.0)
        average.update()
    assert all(torch.equal(one.mean[name], two.mean[name]) for name in one.mean)


def test_it_restarts_from_the_model_as_it_is():
    model = _model()
    average = WeightAverage(model, 0.9)
    average.update()
    with torch.no_grad():
        model[0].bias.fill_(3.0)
    average.restart()
    assert average.steps == 0
    assert torch.equal(average.mean["0.bias"], model[0].bias)
