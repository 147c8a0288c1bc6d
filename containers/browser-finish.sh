#!/bin/sh
# Last step of both ways to build the browser image: an ordinary user, and nothing that differs from build to build.
set -eu
id agent >/dev/null 2>&1 || useradd --create-home --shell /bin/sh --uid 1000 agent
apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/debconf/*-old /var/log/*.log /var/log/apt /var/cache/ldconfig/*
rm -rf /usr/share/man /usr/share/locale/* /usr/share/doc/* /tmp/* /var/tmp/*
rm -f /etc/resolv.conf /etc/apt/sources.list.d/* /etc/apt/apt.conf.d/*proxy*
: >/etc/apt/sources.list
: >/etc/machine-id
echo browser >/etc/hostname
