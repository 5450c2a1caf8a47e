"""One failover as an SVG: replies per 50 ms seen from outside, and what happened when. Pure: numbers in, text out."""
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960, 420, 64, 24, 108, 56
INK, FAINT, GRID, BAR, LOST = '#1f2933', '#66727f', '#e4e8ec', '#3b7dd8', '#fdecea'
COLOURS = {'killed': '#c0392b', 'noticed': '#b9770e', 'key held': '#7d3c98', 'running': '#1e8449'}


def buckets(times, begin, end, width=0.05):
    """How many of `times` fall into each `width` of [begin, end)."""
    counts = [0] * round((end - begin) / width)
    for t in times:
        i = int((t - begin) // width)
        if 0 <= i < len(counts):
            counts[i] += 1
    return counts


def nice_step(most, lines=4):
    """A round step with about `lines` of them up to `most`."""
    step = 1
    while most / step > lines:
        step = {1: 2, 2: 5, 5: 10}[int(str(step)[0])] * 10 ** (len(str(step)) - 1)
    return step


def marker_rows(places, width=130):
    """A row for each mark's label (x, ascending): above the lines of all marks that stand in its width."""
    rows = [0] * len(places)
    for i in reversed(range(len(places))):
        rows[i] = max([rows[j] + 1 for j in range(i + 1, len(places)) if places[j] < places[i] + width], default=0)
    return rows


def svg(counts, begin, marks, subtitle, width=0.05):
    """`begin`: seconds of the first bucket, the kill being 0; `marks`: [(name, seconds)], in order."""
    end, most = begin + len(counts) * width, max([*counts, 1])
    x = lambda t: LEFT + (t - begin) / (end - begin) * (WIDTH - LEFT - RIGHT)
    y = lambda n: HEIGHT - BOTTOM - n / (most * 1.05) * (HEIGHT - TOP - BOTTOM)
    text = lambda px, py, s, size=12, fill=FAINT, anchor='start', more='': (
        f'<text x="{px:.1f}" y="{py:.1f}" font-size="{size}" fill="{fill}" text-anchor="{anchor}" {more}>{escape(s)}</text>')
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
           'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" role="img">',
           f'<title>{escape("A failover seen from outside: " + subtitle)}</title>',
           f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#ffffff"/>',
           text(LEFT, 30, 'A failover seen from outside', 18, INK, more='font-weight="600"'), text(LEFT, 50, subtitle)]
    killed, running = marks[0][1], marks[-1][1]
    out.append(f'<rect x="{x(killed):.1f}" y="{TOP}" width="{x(running) - x(killed):.1f}" height="{HEIGHT - TOP - BOTTOM}" fill="{LOST}"/>')
    step = nice_step(most)
    for n in range(0, most + 1, step):
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(n):.1f}" y2="{y(n):.1f}" stroke="{GRID}"/>')
        out.append(text(LEFT - 8, y(n) + 4, str(n), anchor='end'))
    bar = (WIDTH - LEFT - RIGHT) / len(counts)
    for i, n in enumerate(counts):
        if n:
            out.append(f'<rect x="{x(begin + i * width) + bar * 0.08:.2f}" y="{y(n):.1f}" width="{bar * 0.84:.2f}" height="{y(0) - y(n):.1f}" fill="{BAR}"/>')
    out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(0):.1f}" y2="{y(0):.1f}" stroke="{INK}"/>')
    for t in range(int(begin), int(end) + 1):
        if begin <= t <= end:
            out.append(f'<line x1="{x(t):.1f}" x2="{x(t):.1f}" y1="{y(0):.1f}" y2="{y(0) + 5:.1f}" stroke="{INK}"/>')
            out.append(text(x(t), y(0) + 20, f'{t} s', anchor='middle'))
    out.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, 'time since the host was killed', anchor='middle'))
    out.append(text(18, (TOP + HEIGHT - BOTTOM) / 2, f'replies per {1000 * width:.0f} ms', anchor='middle', more=f'transform="rotate(-90 18 {(TOP + HEIGHT - BOTTOM) / 2:.0f})"'))
    for (name, t), row in zip(marks, marker_rows([x(t) for _, t in marks])):
        at, colour = TOP - 8 - 16 * row, COLOURS.get(name, INK)
        out.append(f'<line x1="{x(t):.1f}" x2="{x(t):.1f}" y1="{at - 10}" y2="{y(0):.1f}" stroke="{colour}" stroke-width="1.5" stroke-dasharray="{"none" if t == 0 else "4 3"}"/>')
        out.append(text(x(t) + 5, at, name if t == 0 else f'{name}, {1000 * t:.0f} ms', fill=colour, more='font-weight="600"'))
    return '\n'.join([*out, '</svg>']) + '\n'
