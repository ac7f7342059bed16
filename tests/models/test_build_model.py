"""Models by name: sizes, switches, any input, refusals."""

import itertools
import sys

import pytest
import torch

from kmunet.errors import ConfigError
from kmunet.models import MODELS, build_model
from kmunet.models.parameter_groups import parameter_groups
from kmunet.models.registry import BASELINES, SHAPED_BY
from kmunet.nn import SS2D, EfficientMultiScaleAttention, KANLinear

SMALL = (16, 6, 10)
COUNTS = {"km_unet": 5_739_009, "u_kan": 6_356_689, "unet": 6_500_734}


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(name):
    model = build_model(name)
    assert sum(p.numel() for p in model.parameters()) == COUNTS[name]


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_receives_a_gradient(name):
    torch.manual_seed(0)
    model = build_model(name, widths=SMALL).train()
    model(torch.randn(2, 3, 64, 64)).square().mean().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None]
    assert without == []
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "size", [(1, 1), (1, 70), (31, 33), (32, 32), (47, 96)], ids=str
)
def test_any_input_size(name, size):
    model = build_model(name, widths=SMALL, in_channels=2, num_classes=3).eval()
    with torch.no_grad():
        logits = model(torch.randn(1, 2, *size))
    assert logits.shape == (1, 3, *size)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", ["km_unet", "u_kan", "unet"])
def test_shapes_without_memory(name):
    """On "meta", which has no numbers and no autocast, built there or moved."""
    image = torch.empty(2, 3, 64, 96, device="meta")
    with torch.device("meta"):
        there = build_model(name)
    for model in (build_model(name).to("meta"), there):
        assert model.eval()(image).shape == (2, 1, 64, 96)


OTHER = {"widths": (32, 6, 10), "kan": False, "ss2d": False, "attention": False,
         "drop_path": 0.5, "deep_supervision": True, "skip_gain": 3.0,
         "layer_scale": 0.5, "presence": True}  # fmt: skip


@pytest.mark.parametrize("key", OTHER)
@pytest.mark.parametrize("name", MODELS)
def test_what_shapes_a_model(name, key):
    """By its structure, its attributes and its initial values."""

    def built(**options):
        torch.manual_seed(0)
        model = build_model(name, **{"widths": SMALL, **options})
        rates = [vars(m).get("drop_path") for m in model.modules()]
        return str(model), rates, model.state_dict()

    if name in BASELINES and key == "deep_supervision":
        with pytest.raises(ConfigError, match="deep_supervision"):
            built(**{key: OTHER[key]})
        return
    (text, rates, first), (others, own, second) = built(), built(**{key: OTHER[key]})
    same = text == others and rates == own
    same = same and all(torch.equal(first[name], second[name]) for name in first)
    assert same == (key not in SHAPED_BY[name])


def test_padding_is_the_same_as_a_padded_image():
    model = build_model("km_unet", widths=SMALL).eval()
    x = torch.randn(1, 3, 40, 50)
    whole = torch.nn.functional.pad(x, (0, 14, 0, 24), mode="replicate")
    with torch.no_grad():
        torch.testing.assert_close(model(x), model(whole)[..., :40, :50])


@pytest.mark.parametrize("widths", [(8, 1, 1), (24, 7, 11), (40, 33, 5)], ids=str)
@pytest.mark.parametrize("name", ["km_unet", "u_kan"])
def test_any_widths(name, widths):
    model = build_model(name, widths=widths).train()
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    ("kan", "ss2d", "attention"), list(itertools.product([True, False], repeat=3))
)
def test_ablations_are_independent(kan, ss2d, attention):
    model = build_model(
        "km_unet", widths=SMALL, kan=kan, ss2d=ss2d, attention=attention
    )
    parts = {KANLinear: kan, SS2D: ss2d, EfficientMultiScaleAttention: attention}
    for part, on in parts.items():
        count = sum(isinstance(m, part) for m in model.modules())
        assert count == (0 if not on else 6 if part is KANLinear else 7)
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_u_kan_without_kan():
    model = build_model("u_kan", widths=SMALL, kan=False)
    assert not [m for m in model.modules() if isinstance(m, KANLinear)]


