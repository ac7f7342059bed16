"""Up-sampling with its own gradient, on a CPU too: beside torch's; where it runs."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from kmunet.models import build_model
from kmunet.nn import upsample as module
from kmunet.nn.upsample import transposed, upsample

FACTORS = [2, 3, 4, 8]
SIZES = [(1, 1), (1, 5), (7, 2), (8, 6)]
LAYOUTS = [torch.contiguous_format, torch.channels_last]


@pytest.fixture
def elsewhere(monkeypatch):
    """As where the device is no CPU."""
    monkeypatch.setattr(module, "_own_gradient", lambda _: True)
    module._matrix.cache_clear()


@pytest.fixture
def deterministic():
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(before, warn_only=warn_only)


def image(size=(5, 3), channels=3, dtype=torch.float64, layout=LAYOUTS[1]):
    stream = torch.Generator().manual_seed(0)
    x = torch.randn(2, channels, *size, dtype=torch.float64, generator=stream)
    return x.to(dtype).contiguous(memory_format=layout).requires_grad_()


def torchs(x, factor):
    return F.interpolate(x, scale_factor=factor, mode="bilinear")


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("factor", FACTORS)
def test_values_and_gradients(factor, size, layout):
    x = image(size, layout=layout)
    y, expected = upsample(x, factor), torchs(x, factor)
    assert torch.equal(y, expected)
    assert y.stride() == expected.stride()
    weight = torch.randn_like(y)
    found, truth = (torch.autograd.grad(z, x, weight)[0] for z in (y, expected))
    torch.testing.assert_close(found, truth, rtol=1e-13, atol=1e-13)
    assert found.is_contiguous(memory_format=layout)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_gradcheck(factor, layout):
    x = image((3, 2), layout=layout)
    assert torch.autograd.gradcheck(lambda x: upsample(x, factor), x)


def test_the_gradient_by_hand():
    """x2 along a row: 3/4 and 1/4, and at the ends all that lies outside."""
    grad = torch.tensor([1.0, 10.0, 100.0, 1000.0]).view(1, 1, 1, 4).repeat(1, 1, 2, 1)
    expected = torch.tensor([1 + 7.5 + 25, 2.5 + 75 + 1000]).view(1, 1, 1, 2)
    assert torch.equal(transposed(grad, 2, False), 2 * expected)


def test_a_gradient_of_any_strides():
    x = image((4, 4))
    grad = torch.randn(2, 3, 11, 13, dtype=torch.float64)[..., 2:10, 1:9]
    one = torch.ones((), dtype=torch.float64).expand(2, 3, 8, 8)
    for given in (grad, grad.transpose(2, 3), one):
        (truth,) = torch.autograd.grad(torchs(x, 2), x, given)
        for channels_last in (False, True):
            torch.testing.assert_close(transposed(given, 2, channels_last), truth)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_precision(factor, layout, dtype):
    """A rounding a pass: the weights of powers of 2 are exact."""
    x = image((7, 5), dtype=dtype, layout=layout)
    y = upsample(x, factor)
    assert torch.equal(y, torchs(x, factor))
    weight = torch.randn_like(y)
    (found,) = torch.autograd.grad(y, x, weight)
    assert found.dtype == dtype
    exact = x.detach().double().requires_grad_()
    (truth,) = torch.autograd.grad(torchs(exact, factor), exact, weight.double())
    # In units of all that was added: a sum may cancel.
    (scale,) = torch.autograd.grad(torchs(exact, factor), exact, weight.double().abs())
    assert ((found - truth) / scale).abs().max() < 2 * torch.finfo(dtype).eps


@pytest.mark.usefixtures("elsewhere")
def test_nothing_to_do():
    x = image()[:0]
    (found,) = torch.autograd.grad(upsample(x, 2).sum(), x)
    assert found.shape == x.shape
    with torch.inference_mode():
        assert torch.equal(upsample(image(), 2), torchs(image(), 2))


@pytest.mark.usefixtures("elsewhere")
def test_under_autocast():
    x = image(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y, half = upsample(x, 2), upsample(x.bfloat16(), 2)
    assert (y.dtype, half.dtype) == (torch.float32, torch.bfloat16)
    (y.sum() + half.float().sum()).backward()
    assert torch.equal(x.grad, torch.full_like(x, 8))


def stage(x):
    """As where a decoder has it: something before, something after."""
    return upsample(x * 2, 2) + 1


@pytest.mark.usefixtures("elsewhere")
def test_compiled(recwarn):
    """For one size, then for any."""
    torch._dynamo.reset()
    compiled = torch.compile(stage, fullgraph=True, backend="aot_eager")
    for size in ((4, 6), (5, 3)):
        x = image(size)
        y, expected = compiled(x), stage(x)
        torch.testing.assert_close(y, expected)
        weight = torch.randn_like(y)
        found, truth = (torch.autograd.grad(z, x, weight)[0] for z in (y, expected))
        torch.testing.assert_close(found, truth)
        assert found.is_contiguous(memory_format=torch.channels_last)
    assert not [w for w in recwarn if "lru_cache" in str(w.message)]


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("strict", [False, True])
def test_exported(strict):
    class Stage(torch.nn.Module):
        def forward(self, x):
            return stage(x)

    x = image().detach()
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    program = torch.export.export(Stage(), (x,), dynamic_shapes=(batch,), strict=strict)
    more = torch.cat([x, -x])
    assert torch.equal(program.module()(more), stage(more))


class Operations(TorchDispatchMode):
    """Names of what runs."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_where_there_is_no_cpu(layout):
    """One kernel and two; no sort, no index_put, nothing atomic."""
    x = torch.randn(2, 3, 4, 6, device="meta").contiguous(memory_format=layout)
    x.requires_grad_()
    grad = torch.empty_like(upsample(x, 2))
    torch.autograd.grad(upsample(x, 2), x, grad)  # what is kept, is
    with Operations() as forward:
        y = upsample(x, 2)
    with Operations() as backward:
        (found,) = torch.autograd.grad(y, x, grad)
    assert forward.names == ["upsample_bilinear2d"]
    views = {"view", "permute", "t", "expand", "detach"}
    products = [name for name in backward.names if name not in views]
    assert products == ["bmm", "mm" if layout == LAYOUTS[0] else "bmm"]
    assert y.is_contiguous(memory_format=layout)
    assert found.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("factor", FACTORS)
