/**
 * The way back from an upgrade of Holdfast, which needs neither the old nor the new one: a shell script that puts the program and the
 * units back as they were and starts them anew, and a unit that runs it when the time to confirm is over, or at the next boot.
 *
 * What was there is kept in /opt/holdfast/previous, what takes its place waits in /opt/holdfast/next until it is confirmed, each file
 * below its own path.
 */
import { paths } from './paths.js';
import { quoted } from './shell.js';
import type { WayBack } from './way-back.js';

export const keptIn = `${paths.program}/previous`;
export const waitsIn = `${paths.program}/next`;

export const rollback: WayBack = {
  unit: 'holdfast-rollback.service',
  timer: 'holdfast-rollback.timer',
  script: `${paths.state}/rollback.sh`,
  /** `<ISO time> <digest> <version>`, of what is new. */
  pending: `${paths.state}/upgrading`,
  undoing: `${paths.state}/rolling-back`,
  /** The same, with the time at which it was taken back. */
  undone: `${paths.state}/rolled-back`,
};

export interface Replaced {
  readonly file: string;
  /** Whether there was one, which is kept. */
  readonly isKept: boolean;
}

/** It is let go of only once an upgrade is confirmed or undone: a power cut may have brought the mark back. */
const nothingKept = `if [ ! -d "$kept" ]; then
  rm -f "$state/rolling-back"
  echo "nothing of before the upgrade is kept any more: it was confirmed or undone"
  exit 0
fi
`;

/** @param replaced In the order in which they are put in place; they are undone in the opposite one. */
export function rollbackScript(replaced: readonly Replaced[]): string {
  const calls = [...replaced].reverse().map(({ file, isKept }) => {
    return `${isKept ? 'put_back' : 'take_away'} ${quoted(file)}`;
  });
  return `#!/bin/sh
# Made by holdfast install. Puts back the Holdfast that was here before an upgrade, unless that has been confirmed.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# HOLDFAST_ROOT is for tests.
root=$HOLDFAST_ROOT
state=$root${paths.state}
kept=$root${keptIn}
mv "$state/upgrading" "$state/rolling-back" 2>/dev/null || [ -e "$state/rolling-back" ] || exit 0
${replaced.some(({ isKept }) => isKept) ? nothingKept : ''}
# A whole file at any time; it takes no room, unless it is on another file system. A link stays one.
put_back() { # file
  to=$(readlink -f "$root$1")
  [ "$to" -ef "$kept$1" ] && return
  rm -f "$to.holdfast-rollback"
  { ln "$kept$1" "$to.holdfast-rollback" 2>/dev/null || cp -a "$kept$1" "$to.holdfast-rollback"; } &&
    { sync "$to.holdfast-rollback" || true; } && mv -f "$to.holdfast-rollback" "$to" && return
  rm -f "$to.holdfast-rollback"
  return 1
}
take_away() { # file
  case $1 in *.service | *.socket | *.timer) systemctl disable "\${1##*/}" 2>/dev/null; systemctl --no-block stop "\${1##*/}" ;; esac
  rm -f "$root$1"
}
roll_back() {
  failed=
${calls.map((call) => `  ${call} || failed=1`).join('\n')}
  [ -z "$failed" ]
}
# A disk that is full may not be in a moment.
tries=1
until roll_back || [ $tries -ge 20 ]; do
  tries=$((tries + 1))
  sleep 3
done
# In this order systemd keeps the socket: startAnew() of systemctl.ts.
systemctl daemon-reload
systemctl reset-failed holdfast.service 2>/dev/null
# At boot Holdfast waits for this script.
systemctl --no-block restart holdfast.service
if [ -n "$failed" ]; then
  echo "the Holdfast that was here before could not be put back whole; it is tried again at the next boot"
  exit 1
fi
read -r since what < "$state/rolling-back"
# The marks may be on another file system: none of them is true before all else is.
sync
echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) $what" > "$state/rolled-back"
rm -f "$state/rolling-back"
sync
echo "Holdfast is what it was before the upgrade of $since, which was not confirmed"
`;
}

export const rollbackUnitText = `# Made by holdfast install; gone as soon as the upgrade is confirmed or taken back.
[Unit]
Description=Put back the Holdfast from before an upgrade that was not confirmed
ConditionPathExists=|${rollback.pending}
ConditionPathExists=|${rollback.undoing}
Before=holdfast.service

[Service]
Type=oneshot
ExecStart=/bin/sh ${rollback.script}

[Install]
WantedBy=multi-user.target
`;
