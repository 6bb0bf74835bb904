"""Return public options that connect a client library to the simulated exchange."""

from __future__ import annotations

from typing import Any


def ccxt_options(venue: str, http_url: str, ws_url: str) -> dict[str, Any]:
    """Return the options of ccxt's client of an exchange.

    Args:
        venue: binance, kraken or coinbase.
        http_url: base URL of the REST endpoints.
        ws_url: base URL of the websocket endpoints.
    """
    match venue:
        case "binance":
            api: dict[str, Any] = {"public": f"{http_url}/api/v3", "ws": {"spot": f"{ws_url}/ws"}}
            return {"urls": {"api": api}, "options": {"fetchMarkets": {"types": ["spot"]}}}
        case "kraken":
            return {"urls": {"api": {"public": http_url, "ws": {"publicV2": f"{ws_url}/v2"}}}}
        case "coinbase":
            return {"urls": {"api": {"rest": http_url, "ws": ws_url}}}
    raise ValueError(f"the simulated exchange does not speak for {venue!r}")
