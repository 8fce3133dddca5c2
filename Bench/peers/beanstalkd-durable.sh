#!/bin/sh
# beanstalkd-durable.sh PORT DIRECTORY: a beanstalkd on loopback, in the foreground, its log in DIRECTORY.
#
# -f0: it syncs each write before it answers.
set -eu
mkdir -p "$2/log"
exec beanstalkd -l 127.0.0.1 -p "$1" -b "$2/log" -f0
