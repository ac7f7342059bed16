"""The digest of a file, of the lists in which its owner may have written it."""

import pytest

from kmunet.data.checksums import listed

OWN, OTHER = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        (f"{OTHER}  mydata.zip\n{OWN}  data.zip\n", OWN),
        (f"{OTHER} *data.zip.old\n{OWN} *./dist/data.zip\n", OWN),
        (f"SHA256 (mydata.zip) = {OTHER}\nSHA256 (data.zip) = {OWN}\n", OWN),
        (f"{OTHER}  mydata.zip\n{OTHER}  more.zip\n", None),
        (f"{OWN.upper()}\n", OWN),
        (f"{OWN}  as-it-was-called-there.zip\n", OWN),
        ("no digest\n", None),
    ],
)
def test_the_line_of_the_file_itself(text, digest):
    assert listed(text, "sha256", "data.zip") == digest


def test_names_with_spaces():
    text = f"{OTHER}  set.zip\n{OWN}  data set.zip\n"
    assert listed(text, "sha256", "data set.zip") == OWN
    assert listed(text, "sha256", "set.zip") == OTHER
