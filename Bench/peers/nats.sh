#!/bin/sh
# nats.sh PORT DIRECTORY: a NATS server on loopback, in the foreground.
#
# Its default of 64 MiB waiting output per client holds more than any window of the load generator.
set -eu
exec nats-server -a 127.0.0.1 -p "$1"
