#!/bin/sh
# valkey.sh PORT DIRECTORY: a Valkey server on loopback, in the foreground, that stores nothing.
#
# Its limit of clients plus 32 has to fit RLIMIT_NOFILE; the comparison has 14,000 of them.
set -eu
ulimit -n "$(ulimit -H -n)"
exec valkey-server --bind 127.0.0.1 --port "$1" --dir "$2" --save "" --appendonly no --maxclients 15000
