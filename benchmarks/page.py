"""One self-contained HTML page: text, sortable tables and plotly charts, light and dark, any width.

Whatever text it is given stands on the page as it is: names and messages may hold anything. Escaping is done here and nowhere else.
"""

import html
import json
import math
import os
import re
import signal
import sys
import time
import xml.etree.ElementTree

COLOURS = ["#3266cc", "#d4572e", "#2c9a63", "#8b53c7", "#c79a1c", "#d0478f", "#1a9cb0", "#7a7f87", "#6f8f1a", "#9a5a2e", "#4a3fa0", "#e39ab5"]

STYLE = """
:root{--fg:#1b2230;--bg:#fbfbfc;--card:#fff;--line:#dde1e7;--soft:#667085;--accent:#3266cc}
@media(prefers-color-scheme:dark){:root{--fg:#e6e8ec;--bg:#14171c;--card:#1b2027;--line:#323945;--soft:#9aa4b2;--accent:#7ba6ff}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,sans-serif}
main{max-width:1180px;margin:0 auto;padding:20px 16px 60px}h1{font-size:1.7rem;margin:.4em 0}h2{font-size:1.2rem;margin:2em 0 .5em}
p{max-width:75ch}.soft{color:var(--soft);font-size:.92em}.wide{overflow:auto;max-height:640px;border:1px solid var(--line);border-radius:8px;background:var(--card)}
table{border-collapse:collapse;width:100%;font-size:.86rem;font-variant-numeric:tabular-nums}
th,td{padding:5px 10px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}th:first-child,td:first-child{text-align:left}
tr:last-child td{border-bottom:0}th{cursor:pointer;user-select:none;color:var(--soft);font-weight:600;position:sticky;top:0;background:var(--card)}
th[aria-sort=ascending]::after{content:" \\2191"}th[aria-sort=descending]::after{content:" \\2193"}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:14px}.small{grid-template-columns:repeat(auto-fit,minmax(min(47%,210px),1fr))}
.chart{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:6px;min-width:0;overflow:hidden}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px;font-size:.85rem}
.drawing{overflow-x:auto;background:#fff;color:#1b2230}.drawing>svg{overflow:visible}
.good{color:#1f9a5c}.bad{color:#d4572e}
"""

SCRIPT = """
const dark = matchMedia('(prefers-color-scheme: dark)');
function theme() {
  const c = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axis = {gridcolor: c('--line'), zerolinecolor: c('--line'), linecolor: c('--line'), tickcolor: c('--line')};
  return {paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', font: {color: c('--fg'), family: 'system-ui, sans-serif', size: 12}, axis};
}
function merged(layout) {
  const t = theme(), out = {...layout, paper_bgcolor: t.paper_bgcolor, plot_bgcolor: t.plot_bgcolor, font: t.font};
  for (const key of ['xaxis', 'yaxis']) out[key] = {...t.axis, automargin: true, ...(layout[key] || {})};
  return out;
}
function draw() {
  for (const [id, figure] of Object.entries(FIGURES))
    Plotly.react(id, figure.data, merged(figure.layout), {responsive: true, displaylogo: false, displayModeBar: false});
}
draw();
dark.addEventListener('change', draw);
for (const table of document.querySelectorAll('table.sortable')) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.addEventListener('click', () => {
    const up = head.getAttribute('aria-sort') !== 'ascending';
    heads.forEach(other => other.removeAttribute('aria-sort'));
    head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    const key = row => { const cell = row.cells[column]; const v = cell.dataset.value ?? cell.textContent; const n = parseFloat(v); return isNaN(n) ? v : n; };
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => { const x = key(a), y = key(b); const bothNumbers = typeof x === 'number' && typeof y === 'number';
      if (!bothNumbers && typeof x !== typeof y) return typeof x === 'number' ? -1 : 1;  // rows without a number stay last
      const order = bothNumbers ? x - y : String(x).localeCompare(String(y)); return up ? order : -order; });
    table.tBodies[0].append(...rows);
  }));
}
"""


def literal(figure):
    """Plotly reads tags and entities in titles, names, labels and hover texts; templates are our own."""
    if isinstance(figure, dict):
        return {key: value if key == "hovertemplate" else literal(value) for key, value in figure.items()}
    if isinstance(figure, (list, tuple)):
        return [literal(value) for value in figure]
    return html.escape(figure, quote=False) if isinstance(figure, str) else figure


SVG = "{http://www.w3.org/2000/svg}"
SHAPES = {"svg", "g", "rect", "circle", "line", "polyline", "polygon", "path", "text", "tspan"}
LOOKS = {"width", "height", "viewBox", "x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "rx", "ry", "dx", "dy", "d", "points", "transform",
         "fill", "stroke", "stroke-width", "opacity", "font-size", "font-family", "font-weight", "text-anchor"}


