#!/bin/sh
# beanstalkd.sh PORT DIRECTORY: a beanstalkd on loopback, in the foreground. It stores nothing: no binlog.
set -eu
exec beanstalkd -l 127.0.0.1 -p "$1"
