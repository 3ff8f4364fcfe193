/**
 * The way back that needs neither Holdfast nor Node nor the process that installs: a shell script, and a unit that runs it when the
 * time to confirm is over, or at the next boot before the kubelet.
 *
 * Three files in /var/lib/holdfast say where a switch stands: `unconfirmed` from before the first change until it is confirmed or
 * reverted (whoever renames it has decided), `reverting` while the script is at work or was in vain, `reverted` when it is done. A
 * fourth, `restart-due`, is of `uninstall`: the kubelet's files are as before, and it has not been started with them yet.
 */
import { paths } from './paths.js';
import type { RecordedChange } from './record.js';
import { quoted } from './shell.js';
import type { WayBack } from './way-back.js';

export const marks = {
  unconfirmed: `${paths.state}/unconfirmed`,
  reverting: `${paths.state}/reverting`,
  reverted: `${paths.state}/reverted`,
  restartDue: `${paths.state}/restart-due`,
  script: `${paths.state}/revert.sh`,
} as const;

export const revert: WayBack = {
  unit: 'holdfast-revert.service',
  timer: 'holdfast-revert.timer',
  script: marks.script,
  pending: marks.unconfirmed,
  undoing: marks.reverting,
  undone: marks.reverted,
};

export interface Reverting {
  /** What is started anew. */
  readonly kubeletUnit: string;
  /** Holdfast's. */
  readonly endpoint: string;
  /** The runtime's, for a file that was changed by hand since and said none before. */
  readonly fallback: string;
}

/** @param changes In the order in which they are made; they are undone in the opposite one. */
export function revertScript(
  changes: readonly RecordedChange[],
  { kubeletUnit, endpoint, fallback }: Reverting,
): string {
  const calls = [...changes].reverse().map(({ file, kind, previous, before, after }) => {
    if (before !== undefined) return `put_back ${[file, before, after, previous ?? fallback].map(quoted).join(' ')}`;
    return `take_away ${[file, after, kind === 'config' ? '' : (previous ?? fallback)].map(quoted).join(' ')}`;
  });
  return `#!/bin/sh
# Made by holdfast install. Puts the kubelet's endpoint back, unless the switch to Holdfast has been confirmed.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# HOLDFAST_ROOT is for tests.
root=$HOLDFAST_ROOT
state=$root${paths.state}
endpoint=${quoted(endpoint)}
mv "$state/unconfirmed" "$state/reverting" 2>/dev/null || [ -e "$state/reverting" ] || exit 0

# A whole file at any time, with the owner, mode and label of the one that is there. A link stays one.
replace() { # file, new content on stdin
  to=$(readlink -f "$1")
  cp -a "$to" "$to.holdfast-revert" 2>/dev/null
  cat > "$to.holdfast-revert" && { sync "$to.holdfast-revert" || true; } && mv -f "$to.holdfast-revert" "$to" && return
  rm -f "$to.holdfast-revert"
  return 1
}
put_back() { # file, copy of what it was, copy of what it became, endpoint
  cmp -s "$root$1" "$root$2" && return
  if [ ! -e "$root$1" ] || cmp -s "$root$1" "$root$3"; then replace "$root$1" < "$root$2"
  else sed "s|$endpoint|$4|g" "$root$1" > "$state/new" && replace "$root$1" < "$state/new"
  fi
}
take_away() { # file, copy of what it became, endpoint or nothing for a file that can do without
  [ -e "$root$1" ] || return 0
  if cmp -s "$root$1" "$root$2"; then rm -f "$root$1"
  elif [ -n "$3" ]; then sed "s|$endpoint|$3|g" "$root$1" > "$state/new" && replace "$root$1" < "$state/new"
  else sed "\\|$endpoint|d" "$root$1" > "$state/new" && replace "$root$1" < "$state/new"
  fi
}
revert() {
  failed=
${calls.map((call) => `  ${call} || failed=1`).join('\n')}
  rm -f "$state/new"
  [ -z "$failed" ]
}
# A disk that is full may not be in a moment.
tries=1
until revert || [ $tries -ge 20 ]; do
  tries=$((tries + 1))
  sleep 3
done
systemctl daemon-reload
systemctl reset-failed ${quoted(kubeletUnit)} 2>/dev/null
# At boot the kubelet waits for this script.
systemctl --no-block restart ${quoted(kubeletUnit)}
if [ -n "$failed" ]; then
  echo "the kubelet's endpoint could not be put back everywhere; it is tried again at the next boot"
  exit 1
fi
# The marks may be on another file system: none of them is true before all else is.
sync
date -u +%Y-%m-%dT%H:%M:%SZ > "$state/reverted"
rm -f "$state/reverting"
sync
echo "the kubelet's endpoint is what it was before Holdfast: the switch was not confirmed"
`;
}

/** @param kubeletUnit Started only after this at boot. */
export function revertUnitText(kubeletUnit: string): string {
  return `# Made by holdfast install; gone as soon as the switch to Holdfast is confirmed or taken back.
[Unit]
Description=Put the kubelet's endpoint back where the switch to Holdfast was not confirmed
ConditionPathExists=|${marks.unconfirmed}
ConditionPathExists=|${marks.reverting}
Before=${kubeletUnit}

[Service]
Type=oneshot
ExecStart=/bin/sh ${marks.script}

[Install]
WantedBy=multi-user.target
`;
}
