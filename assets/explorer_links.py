"""Link each asset to its page of the explorer."""

from typing import Final
from urllib.parse import urlencode

import dagster as dg

from coinstream.settings import HomeSettings
from coinstream.topics.catalogue import DEAD_LETTER_SUFFIX

_TABLES: Final = {
    "quarantine": "Quarantine",
    "flagged": "Quarantine",
    "ohlcv": "Candles",
    "candles": "Candles",
}
_PAGES: Final = {"exchanges": "Exchanges", "feeds": "Quotes", "candles": "Candles"}


def explorer_page(key: dg.AssetKey) -> dict[str, str]:
    """Return the query of the explorer's page for an asset: `page`, and `topic` or `type`."""
    group, name = key.path[0], key.path[-1]
    if group == "topics":
        page = "Dead letters" if name.endswith(DEAD_LETTER_SUFFIX) else "Messages"
        return {"page": page, "topic": name}
    if group == "quarantine":
        return {"page": "Quarantine", "type": name}
    return {"page": _TABLES.get(name, "Quotes") if group == "tables" else _PAGES.get(group, "Messages")}


def with_explorer_link(spec: dg.AssetSpec) -> dg.AssetSpec:
    """Return the asset with a link to the explorer, if one is configured.

    The link is relative to the web UI, which redirects to the explorer with its token.
    """
    if not HomeSettings().explorer_url:
        return spec
    link = dg.MetadataValue.url(f"/explorer?{urlencode(explorer_page(spec.key))}")
    return spec.merge_attributes(metadata={"explorer": link})
