#!/bin/sh
# Create the platform's user and its access rules, as the administrator. Safe to run again: it then sets the password.
# Passwords go through the environment and standard input, never through a command line, which others can list.
set -eu
ADMIN_API=http://redpanda-0:9644
export RPK_BROKERS=redpanda-0:9092,redpanda-1:9092,redpanda-2:9092
export RPK_ADMIN_HOSTS=redpanda-0:9644,redpanda-1:9644,redpanda-2:9644
export RPK_USER=admin RPK_PASS="$ADMIN_PASSWORD" RPK_SASL_MECHANISM=SCRAM-SHA-256

# A value within double quotes, for JSON and for curl's configuration.
quoted() {
  printf '%s' "$1" | sed 's/[\\"]/\\&/g'
}

# admin_api METHOD PATH: send the body in $BODY; curl reads credentials and body from its standard input.
admin_api() {
  curl --silent --show-error --fail --config - <<END
user = "admin:$(quoted "$ADMIN_PASSWORD")"
request = "$1"
url = "$ADMIN_API$2"
header = "content-type: application/json"
data = "$(quoted "$BODY")"
END
}

BODY="{\"username\": \"coinstream\", \"password\": \"$(quoted "$COINSTREAM_PASSWORD")\", \"algorithm\": \"SCRAM-SHA-256\"}"
if rpk security user list | grep -qw coinstream; then
  admin_api PUT /v1/security/users/coinstream
else
  admin_api POST /v1/security/users
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
