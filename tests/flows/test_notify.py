"""Messages to a real HTTP endpoint, as Apprise sends them."""

from flows.notify import notify


def test_a_message_arrives_with_title_and_body(endpoint):
    arrived, _ = endpoint
    assert notify("kmunet: busi has drifted", "IoU 0.4", print) == 1
    assert arrived[0]["title"] == "kmunet: busi has drifted"
    assert arrived[0]["message"] == "IoU 0.4"


def test_what_cannot_be_sent_is_said_without_the_address(endpoint, monkeypatch, caplog):
    arrived, url = endpoint
    gone, said = "json://user:hidden@127.0.0.1:1/", []
    monkeypatch.setenv("KMUNET_NOTIFY", f"{gone} nonsense:hidden {url}")
    assert notify("title", "body", said.append) == 1
    assert len(arrived) == 1
    assert ["address 1 of 3" in said[0], "address 2 of 3" in said[1]] == [True, True]
    assert "hidden" not in "".join(said) + caplog.text


def test_without_an_address_nothing_happens(monkeypatch):
    monkeypatch.delenv("KMUNET_NOTIFY", raising=False)
    assert notify("title", "body", print) == 0
