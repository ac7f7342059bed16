"""A training step and inference of whole networks, ours and others'.

All get the same images, loss (BCE and Dice) and optimizer (AdamW), ours by way of
`build_optimizer` as in training.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn, optim

from benchmarks import published
from benchmarks.case import OURS, Case, Work
from benchmarks.scan import states
from kmunet.models import build_model
from kmunet.nn.fused import fuse
from kmunet.training.compiled import compiled
from kmunet.training.losses import LOSSES
from kmunet.training.optimizer import build_optimizer

OTHERS = ("u_kan", "unet", "attention_unet")  # of `build_model`
MONAI = ("unet", "attention_unet")  # of these, what is built from it
_TRAIN = SimpleNamespace(optimizer="adamw", lr=1e-3, kan_lr=1e-2, weight_decay=1e-4)
_COUNTED = 64  # pixels, side; flop grow with pixels


def step_work(case: Case) -> Work:
    """Forward with loss, backward, optimizer."""
    model, injected = network(case)
    model.to(case.device).train()
    optimizer = _optimizer(case, model)
    images, masks = _batch(case)
    held: list[Tensor] = []
    call = compiled(model, case.graphs and "reduce-overhead")

    def forward() -> None:
        with autocast(case):
            logits = call(images)
        held.append(LOSSES["bce_dice"](logits.float(), masks))

    def backward() -> None:
        held.pop().backward()  # type: ignore[no-untyped-call]

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    phases: list[Any] = [("forward", forward), ("backward", backward)]
    work = Work([*phases, ("optimizer", update)], injected=injected)
    # Backward: a product for the input's gradient, one for the weight's.
    work.flop, work.exps = 3 * _flop(case, model), 2 * _exps(case)
    parameters = sum(p.numel() for p in model.parameters())
    # Read, gradient written and read, two moments and the weight read and written.
    work.bytes = 4 * (2 * images.numel() + 9 * parameters)
    return work


def inference_work(case: Case) -> Work:
    """The forward pass in evaluation mode, ours fused as a `Predictor` has it."""
    model, injected = network(case)
    model.to(case.device).eval()
    if case.who == OURS:
        fuse(model)
    images, _ = _batch(case)
    call = compiled(model, case.graphs and "reduce-overhead")

    @torch.inference_mode()
    def forward() -> None:
        with autocast(case):
            call(images)

    work = Work([("forward", forward)], injected=injected)
    work.flop, work.exps = _flop(case, model), _exps(case)
    parameters = sum(p.numel() for p in model.parameters())
    work.bytes = 4 * (images.numel() * 4 / 3 + parameters)
    return work


def network(case: Case) -> tuple[nn.Module, list[str]]:
    """The network of `case.peer` with random weights, and what stood in for it."""
    torch.manual_seed(0)
    if case.who == OURS:
        return build_model("km_unet"), []
    if case.who in OTHERS:
        return build_model(case.who), []
    return published.network(case.who, case.published)


def others() -> list[str]:
    """Of OTHERS, those that can be built here."""
    here = find_spec("monai") is not None
    return [name for name in OTHERS if here or name not in MONAI]


def autocast(case: Case) -> AbstractContextManager[Any]:
    """bfloat16 where the case says so."""
    return torch.autocast(case.device, torch.bfloat16) if case.bf16 else nullcontext()


def _optimizer(case: Case, model: nn.Module) -> optim.Optimizer:
    if case.who == OURS:
        params: Any = _TRAIN
        return build_optimizer(model, params)
    return optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)


def _batch(case: Case) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    side = (case.size, case.size)
    images = torch.randn(case.batch, 3, *side, generator=generator)
    masks = (torch.rand(case.batch, 1, *side, generator=generator) > 0.5).float()
    return images.to(case.device), masks.to(case.device)


def _flop(case: Case, model: nn.Module) -> float:
    """Of products and convolutions of one forward pass, counted on a small image."""
    shape = (1, 3, _COUNTED, _COUNTED)
    image = torch.zeros(shape, device=case.device)
    pixels = case.batch * (case.size / _COUNTED) ** 2
    training = model.training
    with torch.no_grad():
        counted = count_flop(lambda: model.eval()(image))
    model.train(training)
    return counted * pixels


def count_flop(call: Callable[[], Any]) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


def _exps(case: Case) -> float:
    scans = case.who == OURS or "KM-UNet" in case.who
    return states(case.batch, case.size) if scans else 0
