"""Link each asset to its page of the explorer."""

from typing import Final
from urllib.parse import urlencode

import dagster as dg

from coinstream.messages import MESSAGE_TYPES
from coinstream.settings import HomeSettings
from coinstream.topics.catalogue import DEAD_LETTER_SUFFIX

_PAGES: Final = {
    **{"exchanges": "Exchanges", "feeds": "Quotes", "candles": "Candles", "tables/level1": "Quotes"},
    **{"tables/ohlcv": "Candles", "tables/quarantine": "Quarantine", "tables/flagged": "Quarantine"},
}


def explorer_page(key: dg.AssetKey) -> dict[str, str]:
    """Return the query of the explorer's page for an asset: `page`, and `topic` or `type`."""
    group, name = key.path[0], key.path[-1]
    if group == "topics":
        page = "Dead letters" if name.endswith(DEAD_LETTER_SUFFIX) else "Messages"
        return {"page": page, "topic": name}
    if group == "quarantine":
        return {"page": "Quarantine", "type": name}
    page = _PAGES.get(f"{group}/{name}", _PAGES.get(group, "Messages"))
    if group == "tables" and page == "Messages" and name in MESSAGE_TYPES:
        return {"page": page, "topic": MESSAGE_TYPES[name].topic}
    return {"page": page}


def with_explorer_link(spec: dg.AssetSpec) -> dg.AssetSpec:
    """Return the asset with a link to the explorer, if one is configured.

    The link is relative to the web UI, which redirects to the explorer with its token.
    """
    if not HomeSettings().explorer_url:
        return spec
    link = dg.MetadataValue.url(f"/explorer?{urlencode(explorer_page(spec.key))}")
    return spec.merge_attributes(metadata={"explorer": link})
