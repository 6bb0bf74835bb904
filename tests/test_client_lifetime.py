"""Test that clients can be freed in threads of librdkafka."""

from __future__ import annotations

import subprocess
import sys

import pytest

from coinstream.local_broker import LocalBroker

PROGRAM = """
import gc, sys, threading
from confluent_kafka import TopicCollection
from coinstream.kafka import admin_client, _stranded
from coinstream.producer.pooled_producer import PooledProducer
from coinstream.settings import BrokerSettings

brokers = BrokerSettings(brokers=sys.argv[1])
gc.disable()

def ask(admin):
    return admin.describe_topics(TopicCollection(["no-such-topic"]), request_timeout=30)["no-such-topic"]

def leave_a_client_in_a_cycle():
    # As an exception does, whose traceback holds the frame that holds the exception.
    admin = admin_client(brokers)
    frame = [admin]
    frame.append(frame)
    assert ask(admin).exception(30) is not None

leave_a_client_in_a_cycle()
admin = admin_client(brokers)
collected = threading.Event()

def collect(_):
    gc.collect()
    print(threading.current_thread().name, len(_stranded), flush=True)
    collected.set()

# Registered before the answer comes, so that it runs in librdkafka's thread.
ask(admin).add_done_callback(collect)
assert collected.wait(120)
admin_client(brokers)
assert not _stranded
print("well", flush=True)
"""


def test_garbage_is_collected_in_a_thread_of_librdkafka(broker: LocalBroker) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, broker.bootstrap],
        env={"PYTHONPATH": ":".join(sys.path), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    where, well = done.stdout.splitlines()
    if not where.startswith("Dummy-"):
        pytest.skip("the answer came before the callback was registered: nothing was shown")
    assert (where.split()[1], well) == ("1", "well")
