"""What a server is told: the question, its own key, and nothing from the environment."""

import json

import pytest

from label.lit import ask, question
from label.stub import MODEL, Stub
from palate.core.problems import SettingError
from palate.label.endpoint import KEY_FROM, EndpointLabeler

# What OpenAI's client, which is not used, would take from the environment and send along.
SOMEBODY_ELSES = {
    "OPENAI_API_KEY": "sk-of-somebody-else",
    "OPENAI_ADMIN_KEY": "sk-of-an-administrator",
    "OPENAI_ORG_ID": "org-of-somebody-else",
    "OPENAI_PROJECT_ID": "project-of-somebody-else",
    "OPENAI_WEBHOOK_SECRET": "hook-of-somebody-else",
    "OPENAI_CUSTOM_HEADERS": "Authorization: Bearer sk-planted\nX-Planted: secret-of-somebody-else"
    "\nHost: planted.example\nContent-Length: 3\nCookie: planted",
}
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
SENT = {"Host", "Accept", "Accept-Encoding", "Content-Type", "Content-Length", "User-Agent"}


def opened(stub: Stub, **settings) -> EndpointLabeler:
    return EndpointLabeler.open(model=MODEL, url=stub.url, timeout=20, retries=0, **settings)


@pytest.fixture
def elsewhere(monkeypatch):
    """An environment full of what belongs to others, and a server that they would be sent to."""
    with Stub() as stub:
        for name, value in SOMEBODY_ELSES.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("OPENAI_BASE_URL", stub.url)
        for name in PROXIES:
            monkeypatch.setenv(name, stub.url.removesuffix("/v1"))
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield stub


def test_the_key_goes_to_the_server_and_into_no_record(tmp_path, monkeypatch, elsewhere):
    monkeypatch.setenv(KEY_FROM, "sk-from-the-environment\n")
    with Stub() as stub:
        labeler = opened(stub)
        answer = ask(labeler, [question()], tmp_path)[0]
        assert answer.agreement == pytest.approx(0.85)
    assert len(stub.headers) == 3
    for headers in stub.headers:
        assert headers["Authorization"] == "Bearer sk-from-the-environment"
        assert set(headers) == SENT | {"Authorization"}
        assert headers["Host"] == stub.url.split("/")[2]
        sent = json.dumps(headers)
        assert not [word for word in ("else", "planted", "administrator") if word in sent]
    assert elsewhere.heard == [], "neither an address of the environment nor a proxy was asked"
    written = "".join(path.read_text() for path in tmp_path.iterdir())
    assert "sk-" not in written + json.dumps(dict(answer.signature)) + repr(vars(labeler))


def test_without_a_key_none_is_sent(tmp_path, monkeypatch, elsewhere):
    monkeypatch.delenv(KEY_FROM, raising=False)
    with Stub() as stub:
        assert ask(opened(stub), [question()], tmp_path)[0].agreement == pytest.approx(0.85)
    assert [set(headers) for headers in stub.headers] == [SENT] * 3
    assert elsewhere.heard == []


@pytest.mark.parametrize(
    "url", ["http://example.org/v1", "http://8.8.8.8:8000", "http://[2600::]/v1"]
)
def test_a_key_does_not_cross_a_public_network_for_all_to_read(url, monkeypatch):
    monkeypatch.setenv(KEY_FROM, "sk-from-the-environment")
    with pytest.raises(SettingError, match=r"https, or a server on this machine") as error:
        EndpointLabeler.open(model="m", url=url)
    assert "ssh -L" in error.value.fix
    assert "sk-" not in str(error.value)
    EndpointLabeler.open(model="m", url=url, key_in_plain=True)
    EndpointLabeler.open(model="m", url=url.replace("http:", "https:"))
    monkeypatch.delenv(KEY_FROM)
    EndpointLabeler.open(model="m", url=url)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "127.0.0.1",
        "[::1]",
        "10.1.2.3",
        "192.168.0.9",
        "100.64.0.1",
        "gpu-box",
        "a.local",
    ],
)
def test_a_key_may_go_to_a_server_nearby(host):
    EndpointLabeler.open(model="m", url=f"http://{host}:8000/v1", key="k")
