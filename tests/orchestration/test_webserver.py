"""Test that the web UI accepts its own requests and refuses cross-site requests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

import definitions
from assets.explorer_links import explorer_page, with_explorer_link
from coinstream.monitoring.group_alerts import Section
from coinstream.stack.process import explorer_token
from resources.webserver import allowed_hosts, guarded_app

MUTATION = '{"query": "mutation { reloadWorkspace { __typename } }"}'
QUERY = {"query": "{ __typename }"}
HOSTS = ["127.0.0.1:3000", "localhost:3000", "[::1]:3000", "dagster.example.com", "webserver"]
OTHERS = ["evil.example", "127.0.0.1.evil.example:3000", "", "[::1", "localhost.:3000"]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Dagster's own application without a code location, at 127.0.0.1:3000."""
    home = str(tmp_path_factory.mktemp("dagster"))
    with (
        dg.instance_for_test(temp_dir=home) as instance,
        WorkspaceProcessContext(instance, workspace_load_target=EmptyWorkspaceTarget()) as context,
    ):
        app = guarded_app(context, allowed_hosts("https://dagster.example.com:8443/", ["webserver"]))
        yield TestClient(app, base_url="http://127.0.0.1:3000")


@pytest.mark.parametrize("host", HOSTS)
def test_own_names_are_served(client: TestClient, host: str) -> None:
    assert client.post("/graphql", json=QUERY, headers={"host": host}).json()["data"] == {
        "__typename": "Query"
    }


@pytest.mark.parametrize("host", OTHERS)
def test_another_name_is_refused(client: TestClient, host: str) -> None:
    """A name that an attacker's DNS leads to loopback."""
    answer = client.post("/graphql", json=QUERY, headers={"host": host})
    assert answer.status_code == 403
    assert "COINSTREAM_UI_URL" in answer.text


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://127.0.0.1:8000", "http://127.0.0.1:3000.evil.example", "null"]
)
def test_a_form_of_another_page_starts_nothing(client: TestClient, origin: str) -> None:
    headers = {"origin": origin, "content-type": "text/plain"}
    assert client.post("/graphql", content=MUTATION, headers=headers).status_code == 403
    assert client.get("/", headers={"origin": origin}).status_code == 403


def test_the_own_page_passes(client: TestClient) -> None:
    headers = {"origin": "http://127.0.0.1:3000", "sec-fetch-site": "same-origin"}
    assert client.post(
        "/graphql", content=MUTATION, headers=headers | {"content-type": "application/json"}
    ).is_success


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_an_image_of_another_page_cannot_query(client: TestClient, site: str) -> None:
    headers = {"sec-fetch-site": site, "sec-fetch-mode": "no-cors"}
    assert client.get("/graphql", params={"query": "{ version }"}, headers=headers).status_code == 403


def test_a_link_of_another_page_opens_the_ui_but_no_query(client: TestClient) -> None:
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/runs", headers=headers).status_code == 200
    assert client.get("/graphql", params={"query": "{ version }"}, headers=headers).status_code == 403


def test_subscriptions_are_checked_too(client: TestClient) -> None:
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect(
            "/graphql", headers={"origin": "https://evil.example"}, subprotocols=["graphql-ws"]
        ),
    ):
        pass
    own = {"origin": "http://127.0.0.1:3000", "host": "127.0.0.1:3000"}
    with client.websocket_connect("/graphql", headers=own, subprotocols=["graphql-ws"]) as socket:
        socket.send_json({"type": "connection_init"})
        assert socket.receive_json()["type"] == "connection_ack"


def test_up_and_compose_start_the_checked_server() -> None:
    root = Path(__file__).parents[2]
    assert "resources.webserver" in (root / "platform/coinstream/stack/__init__.py").read_text()
    assert "resources.webserver" in (root / "deploy/compose.yaml").read_text()


def test_the_runbook_is_served_with_its_anchors(client: TestClient) -> None:
    found = client.get("/docs/runbook")
    assert found.status_code == 200
    for section in Section:
        assert f'id="{section}"' in found.text
    assert client.get("/docs/topics.md").status_code == 200
    assert client.get("/docs/how-to/backfill").status_code == 200


def test_every_picture_of_a_page_is_served(client: TestClient) -> None:
    page = client.get("/docs/how-to/explore").text
    pictures = re.findall(r'<img src="([^"]+)"', page)
    assert pictures
    for picture in pictures:
        found = client.get(f"/docs/how-to/{picture}")
        assert found.status_code == 200, picture
        assert found.headers["content-type"].startswith("image/")


@pytest.mark.parametrize(
    "name",
    [
        "nothing",
        "../README",
        "%2e%2e/README",
        "images/architecture",
        "screenshots.py",
        "images/../screenshots.py",
    ],
)
def test_nothing_else_is_served(client: TestClient, name: str) -> None:
    found = client.get(f"/docs/{name}")
    assert found.status_code == 404 or "coinstream" not in found.text.partition("<body>")[2]


def test_the_explorer_is_reached_with_its_token_from_the_own_page_only(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COINSTREAM_HOME", str(tmp_path))
    wanted = {"page": "Messages", "topic": "crypto-level1", "access_token": "injected"}

    def opened(site: str = "same-origin") -> Any:
        headers = {"sec-fetch-site": site, "sec-fetch-mode": "navigate"}
        return client.get("/explorer", params=wanted, headers=headers, follow_redirects=False)

    assert opened().status_code == 404, "without an explorer"
    monkeypatch.setenv("COINSTREAM_EXPLORER_URL", "http://127.0.0.1:2718")
    answer = opened()
    token = explorer_token(tmp_path)
    assert answer.headers["location"] == (
        f"http://127.0.0.1:2718/?page=Messages&topic=crypto-level1&access_token={token}"
    )
    assert answer.headers["cache-control"] == "no-store"
    assert {opened("cross-site").status_code, opened("same-site").status_code} == {403}
    monkeypatch.setenv("COINSTREAM_EXPLORER_URL", "https://explorer.example.com")
    assert "access_token" not in opened().headers["location"], "the token is of this machine's explorer"


def test_every_asset_links_to_its_page_of_the_explorer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COINSTREAM_EXPLORER_URL", raising=False)
    topic = dg.AssetSpec(dg.AssetKey(["topics", "crypto-level1.dlq"]))
    assert with_explorer_link(topic) == topic
    monkeypatch.setenv("COINSTREAM_EXPLORER_URL", "http://127.0.0.1:2718")
    pages: dict[str, set[str]] = {}
    for spec in definitions.defs.resolve_all_asset_specs():
        link = with_explorer_link(spec).metadata["explorer"]
        assert isinstance(link, dg.UrlMetadataValue)
        assert str(link.url).startswith("/explorer?page=")
        pages.setdefault(spec.key.path[0], set()).add(explorer_page(spec.key)["page"])
    assert pages["topics"] == {"Messages", "Dead letters"}
    assert pages["tables"] == {"Messages", "Quotes", "Candles", "Quarantine"}
    assert explorer_page(dg.AssetKey(["tables", "trade"])) == {"page": "Messages", "topic": "crypto-trades"}
    assert (pages["exchanges"], pages["quarantine"]) == ({"Exchanges"}, {"Quarantine"})
    notebook = (Path(definitions.__file__).parent / "notebooks" / "market.py").read_text()
    assert all(f'"{page}"' in notebook for page in set().union(*pages.values()))
