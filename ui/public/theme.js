// Runs before the first paint, so that a page in the light theme never flashes dark.
(() => {
  let wanted = 'system';
  try {
    wanted = JSON.parse(localStorage.getItem('pharos.prefs') ?? '{}').state?.theme ?? 'system';
  } catch {
    // Storage may be closed to us; the system's choice is as good.
  }
  const asked = new URLSearchParams(location.search).get('theme');
  if (asked === 'dark' || asked === 'light') wanted = asked;
  const dark = wanted === 'dark' || (wanted !== 'light' && !matchMedia('(prefers-color-scheme: light)').matches);
  document.documentElement.dataset.theme = dark ? 'dark' : 'light';
})();
