"""Quix Streams: a typed deserializer and one step per message; commits once a second."""

from __future__ import annotations

import sys
from typing import Any

from quixstreams import Application
from quixstreams.models.serializers import Deserializer
from work import Tally, decode


class Typed(Deserializer):
    """The value as a `Level1`."""

    def __call__(self, value: bytes, ctx: Any) -> Any:
        return decode(value)


def run(bootstrap: str, topic: str, group: str, messages: int) -> None:
    tally = Tally("quixstreams", messages)
    application = Application(
        bootstrap,
        consumer_group=group,
        auto_offset_reset="earliest",
        commit_interval=1.0,
        auto_create_topics=False,
        loglevel="ERROR",
        consumer_extra_config={"fetch.wait.max.ms": 100},
    )
    frame = application.dataframe(application.topic(topic, value_deserializer=Typed()))
    frame.update(tally.add)
    application.run(frame)


run(*sys.argv[1:4], int(sys.argv[4]))
