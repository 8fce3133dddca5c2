#!/bin/sh
# mosquitto.sh PORT DIRECTORY: an MQTT broker on loopback, in the foreground, its configuration in DIRECTORY.
#
# Whatever waits for a subscriber is kept: by default mosquitto drops what exceeds 1,000 messages.
set -eu
cat >"$2/mosquitto.conf" <<END
listener $1 127.0.0.1
allow_anonymous true
user $(id -un)
persistence false
set_tcp_nodelay true
max_queued_messages 0
log_type error
END
exec mosquitto -c "$2/mosquitto.conf"
