#!/bin/sh
# activemq.sh PORT DIRECTORY: ActiveMQ Classic with a STOMP connector on loopback, in the foreground, its files in DIRECTORY.
#
# A persistent message is synced before its RECEIPT. Each connection stores what it receives, so that connections which
# wait at the same time share a sync. By default one thread stores for all, with a sync for each message. The messages of all
# windows fit in memory, and a destination may use all of it, so that no publisher is held up. README.md has the reasons.
set -eu
port=$1
directory=$2

cat >"$directory/activemq.xml" <<END
<beans xmlns="http://www.springframework.org/schema/beans">
  <broker xmlns="http://activemq.apache.org/schema/core" brokerName="bench" dataDirectory="$directory"
      useJmx="false" schedulerSupport="false" advisorySupport="false">
    <persistenceAdapter>
      <kahaDB directory="$directory/kahadb" journalDiskSyncStrategy="always"
          concurrentStoreAndDispatchQueues="false"/>
    </persistenceAdapter>
    <destinationPolicy><policyMap><policyEntries>
      <policyEntry queue=">" expireMessagesPeriod="0"/>
    </policyEntries></policyMap></destinationPolicy>
    <systemUsage><systemUsage>
      <memoryUsage><memoryUsage limit="1 gb"/></memoryUsage>
    </systemUsage></systemUsage>
    <transportConnectors><transportConnector uri="stomp://127.0.0.1:$port"/></transportConnectors>
  </broker>
</beans>
END
cat >"$directory/log4j.properties" <<END
log4j.rootLogger=ERROR, console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.layout=org.apache.log4j.SimpleLayout
END

# The program `activemq` of the package runs Java in the background, under a user of its own. This script becomes Java.
home=/usr/share/activemq
exec java -Xmx2g -XX:-UsePerfData \
    -Dlog4j.configuration="file:$directory/log4j.properties" -Djava.io.tmpdir="$directory" \
    -Dactivemq.home=$home -Dactivemq.base="$directory" -Dactivemq.conf="$directory" -Dactivemq.data="$directory" \
    -jar $home/bin/activemq.jar start "xbean:file:$directory/activemq.xml?validate=false"