@pytest.mark.parametrize("name", ["km_unet", "unet"])
def test_two_runs_give_the_same_bits(name):
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        model = build_model(name, widths=SMALL).train()
        logits = model(torch.randn(2, 3, 64, 64))
        logits.square().mean().backward()
        found.append([logits.detach(), *(p.grad for p in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_half_precision_autocast():
    torch.manual_seed(0)
    model = build_model("km_unet", widths=SMALL).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        exact = model(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = model(x)
    assert (rounded.float() - exact).abs().max() < 0.1 * exact.abs().max()


def test_channels_last():
    torch.manual_seed(0)
    model = build_model("km_unet", widths=SMALL).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model(x)
        model = model.to(memory_format=torch.channels_last)
        found = model(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": (128, 160)}, r"model\.widths: need three positive integers"),
        ({"widths": (128, 0, 256)}, r"model\.widths: need three positive integers"),
        ({"widths": (128, 1.5, 256)}, r"model\.widths: need three positive integers"),
        ({"widths": (100, 160, 256)}, r"the first must be a multiple of 8, got 100"),
        ({"in_channels": 0}, "in_channels: need a positive integer, got 0"),
        ({"num_classes": -1}, "num_classes: need a positive integer, got -1"),
    ],
)
@pytest.mark.parametrize("name", ["km_unet", "u_kan"])
def test_refusals(name, options, message):
    with pytest.raises(ConfigError, match=message):
        build_model(name, **options)


def test_an_unknown_model_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"model\.name: unknown .*km_unet, u_kan"):
        build_model("resnet")


def test_no_warnings(recwarn):
    for name in MODELS:
        build_model(name, widths=SMALL).eval()(torch.randn(1, 3, 32, 32))
    ours = [w for w in recwarn if "monai" not in str(w.filename)]
    assert [str(w.message) for w in ours] == []


def test_monai_is_not_needed_for_the_others():
    assert "kmunet.models" in sys.modules
    source = sys.modules["kmunet.models.baselines"]
    assert "monai" not in vars(source)


def test_the_gain_of_skips_scales_their_scans_alone():
    states = []
    for gain in (1.0, 8.0):
        torch.manual_seed(0)
        states.append(build_model("km_unet", widths=SMALL, skip_gain=gain).state_dict())
    changed = {k for k in states[0] if not torch.equal(states[0][k], states[1][k])}
    assert changed == {f"ss2d_{n}.out_proj.weight" for n in (1, 2, 3)}
    for key in changed:
        assert torch.equal(states[1][key], 8 * states[0][key])


def test_without_layer_scale_nothing_is_added_to_the_published_parameters():
    model = build_model("km_unet", widths=SMALL)
    assert not [name for name in model.state_dict() if "scales" in name]


def test_a_layer_scale_of_nothing_leaves_what_passes_the_branches_by():
    """Scan and attention then have no part: the same network without them."""
    torch.manual_seed(0)
    model = build_model("km_unet", widths=SMALL, layer_scale=0.5).eval()
    plain = build_model("km_unet", widths=SMALL, ss2d=False, attention=False).eval()
    own = model.state_dict()
    plain.load_state_dict({name: own[name] for name in plain.state_dict()})
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert not torch.allclose(model(x), plain(x))
        for scale in (*model.skip_scales, *model.decoder_scales):
            assert torch.equal(scale.weight, torch.full_like(scale.weight, 0.5))
            scale.weight.zero_()
        assert torch.equal(model(x), plain(x))


def test_without_scan_and_attention_there_is_nothing_to_scale():
    parts = {"ss2d": False, "attention": False}
    model = build_model("km_unet", widths=SMALL, layer_scale=0.5, **parts)
    assert not model.skip_scales
    assert not model.decoder_scales


def test_layer_scale_learns_and_is_not_decayed():
    model = build_model("km_unet", widths=SMALL, layer_scale=0.1).train()
    model(torch.randn(2, 3, 64, 64)).square().mean().backward()
    scales = [s.weight for s in (*model.skip_scales, *model.decoder_scales)]
    assert len(scales) == 7
    assert all(weight.grad.abs().sum() > 0 for weight in scales)
    groups = parameter_groups(model, lr=1.0, kan_lr=1.0, weight_decay=0.1)
    spared = {id(p) for g in groups if g["name"] == "no_decay" for p in g["params"]}
    assert {id(weight) for weight in scales} <= spared
