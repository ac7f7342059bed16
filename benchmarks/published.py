"""The published KM-UNet and U-KAN, imported from a checkout that the user names.

Nothing of theirs is kept here. What their archs.py imports and this machine lacks is
stood in for, as far as building and running the networks needs it; the caller is told
each stand-in, and a stand-in that the networks should not call raises.
"""

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from kmunet.errors import ConfigError
from kmunet.ops import mamba

KM_UNET, U_KAN = "published KM-UNet", "published U-KAN"
WITH_SCAN = f"{KM_UNET}, scan by "
CLASSES = {KM_UNET: "KM_UNet", U_KAN: "UKAN"}
WIDTHS = [128, 160, 256]  # of the published training scripts
_PLACES = (".", "Seg_UKAN")


def find(folders: tuple[str, ...]) -> dict[str, Path]:
    """Folder of the code for each published network; the first that has it counts.

    Raises ConfigError for a folder without.
    """
    found: dict[str, Path] = {}
    for folder in map(Path, folders):
        places = [folder / place for place in _PLACES]
        code = [p for p in places if (p / "archs.py").is_file()]
        if not code:
            raise ConfigError(
                f"--published {folder}: no archs.py there nor in Seg_UKAN/; give a "
                "checkout of the published KM-UNet or U-KAN"
            )
        text = (code[0] / "archs.py").read_text(encoding="utf-8")
        for name, class_ in CLASSES.items():
            if f"class {class_}(" in text:
                found.setdefault(name, code[0])
    return found


def load(folder: Path, scan: str) -> tuple[ModuleType, list[str]]:
    """Import archs.py of `folder`; `scan` is who scans where mamba-ssm is missing.

    Returns the module and what stood in. For a process of its own: the published code
    calls its modules `utils` and `kan`.
    """
    injected = _stand_in(scan)
    sys.path.insert(0, str(folder.resolve()))
    try:
        return importlib.import_module("archs"), injected
    finally:
        sys.path.pop(0)


def code(peer: str, folders: tuple[str, ...]) -> tuple[ModuleType, list[str]]:
    """The module that `peer` is in, with the scan that its name asks for."""
    name, scan = _parts(peer)
    return load(find(folders)[name], scan)


def _parts(peer: str) -> tuple[str, str]:
    """Which network, and who scans in it."""
    if peer.startswith(WITH_SCAN):
        return KM_UNET, peer.removeprefix(WITH_SCAN)
    return peer, "mamba-ssm" if mamba.usable() else "naive"


def network(peer: str, folders: tuple[str, ...]) -> tuple[nn.Module, list[str]]:
    """The network as its training script builds it: three channels in, one out."""
    module, injected = code(peer, folders)
    class_ = getattr(module, CLASSES[_parts(peer)[0]])
    return class_(1, 3, False, embed_dims=WIDTHS), injected


def _stand_in(scan: str) -> list[str]:
    said = []
    if _missing("torchvision"):
        _module("torchvision", transforms=None)
        _module("torchvision.utils", save_image=_refuse("save_image"))
        said.append("torchvision: empty, its names are not used")
    if _missing("matplotlib"):
        _module("matplotlib.pyplot")
        said.append("matplotlib: empty")
    if _missing("timm"):
        _module("timm")
        _module("timm.models")
        layers = {"to_2tuple": _pair, "trunc_normal_": nn.init.trunc_normal_}
        _module("timm.models.layers", DropPath=_refuse("DropPath"), **layers)
        said.append("timm: to_2tuple, trunc_normal_ of torch; DropPath is not used")
    if _missing("einops"):
        _module("einops", repeat=_repeat, rearrange=_refuse("rearrange"))
        said.append("einops: repeat along new first axes")
    return [*said, _stand_in_scan(scan)]


def _stand_in_scan(scan: str) -> str:
    name = "mamba_ssm.ops.selective_scan_interface"
    if scan == "mamba-ssm":
        importlib.import_module(name)
        return "scan: mamba-ssm's own"
    from benchmarks.scan_peers import choose_scan
    from kmunet.ops import selective_scan

    choose_scan(scan)
    _module("mamba_ssm")
    _module("mamba_ssm.ops")
    _module(name, selective_scan_fn=selective_scan, selective_scan_ref=selective_scan)
    return f"mamba_ssm: selective_scan_fn by '{scan}' of this benchmark"


def _missing(name: str) -> bool:
    return name not in sys.modules and importlib.util.find_spec(name) is None


def _module(name: str, **members: Any) -> None:
    parent, _, leaf = name.rpartition(".")
    if parent and parent not in sys.modules:
        _module(parent)
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)  # for those who ask whether it is there
    module.__dict__.update(members)
    sys.modules[name] = module
    if parent:
        setattr(sys.modules[parent], leaf, module)


def _refuse(name: str) -> Any:
    def stand_in(*_: Any, **__: Any) -> None:
        raise NotImplementedError(f"{name} is a stand-in: install the real package")

    return stand_in


def _pair(value: Any) -> tuple[Any, Any]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


def _repeat(x: Tensor, pattern: str, **counts: int) -> Tensor:
    """einops.repeat where the new axes come first: "n -> d n"."""
    before, after = (side.split() for side in pattern.split("->"))
    new = after[: len(after) - len(before)]
    if after[len(new) :] != before:
        raise NotImplementedError(f"stand-in for einops: '{pattern}'")
    return x.expand(*(counts[axis] for axis in new), *x.shape)
