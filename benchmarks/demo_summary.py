"""Summary page of ./dev demo: two runs side by side, with curves, masks and a sample.

usage: demo_summary.py SPAN_RUN DENSE_RUN OUT.html
"""

import html
import json
import os
import sys


def read(run):
    with open(os.path.join(run, "metrics.jsonl")) as file:
        metrics = [json.loads(line) for line in file]
    with open(os.path.join(run, "eval_val.json")) as file:
        return metrics, json.load(file)


def curve(runs, key, width=640, height=260):
    """Lines of `key` against steps as SVG."""
    colors = ["#2266aa", "#cc6622"]
    points = [[(m["step"], m[key]) for m in metrics] for metrics, _ in runs]
    steps = max(p[0] for line in points for p in line)
    low, high = min(p[1] for line in points for p in line), max(p[1] for line in points for p in line)
    x = lambda s: 50 + (width - 70) * s / steps
    y = lambda v: 20 + (height - 50) * (high - v) / max(high - low, 1e-9)
    out = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{key} against steps">']
    for at in range(5):
        value = low + (high - low) * at / 4
        out.append(f'<line x1="50" x2="{width - 20}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#8884"/>'
                   f'<text x="4" y="{y(value) + 4:.1f}">{value:.2f}</text>')
    for line, (_, result), color in zip(points, runs, colors):
        out.append(f'<polyline fill="none" stroke="{color}" stroke-width="2" points="' + " ".join(f"{x(s):.1f},{y(v):.1f}" for s, v in line) + '"/>')
    for at, ((_, result), color) in enumerate(zip(runs, colors)):
        out.append(f'<text x="{width - 190}" y="{34 + 18 * at}" style="fill:{color};font-weight:bold">{result["attention"]}</text>')
    out.append(f'<text x="{width - 90}" y="{height - 8}">{steps} steps</text></svg>')
    return "\n".join(out)


def main():
    names, out = sys.argv[1:3], sys.argv[3]
    runs = [read(run) for run in names]
    rows = ""
    for metrics, result in runs:
        speed = sorted(m["tokens_per_second"] for m in metrics)[len(metrics) // 2]
        rows += (f"<tr><td>{result['attention']}</td><td>{result['bpc']:.3f}</td><td>{result['kept_tiles']:.1%}</td>"
                 f"<td>{metrics[-1]['mean_span']:.0f}</td><td>{speed:,.0f}</td><td>{result['step']}</td></tr>")
    with open(os.path.join(names[0], "masks.svg")) as file:
        masks = file.read()
    with open(os.path.join(names[0], "sample.txt"), errors="replace") as file:
        sample = html.escape(file.read())
    page = f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Weft demo</title><style>:root{{color-scheme:light dark}}body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse}}td,th{{padding:.3rem .8rem;border-bottom:1px solid #8886;text-align:right}}td:first-child,th:first-child{{text-align:left}}
svg{{max-width:100%;height:auto}}svg text{{font-size:12px;fill:currentColor}}.masks,.wide{{overflow-x:auto}}.masks svg text{{fill:#222}}pre{{white-space:pre-wrap;background:#8882;padding:1rem}}</style>
<h1>Two models, the same steps</h1>
<p>{html.escape(runs[0][1]["data"])}.</p>
<div class="wide"><table><tr><th>attention</th><th>bpc (val, {runs[0][1]["bytes"]:,} bytes)</th><th>kept tiles</th><th>mean span</th><th>tokens/s</th><th>steps</th></tr>{rows}</table></div>
<h2>Bits per character in training</h2>{curve(runs, "bpc")}
<h2>Share of attention tiles computed</h2>{curve(runs, "kept_tiles")}
<h2>What each head sees</h2><div class="masks">{masks}</div>
<h2>Sample</h2><pre>{sample}</pre></html>"""
    with open(out, "w") as file:
        file.write(page)
    for _, result in runs:
        print(f"{result['attention']:<16} {result['bpc']:.3f} bpc, {result['kept_tiles']:.1%} of dense tiles computed")


if __name__ == "__main__":
    main()
