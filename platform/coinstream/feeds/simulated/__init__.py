"""Simulate an exchange: a local server with the protocols of real exchanges and faults on demand.

with SimulatedExchange(["BTC/USDT"], rate=1000) as exchange:
    exchange.ws_url("binance")      # ws://127.0.0.1:…/binance
    exchange.faults.garble = 0.01   # truncate one frame in a hundred
"""

from coinstream.feeds.simulated.exchange import SimulatedExchange
from coinstream.feeds.simulated.market import Recorded, Tick
from coinstream.feeds.simulated.venue import Faults

__all__ = ["Faults", "Recorded", "SimulatedExchange", "Tick"]
