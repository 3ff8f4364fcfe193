/** The version of this program, as its package says. */
import { shippedText } from '../shipped.js';

const manifest: unknown = JSON.parse(shippedText('package.json'));

export const version =
  typeof manifest === 'object' && manifest !== null && 'version' in manifest ? String(manifest.version) : 'unknown';
