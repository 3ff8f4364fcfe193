/** Text from outside on one line of a terminal: no control or direction characters, cut to `width`. */
export function plain(text: string, width: number): string {
  const characters = [...text.replace(/[\p{C}\p{Zl}\p{Zp}]+/gu, ' ')];
  return characters.length > width ? `${characters.slice(0, Math.max(0, width - 1)).join('')}…` : characters.join('');
}
