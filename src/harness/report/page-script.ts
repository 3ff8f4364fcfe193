/** What the page does: tabs by the pattern of WAI-ARIA, and the events of the row that is pointed at or focused. */
export const script = `
const tabs = [...document.querySelectorAll('[role=tab]')];
const panels = document.querySelector('.panels');
const [heading, list] = panels.querySelector('aside').children;

function choose(tab) {
  for (const other of tabs) {
    const chosen = other === tab;
    other.setAttribute('aria-selected', chosen);
    other.tabIndex = chosen ? 0 : -1;
    document.getElementById(other.getAttribute('aria-controls')).hidden = !chosen;
  }
  tell(panels.querySelector('[role=tabpanel]:not([hidden]) .row[tabindex="0"]'));
}

function tell(row) {
  for (const told of panels.querySelectorAll('.told')) told.classList.remove('told');
  row?.classList.add('told');
  heading.textContent = row?.querySelector('.name').textContent ?? '';
  const events = row?.querySelector('.events').cloneNode(true);
  if (events) events.hidden = false;
  list.replaceChildren(...(events ? [events] : []));
}

/** The item that an arrow key, Home or End leads to. */
function target(event, items, back, on) {
  const at = items.indexOf(event.target.closest('[role=tab], .row'));
  const to = { [back]: at - 1, [on]: at + 1, Home: 0, End: items.length - 1 }[event.key];
  if (to === undefined || at < 0) return;
  event.preventDefault();
  return items[(to + items.length) % items.length];
}

for (const tab of tabs) {
  tab.addEventListener('click', () => choose(tab));
  tab.addEventListener('keydown', (event) => {
    const next = target(event, tabs, 'ArrowLeft', 'ArrowRight');
    if (next) { choose(next); next.focus(); }
  });
}
panels.addEventListener('keydown', (event) => {
  target(event, [...panels.querySelectorAll('[role=tabpanel]:not([hidden]) .row')], 'ArrowUp', 'ArrowDown')?.focus();
});
panels.addEventListener('focusin', ({ target }) => {
  const row = target.closest('.row');
  if (!row) return;
  for (const other of row.parentElement.children) other.tabIndex = other === row ? 0 : -1;
  tell(row);
});
panels.addEventListener('pointerover', ({ target }) => {
  const row = target.closest('.row');
  if (row) tell(row);
});
if (tabs[0]) choose(tabs[0]);
`;
