"""The optimizer's groups, made by module type.

KANLinear learns at its own rate; norms, layer scales, biases and the scan's A and D
are not decayed, as decay would pull A towards -1 and D towards 0 (Mamba, appendix E).
"""

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from kmunet.nn import SS2D, KANLinear, LayerScale

UNDECAYED = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.PReLU, LayerScale)
UNDECAYED_SCAN = ("A_logs", "Ds", "dt_projs_bias")


def parameter_groups(
    model: nn.Module, *, lr: float, kan_lr: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Groups "base", "no_decay" and "kan", each with its lr and weight_decay.

    Every trainable parameter is in exactly one; a group without any is left out.
    """
    members: dict[str, list[nn.Parameter]] = {"base": [], "no_decay": [], "kan": []}
    for module, name, parameter in _owned_parameters(model):
        members[_group_of(module, name)].append(parameter)
    settings = {
        "base": {"lr": lr, "weight_decay": weight_decay},
        "no_decay": {"lr": lr, "weight_decay": 0.0},
        "kan": {"lr": kan_lr, "weight_decay": weight_decay},
    }
    return [
        {"name": name, "params": parameters, **settings[name]}
        for name, parameters in members.items()
        if parameters
    ]


def _owned_parameters(
    model: nn.Module,
) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    seen: set[nn.Parameter] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                yield module, name, parameter


def _group_of(module: nn.Module, name: str) -> str:
    if isinstance(module, KANLinear):
        return "kan"
    if isinstance(module, UNDECAYED) or name == "bias":
        return "no_decay"
    if isinstance(module, SS2D) and name in UNDECAYED_SCAN:
        return "no_decay"
    return "base"
