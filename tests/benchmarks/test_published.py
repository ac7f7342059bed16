"""Published code is found, run with stand-ins that are told, and never half loaded."""

import pytest

from benchmarks import published as code
from benchmarks.case import Case
from benchmarks.turns import Round
from kmunet.errors import ConfigError

OWN_SCAN = code.WITH_SCAN + "chunked"


def test_networks_are_found_where_they_are(published, tmp_path):
    u_kan = tmp_path / "u-kan"
    (u_kan / "Seg_UKAN").mkdir(parents=True)
    (u_kan / "Seg_UKAN/archs.py").write_text("class UKAN(nn.Module): pass")
    found = code.find((str(u_kan), str(published)))
    assert found[code.U_KAN].resolve() == (u_kan / "Seg_UKAN").resolve()
    assert found[code.KM_UNET].resolve() == published.resolve()
    assert code.find(()) == {}


def test_a_folder_without_the_code_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"--published .*no archs\.py.*checkout"):
        code.find((str(tmp_path / "nowhere"),))


def test_it_runs_beside_ours_and_names_its_stand_ins(published):
    cases = [
        Case("step", peer, 32, 1, published=(str(published),))
        for peer in (code.U_KAN, code.KM_UNET, OWN_SCAN, "unknown")
    ]
    u_kan, km_unet, own_scan, unknown = Round(1, 10.0).run(cases)
    assert not {"failed"} & (u_kan.keys() | km_unet.keys() | own_scan.keys())
    assert set(u_kan["phases"]) == {"forward", "backward", "optimizer"}
    assert "'naive'" in km_unet["injected"][-1]
    assert "'chunked'" in own_scan["injected"][-1]
    assert any(text.startswith("torchvision") for text in u_kan["injected"])
    assert "KeyError" in unknown["failed"]


def test_stand_ins_refuse_what_they_cannot_do():
    with pytest.raises(NotImplementedError, match="install the real package"):
        code._refuse("DropPath")(0.1)
    with pytest.raises(NotImplementedError, match="einops"):
        code._repeat(None, "a b -> a c b", c=2)
