"""Connect to Kraken spot: websocket v2 live, v1 and v2 from recordings, order books over REST.

Source: "Spot WebSocket v1", "Spot WebSocket v2" and "Book checksum" (https://docs.kraken.com/api/, read
2026-11-26):

- v1 frames are `[channel id, payload..., channel name, pair]`. A book starts with `as` and `bs` and changes
  with `a`, `b` or both as two objects. v2 frames are objects with `channel`, `type` and `data`.
- A level beyond the subscribed depth gets no removal: the client cuts the book to its depth.
- The checksum is the CRC-32 of the best ten asks and bids as text, without point and leading zeros.
- v2 trade ids grow by one per symbol. A ticker of v1 has no time.
"""

from coinstream.feeds.exchanges.kraken.adapter import KrakenAdapter
from coinstream.feeds.exchanges.kraken.parser import KrakenParser

__all__ = ["KrakenAdapter", "KrakenParser"]
