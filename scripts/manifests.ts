/**
 * `npm run manifests`: the chart's copies of the alerts and the dashboard, and examples/kubernetes, which is the chart rendered for those who
 * have no helm. A test compares. Needs Go with sprig.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { helm, type Render } from '../test/e2e/support/helm.js';

const examples = fileURLToPath(new URL('../examples', import.meta.url));

const namespace = `apiVersion: v1
kind: Namespace
metadata:
  name: holdfast
  labels:
    # Host paths and the host's network.
    pod-security.kubernetes.io/enforce: privileged
`;

/** @returns Texts of files that are copies of others, by their names below examples/. */
export function chartFiles(): Record<string, string> {
  const read = (name: string) => readFileSync(path.join(examples, name), 'utf8');
  return {
    'helm/holdfast/files/alerts.yaml': read('prometheus/alerts.yaml'),
    'helm/holdfast/files/dashboard.json': read('grafana/holdfast.json'),
  };
}

/** @returns Texts of the manifests, by their names below examples/. */
export async function manifests(render: Render): Promise<Record<string, string>> {
  const [plain, uninstalling, monitoring] = [
    await render(),
    await render({ uninstall: { nodes: ['NODE'] } }),
    await render({ podMonitor: { enabled: true }, prometheusRule: { enabled: true } }),
  ];
  return {
    'kubernetes/holdfast.yaml': manifest(namespace, plain['serviceaccount.yaml'], plain['daemonset.yaml']),
    'kubernetes/uninstall.yaml': manifest(uninstalling['uninstall.yaml']),
    'kubernetes/monitoring.yaml': manifest(monitoring['monitoring.yaml']),
  };
}

function manifest(...documents: readonly (string | undefined)[]): string {
  const texts = documents.map((text = '') =>
    text
      .replaceAll(/^ *(helm\.sh\/chart|app\.kubernetes\.io\/managed-by): .*\n/gm, '')
      .replace(/^\s*(---\n)?/, '')
      .trimEnd(),
  );
  return `# Made from examples/helm/holdfast by npm run manifests.\n${texts.join('\n---\n')}\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const write = (files: Record<string, string>) => {
    for (const [name, text] of Object.entries(files)) writeFileSync(path.join(examples, name), text);
  };
  write(chartFiles());
  const directory = mkdtempSync(path.join(tmpdir(), 'hfhelm-'));
  try {
    write(await manifests(await helm(directory)));
  } finally {
    rmSync(directory, { recursive: true });
  }
}
