#!/bin/bash
# Runs boot.sh in new namespaces and in cgroups of its own: supervise.sh DIRECTORY REPOSITORY NODE. It ends when its stdin does, which is
# also when a test that has the other end was killed. Then nothing runs any more and no cgroup is left.
set -eu
# A test that was killed reads no more of what is written to it.
trap '' INT TERM PIPE
exec 3<&0 </dev/null

# One in each hierarchy, so that it touches nobody else's.
cgroups=()
hierarchies=(/sys/fs/cgroup)
[ -e /sys/fs/cgroup/cgroup.procs ] || hierarchies=(/sys/fs/cgroup/*)
for hierarchy in "${hierarchies[@]}"; do
  if [ ! -e "$hierarchy/cgroup.procs" ] || [ -L "$hierarchy" ]; then continue; fi
  cgroup=$hierarchy/$(basename "$1")
  mkdir "$cgroup"
  cgroups+=("$cgroup")
  # Of cpuset; in a new one nothing may run.
  for file in cpuset.cpus cpuset.mems; do
    if [ -e "$cgroup/$file" ] && [ -n "$(cat "$hierarchy/$file")" ]; then cat "$hierarchy/$file" >"$cgroup/$file"; fi
  done
done

(
  # The cgroup namespace begins where it is made.
  for cgroup in "${cgroups[@]}"; do echo "$BASHPID" >"$cgroup/cgroup.procs"; done
  exec unshare --kill-child=KILL --pid --fork --mount --uts --ipc --cgroup --net --mount-proc --propagation private \
    bash "${0%/*}/boot.sh" "$@"
) 3<&- &
systemd=$!
{ read -r _ || true; kill -KILL "$systemd"; } <&3 >/dev/null 2>&1 &
watch=$!
wait "$systemd" || true
kill -KILL "$watch" 2>/dev/null || true

for ((tries = 0; tries < 200; tries++)); do
  left=$(find "${cgroups[@]}" -depth -type d ! -exec rmdir {} \; -print 2>/dev/null || true)
  [ -n "$left" ] || exit 0
  sleep 0.05
done
echo "cgroups that do not end: $left"
exit 1
