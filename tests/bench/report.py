"""Makes the table, the CSV and the plot of what the benchmark has measured: `report.py FOLDER MACHINE`."""
import csv
import json
import statistics
import sys
from pathlib import Path

from rows import ALSO, BOUND, DEPTHS, LOOPBACK, grows

ROWS = {r.name: r for r in BOUND + ALSO + DEPTHS}


def read(path):
    """row -> modules -> [measurement]."""
    seen = {}
    if path.exists():
        for m in map(json.loads, path.read_text().splitlines()):
            seen.setdefault(m["row"], {}).setdefault(m["modules"], []).append(m)
    return seen


def three(values):
    """(median, least, most)."""
    return statistics.median(values), min(values), max(values)


def loopback_cost(seen):
    """ns per I/O beyond those that the same fio takes on null_blk: row -> modules -> [ns]."""
    out = {}
    for name, v in seen.items():
        if name in ROWS and ROWS[name].setup == LOOPBACK and "null_blk" in v:
            bare = statistics.median(1e9 / m["iops"] for m in v["null_blk"])
            out[name] = {w: [1e9 / m["iops"] - bare for m in v[w]] for w in ("stock", "ours") if w in v}
    return out


def compare(seen, better):
    """row -> (C modules, ours, ours as a multiple of the C modules), where both are there."""
    out = {}
    for name, v in seen.items():
        if v.get("stock") and v.get("ours"):
            c, r = three(v["stock"]), three(v["ours"])
            out[name] = c, r, r[0] / c[0] if better == "more" else c[0] / max(r[0], 1)
    return out


def section(title, rows, bounds):
    """Lines of text: the median, the least and the most of each side, the ratio, and what it is to reach."""
    if not rows:
        return []
    width = max(len(n) for n in rows)
    lines = [f"{title:{width}}  {'C modules':^27}  {'ours':^27}  ratio  at least / aim"]
    for n, (c, r, ratio) in rows.items():
        bound = bounds(n)
        want = f"  {bound[0]} / {bound[1]}" + ("" if ratio >= bound[0] else "  MISSED") if bound else ""
        lines.append(f"{n:{width}}  " + "  ".join("".join(f"{x:9.0f}" for x in v) for v in (c, r)) + f"  {ratio:5.2f}{want}")
    ratios = [ratio for *_, ratio in rows.values()]
    return lines + [f"{len(rows)} rows: {statistics.geometric_mean(ratios):.2f} in the geometric mean, {min(ratios):.2f} in the worst", ""]


def growth(seen, throughput):
    """What grows -> how many there are -> the figures of (C modules, ours)."""
    out = {}
    for name, v in seen.items():
        for w in v:
            for m in v[w]:
                out.setdefault(name, {}).setdefault(m["n"], {}).setdefault(w, []).append(m["value"])
    for name, v in throughput.items():
        if name in ROWS and grows(ROWS[name]):
            of = out.setdefault(f"depth over {ROWS[name].setup.fabric}, ns per I/O", {})
            of[ROWS[name].depth] = {w: [1e9 / m["iops"] for m in v[w]] for w in ("stock", "ours") if w in v}
    both = {name: {n: (three(v["stock"]), three(v["ours"])) for n, v in sorted(by.items()) if {"stock", "ours"} <= v.keys()}
            for name, by in sorted(out.items())}
    return {name: by for name, by in both.items() if len(by) > 1}


def growing(grown):
    """Lines of text: the medians, what they are of those of the fewest, and the ratio."""
    lines = []
    for name, by in grown.items():
        c1, r1 = (v[0] for v in by[min(by)])
        lines.append(f"{'how it grows: ' + name:45} {'C modules':>9}  of the first {'ours':>9}  of the first  ratio")
        lines += [f"{n:45} {c[0]:9.0f}  {c[0] / c1:12.2f} {r[0]:9.0f}  {r[0] / r1:12.2f}  {c[0] / r[0]:5.2f}" for n, (c, r) in by.items()]
        lines.append("")
    return lines


def others(seen):
    """tgt, and the limit: their IOPS, and ours as a share of it."""
    lines = []
    for name, v in seen.items():
        for w in ("null_blk", "brd", "tgt"):
            if w in v and "ours" in v:
                it, ours = (statistics.median(m["iops"] for m in v[x]) for x in (w, "ours"))
                lines.append(f"{name:45} {w:8} {it:9.0f} IOPS; ours is {ours / it:5.2f} of it")
    return lines + [""] if lines else []


