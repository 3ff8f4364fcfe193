#!/bin/bash
# The first process of new namespaces becomes systemd: boot.sh DIRECTORY REPOSITORY NODE. It knows no units but those in DIRECTORY/units: with
# the machine's own, sysinit.target would come, and with it what empties /tmp and sets up the machine. It can write nowhere but in DIRECTORY:
# /etc, /opt, /usr/local and /var are copies that are kept there, /run, /tmp and /dev/shm are its own, and everything else is read-only.
set -eu
dir=$1 repository=$2 node=$3

ip link set lo up
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/systemd /run/test /run/repository /run/machine-tmp
touch /run/node
mount --bind "$dir" /run/test
mount --bind "$repository" /run/repository
mount --bind "$node" /run/node
mount --bind /tmp /run/machine-tmp
for place in /run/repository /run/node /run/machine-tmp; do mount -o remount,bind,ro "$place"; done

for changed in /etc /opt /usr/local /var; do
  mkdir -p "$dir/copies$changed" "$dir/work$changed"
  mount -t overlay overlay -o "lowerdir=$changed,upperdir=$dir/copies$changed,workdir=$dir/work$changed" "$changed"
done
mkdir -p /etc/systemd/system
mount --bind /run/test/units /etc/systemd/system

if [ -d /sys/fs/cgroup/systemd ]; then
  umount -l /sys/fs/cgroup/*/ /sys/fs/cgroup 2>/dev/null || true
  mount -t tmpfs tmpfs /sys/fs/cgroup
  mkdir /sys/fs/cgroup/systemd
  mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
else
  umount -l /sys/fs/cgroup
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi

mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /dev/shm
# systemd's own log.
mkfifo /run/kmsg
mount --bind /run/kmsg /dev/kmsg
cat <>/dev/kmsg &
for file in /proc/sys /proc/sysrq-trigger; do [ ! -e "$file" ] || mount --bind "$file" "$file"; done

# Of what is mounted, what is not its own.
others() {
  while read -r _ place _; do
    case $place in
      /proc | /run | /run/test | /tmp | /dev/shm | /etc | /etc/systemd/system | /opt | /usr/local | /var | /sys/fs/cgroup*) ;;
      *) printf '%b\n' "${place//\\/\\0}" ;;
    esac
  done </proc/self/mounts
}
# What is hidden by other mounts cannot be found by its path any more, and need not be read-only.
others | while read -r place; do mount -o remount,bind,ro "$place" 2>/dev/null || true; done
# Where such a path leads into a copy now, what is written there stays in it.
own=" $(stat -c %d /run /tmp /dev/shm /etc /opt /usr/local /var | tr '\n' ' ')"
is_own() {
  folder=$1
  [ -d "$folder" ] || folder=${folder%/*}
  [[ $own == *" $(stat -c %d "$folder" 2>/dev/null || echo none) "* ]]
}
# Proven, since all that follows relies on it.
refuse_writable() { [ -c "$1" ] || [ -p "$1" ] || [ ! -w "$1" ] || { echo "$1 could be written" && exit 1; }; }
for place in /run/repository /run/node /run/machine-tmp; do refuse_writable "$place"; done
others | while read -r place; do is_own "$place" || refuse_writable "$place"; done

exec env -i container=unshare PATH="$PATH" SYSTEMD_UNIT_PATH=/etc/systemd/system:/run/systemd/transient SYSTEMD_LOG_LEVEL=info \
  /lib/systemd/systemd --system --unit=multi-user.target --log-target=kmsg --show-status=false
