"""Run three brokers, a load and its check in a network namespace whose loopback delays and loses packets.

Started by `test_namespace.py` as `unshare --net … python -m tests.faults.in_namespace HOME`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic

from coinstream.local_broker import LocalBroker
from tests.faults.delivery_check import check_delivery, read_all
from tests.faults.load import KEPT, Load
from tests.support import wait_until

TOPIC = "namespace"
MESSAGES = 2000


def main(home: str) -> int:
    with LocalBroker(Path(home), nodes=3, port=0, heap_mb=256) as cluster:
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
        admin.create_topics([NewTopic(TOPIC, 6, 3, config=KEPT)])[TOPIC].result(60)
        with Load(cluster.bootstrap, TOPIC) as load:
            wait_until(lambda: load.acknowledged >= MESSAGES, 300, "messages are acknowledged")
            acknowledged = load.finish()
        faults = check_delivery(acknowledged, read_all(cluster.bootstrap, TOPIC))
    print(len(acknowledged), faults)
    return 0 if faults.is_clean else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
