#!/bin/sh
# nats-durable.sh PORT DIRECTORY: a NATS server with JetStream on loopback, in the foreground, its streams in DIRECTORY.
#
# Each message is synced before it is confirmed: by default the server syncs every two minutes. What waits for a stream is
# bounded by more than all windows together, so that it refuses nobody.
set -eu
cat >"$2/nats.conf" <<END
listen: 127.0.0.1:$1
jetstream {
    store_dir: "$2/jetstream"
    sync_interval: always
    max_memory_store: 8GB
    max_file_store: 64GB
    max_buffered_msgs: 1000000
    max_buffered_size: 4GB
}
END
exec nats-server -c "$2/nats.conf"
