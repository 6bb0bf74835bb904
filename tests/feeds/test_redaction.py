"""Secrets do not reach logs and reports."""

from __future__ import annotations

import pytest

from coinstream.feeds.live.base import redacted


@pytest.mark.parametrize(
    "text",
    [
        "GET https://api.x.com/v3/account?timestamp=1&signature=s3cr3t&recvWindow=5",
        "wss://ws.x.com/endpoint?token=s3cr3t&connectId=1",
        '{"apiKey": "s3cr3t", "x": 1}',
        "X-MBX-APIKEY: s3cr3t",
    ],
)
def test_a_secret_is_replaced(text: str) -> None:
    assert "s3cr3t" not in redacted(text)
    assert "***" in redacted(text)


def test_other_text_stays() -> None:
    assert redacted("HTTP 503 at https://x.com/depth?symbol=BTCUSDT") == (
        "HTTP 503 at https://x.com/depth?symbol=BTCUSDT"
    )
