"""What decoding a token costs, as a page: decode_cost.py COST.json PAGE.html"""


def counted(count, what):
    return f"{count} {what}{'' if count == 1 else 's'}"


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        cost = json.load(file)
    page = Page(f"Decoding with Weft on {cost['device']}")
    page.text(f"{cost['type']}, {counted(cost['batch'], 'sequence')}, {counted(cost['layers'], 'layer')}, {counted(cost['heads'], 'head')} of {cost['dim']} over {cost['group_heads']} heads of keys.")
    checked(page, cost) if cost["kind"] == "checked" else predicted(page, cost)
    page.write(sys.argv[2])


def name_of(row):
    return row["variant"] + (f", pages of {row['page']}" if row["page"] else "")


def curves(rows):
    """Rows of each variant, with its colour."""
    names = list(dict.fromkeys(name_of(row) for row in rows))
    return [(name, COLOURS[at % len(COLOURS)], [row for row in rows if name_of(row) == name]) for at, name in enumerate(names)]


def axes(title):
    return {"xaxis": log_axis("tokens so far"), "yaxis": log_axis(title)}


def predicted(page, cost):
    own = "the data sheet: nothing is measured" if cost["figures"] == "data sheet" else "figures of this CPU that were measured in the same run"
    page.text(f"Predicted from counts of bytes and products and from {own}.", "soft")
    rows = cost["rows"]
    figures = [("tokens a second, attention alone: predicted", "tokens/s", lambda row: row["predicted_tokens_per_second"])]
    if "weights" in cost:
        page.text(f"Weights: {cost['weights']['parameters'] / 1e6:,.1f} M parameters, {cost['weights']['bytes'] / 1e6:,.1f} MB a token, {cost['weights']['predicted_us']:,.1f} us, predicted.")
        figures.append(("tokens a second, with the weights: predicted", "tokens/s", lambda row: row["with_weights_tokens_per_second"]))
    figures.append(("bytes a token", "MB", lambda row: cost["layers"] * bytes_of(row) / 1e6))
    page.charts([(title, [line(name, [row["length"] for row in own], [value(row) for row in own], colour) for name, colour, own in curves(rows)], axes(unit))
                 for title, unit, value in figures] + [parts(rows)])
    page.heading("Faster than dense attention")
    page.table(["variant", "counted", "from tokens on"], [[name_of(row), "with the weights" if row["with_weights"] else "attention alone",
                ("at none of the lengths", 1e12) if row["length"] is None else (f"{row['length']:,}", row["length"])] for row in cost["crossovers"]])
    page.heading("All rows")
    page.text("Bytes and FLOPs are of all layers. us are predicted.", "soft")
    mega = lambda value: (f"{cost['layers'] * value / 1e6:,.3f}", value)
    page.table(["variant", "length", "kept tiles", "keys MB", "choosing MB", "other MB", "MFLOP", "us", "launches us", "choosing us", "memory us", "arithmetic us", "longest part", "tokens/s"],
               [[name_of(row), (f"{row['length']:,}", row["length"]), (f"{100 * row['kept_tiles'] / row['tiles']:.1f} %", row["kept_tiles"] / row["tiles"]), mega(row["key_bytes"]),
                 mega(row["choosing_bytes"]), mega(row["input_bytes"] + row["query_bytes"]), mega(row["flops"]), *((f"{row[key]:,.1f}", row[key]) for key in
                 ("predicted_us", "launch_us", "choosing_us", "memory_us", "arithmetic_us")), row["bound"],
                 (f"{row['predicted_tokens_per_second']:,.1f}", row["predicted_tokens_per_second"])] for row in rows])


def bytes_of(row):
    return row["key_bytes"] + row["input_bytes"] + row["query_bytes"] + row["choosing_bytes"]


def parts(rows):
    """What the time of the longest length is of."""
    longest = max(row["length"] for row in rows)
    own = [row for row in rows if row["length"] == longest]
    data = [{"type": "bar", "name": part, "x": [name_of(row) for row in own], "y": [row[part + "_us"] for row in own], "marker": {"color": COLOURS[at]}}
            for at, part in enumerate(("launch", "choosing", "memory", "arithmetic"))]
    return (f"parts at {longest:,} tokens: us, predicted", data, {"barmode": "group", "yaxis": {"title": {"text": "us, predicted"}}})


def checked(page, cost):
    page.text(f"One layer's call on {cost['threads']} threads of this CPU: predicted from what was measured in the same turns, and measured.", "soft")
    data = []
    for name, colour, own in curves(cost["rows"]):
        lengths = [row["length"] for row in own]
        data += [line(name + ", predicted", lengths, [row["predicted_us"] for row in own], colour, "dot"), line(name + ", measured", lengths, [row["measured_us"] for row in own], colour)]
    page.charts([("one layer's call", data, axes("us"))])
    page.table(["variant", "length", "predicted us", "measured us", "measured / predicted", "known to", "reading GB/s"],
               [[name_of(row), (f"{row['length']:,}", row["length"]), *((f"{row[key]:,.1f}", row[key]) for key in ("predicted_us", "measured_us")), (f"{row['ratio']:.2f}", row["ratio"]),
                 (f"{100 * row['uncertainty']:.1f} %", row["uncertainty"]), (f"{row['read_gbs']:.1f}", row["read_gbs"])] for row in cost["rows"]])


main()
