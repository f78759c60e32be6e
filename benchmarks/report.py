"""weft bench's results as a page: report.py RESULTS.json PAGE.html"""


def measured(row, name):
    return row["results"].get(name, {}).get("ms")


def roof(results, row):
    """GFLOP/s that the arithmetic and the memory of the device allow, and which of them does; None where neither is known."""
    peak, bandwidth = results.get("peak_gflops", {}).get(row["dtype"]), results.get("bandwidth_gbs")
    limits = [(peak, "the peak")] if peak else []
    if bandwidth and row.get("bytes"):
        limits.append((bandwidth * row["flops"] / row["bytes"], "the memory's bandwidth"))
    return min(limits, default=None)


def verdict(ratio):
    """How a ratio is written, and its colour: none where its interval holds 1."""
    text = {"same": "~{:.2f}x", "unknown": "{:.2f}x?"}.get(ratio["verdict"], "{:.2f}x").format(ratio["value"])
    return text, {"faster": "good", "slower": "bad"}.get(ratio["verdict"], "soft")


def against_dense(row, rows):
    """Time as a share of causal's, and against the ideal: causal's time times the share of its tiles that are kept."""
    dense = row.get("dense") or next(({**r["results"]["weft"], "kept_tiles": r["kept_tiles"]} for r in rows if r["variant"] == "causal" and all(
        r[key] == row[key] for key in ("B", "H", "T", "D", "dtype", "direction"))), None)
    if not dense or not dense["ms"] or not row["kept_tiles"]:
        return ["", ""]
    share = measured(row, "weft") / dense["ms"]
    ideal = share / (row["kept_tiles"] / dense["kept_tiles"])
    if not (row["results"]["weft"]["known"] and dense["known"]):
        return [(f"{share:.2f}?", share), (f"{ideal:.2f}x?", ideal, "soft")]
    return [(f"{share:.2f}", share), (f"{ideal:.2f}x", ideal, "good" if ideal <= 1.5 else "bad")]


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        results = json.load(file)
    rows = [row for row in results["rows"] if measured(row, "weft")]
    page = Page("Weft: generated attention kernels, measured")
    preface(page, results, rows)
    all_rows(page, results, rows)
    if rows:
        charts(page, results, rows, results["peers"])
    page.write(sys.argv[2])


def preface(page, results, rows):
    if not results["complete"]:
        page.text(f"Not complete: the run was stopped, or died, after {len(results['rows'])} rows. What follows is no whole comparison.", "bad")
    page.text(f"{results['device']}, {results['threads']} threads, torch {results['torch']}, {results['date']}. One run; each row's methods take turns, "
              "times are medians. Peaks: "
              + "".join(f"{t} {g:,.0f} GFLOP/s ({results['peak_of'][t]}), " for t, g in results.get("peak_gflops", {}).items())
              + f"memory {results.get('bandwidth_gbs', 0):,.1f} GB/s ({results.get('bandwidth_of', 'not measured')}).")
    page.text("GFLOP/s count the products of kept 64 x 64 tiles alone. The error is the largest against a float64 evaluation of the variant, relative to its largest value. "
              "A ratio is the peer's time over Weft's in the same rounds: above 1, Weft is faster. The ideal is causal's time times the kept share. "
              "The interval holds the median with 95 %; ? marks what follows from times that are not known to 3 %, or from rounds that differ too much, ~ a ratio whose interval holds 1: about the same.", "soft")
    above = [(row, roof(results, row)) for row in rows if roof(results, row) and row["results"]["weft"]["gflops"] > roof(results, row)[0]]
    if above:
        page.text(f"{len(above)} of {len(rows)} rows lie above the roof: it was measured too low (on a busier machine), or their work is counted too high. The worst: "
                  + "; ".join(f"{row['variant']} {row['direction']} {row['dtype']} T = {row['T']}, {100 * row['results']['weft']['gflops'] / limit:.0f} % of {of}"
                              for row, (limit, of) in sorted(above, key=lambda one: one[1][0] / one[0]["results"]["weft"]["gflops"])[:3]) + ".", "bad")


