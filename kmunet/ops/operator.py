"""Functions as operators of torch: `torch.ops.kmunet.<name>`.

By torch.library's parts, not `custom_op`, which imports the compiler (1 s and more) at
an operator's first call in any process.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch

AUTOCAST = ("cpu", "cuda")
AUTOCAST_LATER = ("mps", "xpu")  # torch before 2.13 refuses to register these


def operator(name: str) -> Callable[[Callable[..., Any]], Any]:
    """Register an annotated function that changes none of its arguments."""

    def register(function: Callable[..., Any]) -> Any:
        schema = torch.library.infer_schema(function, mutates_args=())
        compliant = (torch.Tag.pt2_compliant_tag,)
        torch.library.define(f"kmunet::{name}", schema, tags=compliant)
        torch.library.impl(f"kmunet::{name}", "default", function)  # any device
        return getattr(torch.ops.kmunet, name).default

    return register


def differentiable(
    name: str, backward: Callable[..., Any], save: Callable[..., Any]
) -> None:
    """Its backward pass, and what its forward pass saves for it."""
    torch.library.register_autograd(f"kmunet::{name}", backward, setup_context=save)


def once_differentiable(name: str) -> None:
    """A backward pass that has none of its own."""

    def refuse(*_: Any) -> None:
        raise RuntimeError(
            "this scan has first derivatives only: for others choose scan backend "
            "'naive'"
        )

    torch.library.register_autograd(f"kmunet::{name}", refuse)


def in_float32(*names: str) -> None:
    """Under autocast the operators take float32, as their states are."""
    for name in names:
        for device in AUTOCAST:
            torch.library.register_autocast(f"kmunet::{name}", device, torch.float32)
        for device in AUTOCAST_LATER:
            with suppress(ValueError):
                torch.library.register_autocast(
                    f"kmunet::{name}", device, torch.float32
                )
