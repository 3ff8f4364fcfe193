#!/bin/bash
# A node: a real systemd as the first process of namespaces of its own, with only the units of a folder. boot.sh STATE UNITS REPOSITORY.
# What it writes to /etc, /opt, /usr/local and /var/lib is in STATE, so that it can be booted again. Nothing of the machine's own units is
# there: its systemd-tmpfiles would empty the machine's /tmp.
set -e
for h in /sys/fs/cgroup/*/; do mkdir -p "$h/holdfast-node" && echo $$ > "$h/holdfast-node/cgroup.procs"; done 2>/dev/null || true
exec unshare --kill-child --pid --fork --mount --uts --ipc --cgroup --net --mount-proc --propagation private /bin/bash -ec '
state=$0 units=$1 repository=$2
ip link set lo up
for folder in etc opt usr/local var/lib; do
  mkdir -p "$state/$folder" "$state/work/$folder"
  mount -t overlay overlay -o "lowerdir=/$folder,upperdir=$state/$folder,workdir=$state/work/$folder" "/$folder"
done
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/systemd /run/units
mount -t tmpfs tmpfs /run/units
for target in basic default exit final local-fs local-fs-pre multi-user paths shutdown slices sockets sysinit timers umount; do
  printf "[Unit]\nDescription=%s\nDefaultDependencies=no\n" "$target" > "/run/units/$target.target"
done
printf "Requires=sysinit.target\nAfter=sysinit.target\n" >> /run/units/basic.target
printf "Requires=basic.target\nAfter=basic.target\n" >> /run/units/multi-user.target
mount --bind /run/units /lib/systemd/system
if [ ! -e "$state/booted" ]; then
  rm -rf /etc/systemd/system/* && cp -a "$units"/. /etc/systemd/system/ && touch "$state/booted"
fi
# Should anything empty /tmp all the same, it is not the one of the machine.
mkdir -p /run/repository && mount --bind "$repository" /run/repository && mount -o remount,bind,ro /run/repository
mount -t tmpfs tmpfs /tmp
case $repository in /tmp/*) mkdir -p "$repository" && mount --bind /run/repository "$repository";; esac
umount -R /sys/fs/cgroup
mount -t tmpfs tmpfs /sys/fs/cgroup
mkdir /sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
exec env -i container=unshare PATH="$PATH" /lib/systemd/systemd --system --unit=multi-user.target --log-target=console --show-status=false
' "$1" "$2" "$3"
