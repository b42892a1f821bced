"""The style sheet of a report: for phones and desks, light and dark, and paper."""

CSS = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --card: #f6f8fa; --ink: #1f2328; --soft: #59636e; --line: #d1d9e0;
  --accent: #0b5fa5; --bar: #0072b2; --track: #e4e9ee;
  --series-0: #0072b2; --series-1: #d55e00; --series-2: #009e73; --series-3: #aa4499;
  --series-4: #8a6400; --series-5: #3399cc; --series-6: #882255; --series-7: #555555;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #0d1117; --card: #161b22; --ink: #e6edf3; --soft: #9da7b3; --line: #30363d;
    --accent: #7cbcff; --bar: #3d9be0; --track: #2a313a;
    --series-0: #58a6ff; --series-1: #ff9e64; --series-2: #3fb98f; --series-3: #d98cc8;
    --series-4: #e3b341; --series-5: #9bd3f5; --series-6: #e58ab0; --series-7: #b0b8c0;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", Arial, sans-serif;
}
main, header, footer { max-width: 1180px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 36px; }
footer { padding-bottom: 48px; color: var(--soft); font-size: 14px; }
h1 { font-size: clamp(24px, 4vw, 34px); line-height: 1.2; margin: 0 0 8px; }
h2 { font-size: 22px; line-height: 1.3; margin: 44px 0 12px; }
h3 { font-size: 17px; margin: 28px 0 10px; }
h4 { font-size: 15px; margin: 20px 0 8px; }
h1, h2, h3, h4, p, figcaption, summary, dd, li { overflow-wrap: anywhere; }
p { margin: 8px 0; max-width: 78ch; }
.lead { color: var(--soft); max-width: none; }
.note { color: var(--soft); font-size: 14px; }
nav ul { display: flex; flex-wrap: wrap; gap: 4px 18px; list-style: none; margin: 16px 0 0; padding: 0; }
a { color: var(--accent); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(158px, 1fr)); gap: 12px;
  margin: 20px 0 0; }
.cards div { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 12px 14px; }
.cards dt { color: var(--soft); font-size: 13px; line-height: 1.35; }
.cards dd { margin: 2px 0 0; font-size: 21px; font-weight: 650; line-height: 1.25;
  font-variant-numeric: tabular-nums; }
.cards .more { font-size: 13px; font-weight: 400; color: var(--soft); }
.figures { display: grid; gap: 20px; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }
.figures.charts { grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); }
.figures.rows { grid-template-columns: 1fr; gap: 10px; max-width: 720px; }
.figures.masks { grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); }
.pairs { display: grid; gap: 8px 36px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); }
figure { margin: 0; min-width: 0; }
figure img { display: block; width: 100%; height: auto; image-rendering: pixelated;
  border: 1px solid var(--line); background: #fff; }
.figures.samples figure { max-width: 420px; }
.masks figure, .samples figure { display: flex; flex-direction: column; justify-content: flex-end; }
.masks img { aspect-ratio: 1; height: auto; object-fit: fill; }
figcaption { font-size: 14px; color: var(--soft); margin: 0 0 6px; }
.charts figcaption { color: var(--ink); font-weight: 600; }
.charts svg { display: block; width: 100%; height: auto; max-width: 560px; }
.charts svg * { stroke-linejoin: round; }
.charts svg text { font-family: inherit !important; }
.scroll { position: relative; overflow-x: auto; border: 1px solid var(--line); border-radius: 10px;
  margin: 10px 0; }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; width: 100%; font-size: 14.5px; font-variant-numeric: tabular-nums; }
th:first-child { position: sticky; left: 0; background: var(--paper); z-index: 1; }
thead th:first-child { background: var(--card); }
caption.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
caption { text-align: left; padding: 10px 14px; font-weight: 600; }
th, td { padding: 7px 14px; text-align: right; border-top: 1px solid var(--line); white-space: nowrap; }
thead th { color: var(--soft); font-weight: 600; background: var(--card); border-top: 0; }
caption + thead th { border-top: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
tbody th { font-weight: 500; }
th.left { text-align: left; }
.wrap td { white-space: normal; overflow-wrap: anywhere; text-align: left; }
.wrap th { white-space: normal; min-width: 110px; text-align: left; vertical-align: top; }
.bar { position: relative; display: block; width: 150px; height: 12px; border-radius: 3px;
  background: var(--track); }
.bar i { position: absolute; inset: 0 auto 0 0; background: var(--bar); border-radius: 3px; }
.bar b { position: absolute; top: -3px; bottom: -3px; width: 2px; margin-left: -1px;
  background: var(--ink); }
details { border: 1px solid var(--line); border-radius: 10px; padding: 0 16px; margin: 14px 0; }
details > summary { cursor: pointer; font-weight: 600; padding: 12px 0; }
details[open] { padding-bottom: 14px; }
@media (max-width: 640px) {
  main, header, footer { padding-left: 16px; padding-right: 16px; }
  header { padding-top: 22px; }
  h2 { margin-top: 34px; }
  table { font-size: 13.5px; }
  th, td { padding: 6px 8px; }
  th:first-child { white-space: normal; overflow-wrap: break-word; max-width: 170px; }
  .cards { grid-template-columns: repeat(2, 1fr); gap: 8px; }
  .cards dd { font-size: 18px; }
  .figures, .figures.masks { grid-template-columns: repeat(2, 1fr); gap: 12px; }
  .figures.rows, .figures.charts { grid-template-columns: 1fr; }
  .bar { width: 96px; }
  details { padding: 0 12px; }
}
@media print {
  .scroll { overflow: visible; }
  figure, tr { break-inside: avoid; }
}
"""