def all_rows(page, results, rows):
    peers = results["peers"]
    page.heading("All rows")
    table = []
    for row in results["rows"]:
        own = row["results"]["weft"]
        name = (row["variant"], row["direction"], row["dtype"])
        if "error" in own:
            table.append([*name, (str(row["T"]), row["T"]), "", (own["error"], "x")] + [""] * (8 + len(peers)))
            continue
        peak = results.get("peak_gflops", {}).get(row["dtype"], 0)
        cells = [*name, (str(row["T"]), row["T"]), (f"{100 * row['kept_tiles']:.1f} %", row["kept_tiles"]),
                 (f"{own['ms']:.2f}" + ("" if own["known"] else "?"), own["ms"])] + against_dense(row, rows)
        more = [(f"{own['low']:.2f} - {own['high']:.2f}", own["high"] - own["low"]), (str(own["samples"]), own["samples"]), (f"{own['gflops']:.0f}", own["gflops"]),
                 (f"{100 * own['gflops'] / peak:.0f} %" if peak else "", own["gflops"] / peak if peak else "x"), (f"{row['error']:.1e}", row["error"]),
                 (f"{row['compile_s']:.2f}", row["compile_s"]), (f"{row['peak_mib']:.0f}", row["peak_mib"])]
        for peer in peers:
            other = row["results"].get(peer, {"error": "not measured"})
            if "ms" in other:
                text, kind = verdict(other["ratio"])
                cells.append((f"{text} ({other['ms']:.1f} ms{'' if other['known'] else '?'})", other["ratio"]["value"], kind))
            else:
                cells.append((other["error"], "x"))
        table.append(cells + more)
    page.table(["variant", "direction", "type", "T", "kept tiles", "ms", "of causal", "of ideal"] + [f"against {p}" for p in peers]
               + ["interval, ms", "samples", "GFLOP/s", "of peak", "error", "compile s", "MiB"], table)


def charts(page, results, rows, peers):
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    colour = {v: COLOURS[i % len(COLOURS)] for i, v in enumerate(variants)}
    groups = list(dict.fromkeys((row["dtype"], row["direction"]) for row in rows))
    times(page, rows, peers, groups, colour)
    ratios_to_peers(page, rows, peers, groups)
    page.heading("Kept share against time")
    page.text("Time and kept tiles as shares of the variant that keeps the most tiles at the same length (causal, where measured). On the line, cost follows kept tiles; the rest is masks, planning and work that every row has.", "soft")
    page.charts([cost_of_kept(rows, colour)] + rooflines(results, rows, colour))
    tuned(page, results, variants)
    page.heading("Masks")
    page.text("The first head at T = 256: probabilities with all scores equal, each row relative to its largest. Queries downwards, keys to the right.", "soft")
    page.charts([(variant, [{"type": "heatmap", "z": shares, "colorscale": [[0, "rgba(128,128,128,0.08)"], [1, "#3266cc"]], "showscale": False, "hoverinfo": "skip"}],
                  {"xaxis": {"visible": False, "scaleanchor": "y", "constrain": "domain"}, "yaxis": {"visible": False, "autorange": "reversed", "constrain": "domain"}, "margin": {"l": 8, "r": 8, "t": 36, "b": 8}})
                 for variant, shares in results["masks"].items()], small=True)


def times(page, rows, peers, groups, colour):
    page.heading("Time against length")
    figures = []
    for dtype, direction in groups:
        data = []
        for variant in colour:
            own = sorted((r for r in rows if (r["variant"], r["dtype"], r["direction"]) == (variant, dtype, direction)), key=lambda r: r["T"])
            data.append(line(variant, [r["T"] for r in own], [measured(r, "weft") for r in own], colour[variant]))
            for peer, dash, symbol in zip(peers, ("dot", "dash", "dashdot", "longdash"), ("square-open", "diamond-open", "x", "cross")):
                have = [r for r in own if measured(r, peer)]
                if have:
                    data.append(line(f"{variant}, {peer}", [r["T"] for r in have], [measured(r, peer) for r in have], colour[variant], dash, "lines" if len(have) > 1 else "markers",
                                     marker={"color": colour[variant], "size": 8, "symbol": symbol}))
        lengths = sorted({r["T"] for r in rows})
        figures.append((f"{direction}, {dtype}: ms", data, {"xaxis": {"type": "log", "title": {"text": "T"}, "tickvals": lengths, "ticktext": [str(t) for t in lengths]},
                                                            "yaxis": log_axis("ms"), "height": 460}))
    page.charts(figures)


