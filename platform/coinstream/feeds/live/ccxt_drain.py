"""Turn off the buffer drain of ccxt's websocket client, which loses frames and pauses the connection.

Before each read ccxt takes all frames but one from aiohttp's queue. Of several buffered updates only the
first reaches the caller. The byte count of the removed frames is not released, so aiohttp pauses reading
permanently after about 4,096 of them. Without the drain ccxt reads frame by frame.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any, Final

log = logging.getLogger(__name__)

TESTED: Final = (4, 5)
"""Major and minor version of ccxt whose client is patched."""


@cache
def disable() -> bool:
    """Turn off the drain for the whole process.

    Returns:
        Whether it is off, which requires the tested version of ccxt.
    """
    import ccxt.pro
    from ccxt.async_support.base.ws.client import Client

    version = tuple(int(part) for part in ccxt.pro.__version__.split(".")[:2])
    if version != TESTED or not hasattr(Client, "buffer"):
        log.warning(
            "ccxt %s is not a version whose frame loss is known to be avoided (%s); quotes may be lost",
            *(ccxt.pro.__version__, ".".join(map(str, TESTED))),
        )
        return False
    Client.buffer = property(_nothing)
    return True


def _nothing(client: Any) -> None:
    """Return no buffer, so that there is nothing to drain."""