def test_a_single_channel_on_a_cpu(factor):
    x = image((7, 2), channels=1)
    y, expected = upsample(x, factor), torchs(x, factor)
    assert torch.equal(y, expected)
    assert y.grad_fn.name() != expected.grad_fn.name()
    weight = torch.randn_like(y)
    found, truth = (torch.autograd.grad(z, x, weight)[0] for z in (y, expected))
    torch.testing.assert_close(found, truth, rtol=1e-13, atol=1e-13)


def test_several_channels_on_a_cpu_are_torchs():
    x = image(dtype=torch.float32)
    y = upsample(x, 2)
    assert y.grad_fn.name() == torchs(x, 2).grad_fn.name()
    assert torch.equal(y, torchs(x, 2))


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("name", ["km_unet", "u_kan"])
def test_the_models_use_it(name, monkeypatch):
    """Three factors in the heads, five times 2 in the decoder."""
    factors = []

    def counted(grad, factor, channels_last):
        factors.append(factor)
        return transposed(grad, factor, channels_last)

    monkeypatch.setattr(module, "transposed", counted)
    model = build_model(name, widths=(8, 8, 8), deep_supervision=True)
    outputs = model(torch.randn(2, 3, 32, 32))
    sum(logits.sum() for logits in outputs).backward()
    assert sorted(factors) == [2] * 6 + [4, 8]