def ratios_to_peers(page, rows, peers, groups):
    page.heading("Ratio to the peers")
    longest = max(r["T"] for r in rows)
    target = 2048 if any(r["T"] == 2048 for r in rows) else longest
    figures = []
    for dtype, direction in groups:
        own = [r for r in rows if (r["dtype"], r["direction"], r["T"]) == (dtype, direction, target)]
        data = []
        for i, peer in enumerate(peers):
            have = [r for r in own if measured(r, peer)]
            ratios = [r["results"][peer]["ratio"] for r in have]
            data.append({"type": "bar", "name": peer, "x": [r["variant"] for r in have], "y": [r["value"] for r in ratios], "text": [verdict(r)[0] for r in ratios],
                         "textposition": "inside", "insidetextanchor": "middle", "marker": {"color": COLOURS[i]}, "error_y": {"type": "data", "symmetric": False, "array": [r.get("high", r["value"]) - r["value"] for r in ratios],
                                                                      "arrayminus": [r["value"] - r.get("low", r["value"]) for r in ratios], "thickness": 1, "width": 3}})
        data = [d for d in data if d["x"]]
        if data:
            figures.append((f"{direction}, {dtype}, T = {target}: peer's time over Weft's", data,
                            {"barmode": "group", "yaxis": {"title": {"text": "ratio"}}, "shapes": [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1, "line": {"dash": "dot", "color": "#888"}}]}))
    page.charts(figures) if figures else page.text("No peer could be measured.")


def cost_of_kept(rows, colour):
    data = []
    for variant in colour:
        x, y, words = [], [], []
        for row in rows:
            same = [r for r in rows if (r["dtype"], r["direction"], r["T"]) == (row["dtype"], row["direction"], row["T"])]
            base = next((r for r in same if r["variant"] == "causal"), max(same, key=lambda r: r["kept_tiles"]))
            if row["variant"] == variant:
                x.append(row["kept_tiles"] / base["kept_tiles"])
                y.append(measured(row, "weft") / measured(base, "weft"))
                words.append(f"{variant} {row['direction']} {row['dtype']} T={row['T']}")
        data.append({"type": "scatter", "mode": "markers", "name": variant, "x": x, "y": y, "text": words, "marker": {"color": colour[variant], "size": 8, "opacity": 0.8}})
    data.append(line("ideal", [0, 1], [0, 1], "#888", "dot", "lines"))
    return ("time share against kept share", data, {"xaxis": {"title": {"text": "kept tiles / most"}, "rangemode": "tozero"}, "yaxis": {"title": {"text": "time / time of most"}, "rangemode": "tozero"}})


def rooflines(results, rows, colour):
    figures = []
    for dtype in dict.fromkeys(r["dtype"] for r in rows):
        peak, bandwidth = results.get("peak_gflops", {}).get(dtype), results.get("bandwidth_gbs")
        own = [r for r in rows if r["dtype"] == dtype]
        data = [{"type": "scatter", "mode": "markers", "name": v, "x": [r["flops"] / r["bytes"] for r in own if r["variant"] == v],
                 "y": [r["results"]["weft"]["gflops"] for r in own if r["variant"] == v], "marker": {"color": colour[v], "size": 8},
                 "text": [f"{v} {r['direction']} T={r['T']}" for r in own if r["variant"] == v]} for v in colour]
        if peak and bandwidth:
            xs = sorted([2.0 ** e for e in range(0, 14)] + [peak / bandwidth])
            data.append(line("roof", xs, [min(peak, bandwidth * x) for x in xs], "#888", "dot", "lines"))
        figures.append((f"roofline, {dtype}: GFLOP/s against FLOP per byte", data, {"xaxis": {"type": "log", "dtick": 1, "title": {"text": "FLOP per byte of operands"}}, "yaxis": log_axis("GFLOP/s")}))
    return figures


def tuned(page, results, variants):
    tuning = [t for t in results.get("tuning", []) if len(t["points"]) > 3]
    page.heading("Autotuning")
    if tuning:
        page.text("Best measured time of each tile size, in ms; the first twelve searches of these variants in this device's cache. "
                  f"Median gain over the default schedule: {sorted(t['default_seconds'] / t['seconds'] for t in tuning)[len(tuning) // 2]:.2f}x.", "soft")
        figures = []
        for entry in tuning[:12]:
            qs, ks = sorted({p["tile_q"] for p in entry["points"]}), sorted({p["tile_k"] for p in entry["points"]})
            best = {}
            for p in entry["points"]:
                at = (p["tile_q"], p["tile_k"])
                best[at] = min(best.get(at, math.inf), p["ms"])
            z = [[best.get((q, k)) for k in ks] for q in qs]
            figures.append((entry["key"].split(",")[0], [{"type": "heatmap", "x": [str(k) for k in ks], "y": [str(q) for q in qs], "z": z, "colorscale": "Viridis", "reversescale": True,
                                            "hovertemplate": "queries %{y}, keys %{x}: %{z:.2f} ms<extra></extra>"}],
                            {"xaxis": {"title": {"text": "keys a tile"}, "type": "category"}, "yaxis": {"title": {"text": "queries a tile"}, "type": "category"}, "height": 320}))
        page.charts(figures)
    else:
        page.text("Nothing is tuned on this device yet:", "soft", "weft tune " + " ".join(variants))


main()
