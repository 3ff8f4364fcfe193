/** Where everything of Holdfast is on a node. */
export const paths = {
  /** The folder that is Holdfast's alone. */
  program: '/opt/holdfast',
  node: '/opt/holdfast/bin/node',
  launcher: '/opt/holdfast/bin/holdfast',
  bundle: '/opt/holdfast/lib/holdfast.mjs',
  link: '/usr/local/bin/holdfast',
  config: '/etc/holdfast.yaml',
  units: '/etc/systemd/system',
  socket: '/run/holdfast/holdfast.sock',
  adminSocket: '/run/holdfast/admin.sock',
  /** There while systemd-socket-proxyd stands in for Holdfast: `<ISO time> <why>`. */
  bypassed: '/run/holdfast/bypassed',
  /** What install remembers. */
  state: '/var/lib/holdfast',
} as const;

/** What holdfast.service is started with, beside its units. */
export const programFiles = [paths.node, paths.bundle, paths.launcher, paths.config] as const;

/** As the kubelet is told it. */
export const holdfastEndpoint = `unix://${paths.socket}`;

/** Of those that are installed; the first takes connections. */
export const unitNames = [
  'holdfast.socket',
  'holdfast.service',
  'holdfast-bypass.service',
  'holdfast-retry.service',
  'holdfast-retry.timer',
] as const;
