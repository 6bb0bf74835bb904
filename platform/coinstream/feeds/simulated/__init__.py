"""A simulated exchange: a local server that speaks real exchanges' protocols, with faults on demand.

with SimulatedExchange(["BTC/USDT"], rate=1000) as exchange:
    exchange.ws_url("binance")      # ws://127.0.0.1:…/binance
    exchange.faults.garble = 0.01   # from now on one frame in a hundred is cut short
"""

from coinstream.feeds.simulated.exchange import SimulatedExchange
from coinstream.feeds.simulated.faults import Faults
from coinstream.feeds.simulated.market import Recorded, Tick

__all__ = ["Faults", "Recorded", "SimulatedExchange", "Tick"]
