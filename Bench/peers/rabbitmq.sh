#!/bin/sh
# rabbitmq.sh PORT DIRECTORY: RabbitMQ with its STOMP plugin on loopback, in the foreground, its files in DIRECTORY.
#
# The node has a name and a port mapper of its own, so that it meets no other node of this machine. The mapper is killed
# by the kernel when the node ends (PR_SET_PDEATHSIG), since the node is this process. Prefetch is unlimited where the
# client names none, and the user guest is allowed on loopback: both are defaults. The virtual host is what clients say.
set -eu
port=$1
directory=$2

cat >"$directory/rabbitmq.conf" <<END
stomp.listeners.tcp.1 = 127.0.0.1:$port
listeners.tcp = none
log.console = true
log.console.level = error
log.file = false
disk_free_limit.absolute = 1MB
default_vhost = localhost
END
echo '[rabbitmq_stomp].' >"$directory/enabled_plugins"

# Names and ports that differ where PORT does; below the range of ephemeral ports.
export ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=$((port % 10000 + 11000))
setpriv --pdeathsig KILL epmd &

export HOME="$directory"
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}"
export RABBITMQ_NODENAME="bench-$port@localhost" RABBITMQ_DIST_PORT=$((port % 10000 + 21000))
export RABBITMQ_CONFIG_FILE="$directory/rabbitmq.conf" RABBITMQ_ENABLED_PLUGINS_FILE="$directory/enabled_plugins"
export RABBITMQ_MNESIA_BASE="$directory/mnesia" RABBITMQ_LOG_BASE="$directory" RABBITMQ_LOGS=-
export RABBITMQ_PID_FILE="$directory/pid" RABBITMQ_CONF_ENV_FILE=/dev/null
# As under systemd, the script becomes the server instead of waiting for it.
export RUNNING_UNDER_SYSTEMD=true
exec /usr/lib/rabbitmq/bin/rabbitmq-server