def svg(parts, machine):
    """A bar a row: ours as a multiple of the C modules, which are the line at 1."""
    left, bar, width = 330, 18, 420
    most = max([1.25] + [ratio for _, rows in parts for *_, ratio in rows.values()]) * 1.05
    x = lambda v: left + v / most * width  # noqa: E731
    out, y = [], 14
    for title, rows in parts:
        if not rows:
            continue
        out.append(f'<text x="{left}" y="{y + 8}" font-weight="bold">{title}</text>')
        top = y + 14
        for i, (n, (_, _, ratio)) in enumerate(rows.items()):
            at = top + i * bar
            colour = "#2a7f4f" if ratio >= 1 else "#b8442f"
            out += [f'<text x="{left - 8}" y="{at + 12}" text-anchor="end">{n}</text>',
                    f'<rect x="{left}" y="{at + 2}" width="{x(ratio) - left:.1f}" height="{bar - 5}" fill="{colour}"/>',
                    f'<text x="{x(ratio) + 5:.1f}" y="{at + 12}">{ratio:.2f}</text>']
        y = top + len(rows) * bar + 18
        out.append(f'<line x1="{x(1):.1f}" x2="{x(1):.1f}" y1="{top}" y2="{y - 16}" stroke="black"/>')
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 70}" height="{y + 10}" '
                      'font-family="sans-serif" font-size="12">', '<rect width="100%" height="100%" fill="white"/>', *out,
                      f'<text x="8" y="{y + 2}" font-size="10">{machine}</text>', "</svg>"]) + "\n"


def main():
    folder, machine = Path(sys.argv[1]), sys.argv[2]
    seen, costs, objects, grown = (read(folder / f"{n}.jsonl") for n in ("throughput", "cost", "objects", "growth"))
    throughput = compare({n: {w: [m["iops"] for m in x] for w, x in v.items()} for n, v in seen.items()}, "more")
    cost = compare(loopback_cost(seen) | {n: {w: [m["ns"] for m in x] for w, x in v.items()} for n, v in costs.items()}, "less")
    things = compare({n: {w: [m["value"] for m in x] for w, x in v.items()} for n, v in objects.items()}, "less")
    switches = compare({n: {w: [m["switches"] * 1000 for m in x] for w, x in v.items()} for n, v in costs.items()}, "less")
    text = [machine, ""]
    text += section("IOPS: median, least, most", throughput, lambda n: ROWS[n].throughput)
    text += section("cost, ns per I/O", cost, lambda n: ROWS[n].cost)
    text += section("context switches, per 1,000 I/Os", switches, lambda n: ())
    text += section("objects: bytes, ms", things, lambda n: (2, 10) if n.startswith("time") else (1.5, 3))
    grown = growth(grown, seen)
    text += growing(grown)
    text += others(seen)
    (folder / "table.txt").write_text("\n".join(text))
    with open(folder / "table.csv", "w", newline="") as f:
        w = csv.writer(f)
        w.writerow(["what", "row"] + [f"{m} {v}" for m in ("C", "ours") for v in ("median", "least", "most")] + ["ratio"])
        for what, rows in (("IOPS", throughput), ("ns per I/O", cost), ("switches per 1000 I/Os", switches), ("object", things)):
            w.writerows([what, n, *(f"{v:.1f}" for v in (*c, *r)), f"{ratio:.3f}"] for n, (c, r, ratio) in rows.items())
        for name, by in grown.items():
            w.writerows(["growth", f"{name}, {n}", *(f"{v:.1f}" for v in (*c, *r)), f"{c[0] / r[0]:.3f}"] for n, (c, r) in by.items())
    # Those that are to reach something, if there are such.
    bound = {r.name for r in BOUND}
    main_of = lambda rows: {n: v for n, v in rows.items() if n in bound} or rows  # noqa: E731
    (folder / "plot.svg").write_text(svg([("IOPS, ours as a multiple of the C modules (line: 1)", main_of(throughput)),
                                          ("cost per I/O, the C modules' as a multiple of ours", main_of(cost)),
                                          ("memory and time of objects, likewise", things)], machine))
    print("\n".join(text))


if __name__ == "__main__":
    main()
