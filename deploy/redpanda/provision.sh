#!/bin/sh
# Creates the platform's user and its access rules, as the administrator. Safe to run again.
set -eu
export RPK_BROKERS=redpanda-0:9092,redpanda-1:9092,redpanda-2:9092
export RPK_ADMIN_HOSTS=redpanda-0:9644,redpanda-1:9644,redpanda-2:9644
export RPK_USER=admin RPK_PASS="$ADMIN_PASSWORD" RPK_SASL_MECHANISM=SCRAM-SHA-256

if ! rpk security user list | grep -qw coinstream; then
  rpk security user create coinstream --password "$COINSTREAM_PASSWORD" --mechanism SCRAM-SHA-256
fi
# Its own topics and groups, and what provisioning and lag need to see. Not users, not access rules.
for prefix in crypto- health-check; do
  rpk security acl create --allow-principal User:coinstream \
    --topic "$prefix" --resource-pattern-type prefixed \
    --operation read,write,create,describe,describe-configs,alter,alter-configs
done
rpk security acl create --allow-principal User:coinstream --group '*' --operation read,describe
rpk security acl create --allow-principal User:coinstream --topic '*' --operation describe,describe-configs
rpk security acl create --allow-principal User:coinstream --cluster --operation describe
rpk security acl create --allow-principal User:coinstream --transactional-id 'coinstream' \
  --resource-pattern-type prefixed --operation write,describe