def drawing(text):
    """The shapes and words of an SVG file, whoever wrote it, to stand in a page: any other element becomes words, too."""
    if "<!" in text:
        raise ValueError("it has declarations or comments")

    def element(node):
        name = node.tag.removeprefix(SVG)
        inside = html.escape(node.text or "") + "".join(element(child) + html.escape(child.tail or "") for child in node)
        if name not in SHAPES:
            return f"&lt;{html.escape(name)}&gt;{inside}&lt;/{html.escape(name)}&gt;"
        looks = "".join(f' {key}="{html.escape(value)}"' for key, value in node.attrib.items() if key in LOOKS and "url" not in value.lower())
        return f"<{name}{looks}>{inside}</{name}>"

    return element(xml.etree.ElementTree.fromstring(text))


class Page:
    def __init__(self, title):
        self.title, self.parts, self.figures = title, [], {}
        self.reload = 0  # seconds after which a browser loads the page anew; 0: never

    def text(self, words, kind="", code=""):
        """kind: "soft", "bad"; `code` follows the words."""
        self.parts.append(f'<p class="{kind}">{html.escape(words)}' + (f" <code>{html.escape(code)}</code>" if code else "") + "</p>")

    def heading(self, words):
        self.parts.append(f"<h2>{html.escape(words)}</h2>")

    def quote(self, title, words):
        self.parts.append(f"<h3>{html.escape(title)}</h3><pre>{html.escape(words)}</pre>")

    def drawings(self, pictures):
        """SVG texts: (title, text)."""
        cells = []
        for title, text in pictures:
            try:
                shown = drawing(text)
            except (ValueError, RecursionError, xml.etree.ElementTree.ParseError) as error:
                shown = f'<p class="soft">This picture cannot be shown: {html.escape(str(error))}</p>'
            cells.append(f'<div class="chart drawing"><p><b>{html.escape(title)}</b></p>{shown}</div>')
        self.parts.append(f'<div class="grid">{"".join(cells)}</div>')

    def charts(self, figures, small=False):
        """Figures: (title, data, layout). Side by side where there is room."""
        cells = []
        for title, data, layout in figures:
            name = f"chart{len(self.figures)}"
            base = {"title": {"text": title, "font": {"size": 13}, "x": 0.02, "xanchor": "left"}, "margin": {"l": 54, "r": 14, "t": 40, "b": 44},
                    "autosize": True, "legend": {"orientation": "h", "y": -0.22}, "hovermode": "closest"}
            height = layout.pop("height", 230 if small else 380)
            self.figures[name] = literal({"data": data, "layout": {**base, **layout}})
            cells.append(f'<div class="chart"><div id="{name}" style="height:{height}px"></div></div>')
        self.parts.append(f'<div class="grid{" small" if small else ""}">{"".join(cells)}</div>')

    def table(self, heads, rows):
        """Cells: text, or (text, number to sort by), or (text, number, class). Long ones are cut short."""
        def cell(value):
            if not isinstance(value, tuple):
                return f"<td>{html.escape(str(value))}</td>"
            text, number, *kind = value
            style = f' class="{kind[0]}"' if kind else ""
            if len(text) > 32:  # the whole of it where the pointer rests
                style += f' title="{html.escape(text, quote=True)}"'
                text = text[:30] + "\u2026"
            return f'<td data-value="{html.escape(str(number))}"{style}>{html.escape(text)}</td>'
        head = "".join(f"<th>{html.escape(h)}</th>" for h in heads)
        body = "".join("<tr>" + "".join(cell(c) for c in row) + "</tr>" for row in rows)
        self.parts.append(f'<div class="wide"><table class="sortable"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')

    def write(self, path):
        plotly = ""
        if self.figures:
            from plotly.offline import get_plotlyjs
            plotly = f"<script>{get_plotlyjs()}</script>"
        again = f"setTimeout(() => location.reload(), {1000 * self.reload:.0f});" if self.reload else ""
        figures = json.dumps(self.figures).replace("<", "\\u003c")  # neither ends the script nor opens a comment in it; the rest is ASCII
        page = (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
                f'<meta name="color-scheme" content="light dark"><title>{html.escape(self.title)}</title><style>{STYLE}</style></head><body><main>'
                f"<h1>{html.escape(self.title)}</h1>{''.join(self.parts)}</main>{plotly}"
                f"<script>{again}const FIGURES = {figures};{SCRIPT}</script></body></html>")
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with open(path + ".tmp", "w", encoding="utf-8", errors="replace") as file:  # names of files need not be UTF-8
            file.write(page)
        os.replace(path + ".tmp", path)


def line(name, x, y, colour, dash=None, mode="lines+markers", **more):
    return {"type": "scatter", "mode": mode, "name": name, "x": x, "y": y, "line": {"color": colour, **({"dash": dash} if dash else {})},
            "marker": {"color": colour, "size": 6}, **more}


def log_axis(title):
    """An axis with ticks at 1, 2 and 5 of each power of ten, written out: plotly writes the bare digits of 2 and 5."""
    ticks = [float(f"{digit}e{power}") for power in range(-9, 13) for digit in (1, 2, 5)]
    return {"type": "log", "title": {"text": title}, "tickvals": ticks, "ticktext": [f"{tick:.12g}" for tick in ticks]}
