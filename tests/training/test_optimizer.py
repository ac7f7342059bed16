"""One parameter from params.yaml to the optimizer, and the schedule's closed form."""

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from kmunet.training.optimizer import build_optimizer, set_learning_rate
from kmunet.training.precision import Precision


def test_lr_and_kan_lr_reach_their_groups(model, params):
    optimizer = build_optimizer(model, params(lr=0.123, kan_lr=0.045))
    rates = {group["lr"] for group in optimizer.param_groups}
    assert rates == {0.123, 0.045}
    grouped = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(grouped) == len(list(model.parameters()))


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_every_optimizer_is_built(model, params, name):
    optimizer = build_optimizer(model, params(optimizer=name))
    assert type(optimizer).__name__.lower() == name


def test_the_schedule_is_torchs_cosine_annealing(model, params):
    ours = build_optimizer(model, params(lr=0.1, kan_lr=0.1))
    theirs = build_optimizer(model, params(lr=0.1, kan_lr=0.1))
    scheduler = CosineAnnealingLR(theirs, T_max=7, eta_min=1e-5)
    for epoch in range(7):
        set_learning_rate(ours, params(lr=0.1, kan_lr=0.1, epochs=7), epoch)
        rates = [group["lr"] for group in ours.param_groups]
        assert rates == pytest.approx([g["lr"] for g in theirs.param_groups])
        theirs.step()
        scheduler.step()


def test_the_rate_rises_step_by_step_and_falls_after(model, params):
    chosen = params(lr=0.1, kan_lr=0.2, epochs=6, warmup=2, min_lr=0.01)
    optimizer = build_optimizer(model, chosen)
    rates = []
    for epoch in range(6):
        for step in range(1, 5):
            set_learning_rate(optimizer, chosen, epoch, step / 4)
            rates.append(optimizer.param_groups[0]["lr"])
    assert rates[:8] == pytest.approx([0.1 * n / 8 for n in range(1, 9)])
    assert len(set(rates[8:12])) == 1
    assert rates[8] == pytest.approx(0.1)
    assert rates[8:] == sorted(rates[8:], reverse=True)
    assert rates[-1] > 0.01


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_step_that_float16_leaves_out_leaves_no_trace(model, params, name, clip):
    """The first one overflows as a rule: the scale starts high."""
    optimizer = build_optimizer(model, params(optimizer=name, precision="float16"))
    precision = Precision("float32", torch.device("cpu"))
    precision._scaler = torch.amp.GradScaler("cpu")  # as float16 has on a GPU
    before = [p.detach().clone() for p in model.parameters()]
    precision.backward(model(torch.zeros(2, 3, 32, 32)).sum())
    model.final.weight.grad.fill_(torch.inf)
    dirty = [torch.full((1 << n,), 1e30) for n in range(20)]  # memory to be found again
    del dirty
    precision.step(optimizer, model, clip)
    assert all(map(torch.equal, model.parameters(), before))
    kept = [v for state in optimizer.state.values() for v in state.values()]
    assert all(not torch.as_tensor(v).any() for v in kept if v is not None)
