"""HTML: tables, sections, the page around them and its style. Text from anywhere is escaped here, and nowhere else."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

LONGEST = 60  # characters of a name that are shown; all of them where the pointer rests
# No script, no font, no request: what gets into the page by mistake can do nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --dim: #5c667a; --line: #d7dce5; --page: #fff; --soft: #f3f5f9;
  --hue: 37, 99, 235; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --dim: #a0a9ba; --line: #363d4b; --page: #14171d;
  --soft: #1d222b; --hue: 96, 150, 255; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 64rem; padding: 1rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: .5rem 0 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; }
p { margin: .4rem 0; max-width: 46rem; } .dim { color: var(--dim); }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: left; overflow-wrap: normal; }
th { font-weight: 600; } td.n, th.n { text-align: right; white-space: nowrap; }
td.s { text-align: right; background: rgba(var(--hue), var(--a)); }
td.b { width: 40%; min-width: 6rem; } td:first-child { min-width: 5rem; }
td.b i { display: block; height: .8rem; border-radius: 2px; background: rgb(var(--hue)); }
.beside { display: flex; flex-wrap: wrap; gap: 1rem; } .beside > * { flex: 0 1 auto; }
@media (max-width: 30rem) { th, td { padding: .25rem .35rem; } td.b { min-width: 3rem; } }
svg { display: block; max-width: 100%; height: auto; }
svg text { font-family: system-ui, sans-serif !important; }
.net text { fill: var(--ink); font-size: 13px; } .net text.dim { fill: var(--dim); font-size: 12px; }
.net polygon { fill: rgba(var(--hue), .25); stroke: rgb(var(--hue)); }
"""


def text(value: object) -> str:
    """As text between tags or in an attribute."""
    return html.escape(str(value), quote=True)


def shortened(value: object, longest: int = LONGEST) -> str:
    """So many characters of it at most."""
    given = str(value)
    return given if len(given) <= longest else f"{given[: longest - 1]}…"


def name(value: object, longest: int = LONGEST) -> str:
    """A name from data: shortened, all of it where the pointer rests."""
    short = shortened(value, longest)
    return text(short) if short == str(value) else f'<span title="{text(value)}">{text(short)}</span>'


def number(value: float) -> str:
    """Four digits; a dash for what is none.

    >>> number(0.123456), number(1234567.0), number(math.nan)
    ('0.1235', '1.235e+06', '–')
    """
    return f"{value:.4g}" if value == value else "–"


def cell(content: str, kind: str = "td", role: str = "n") -> str:
    """role: "n" a number, "" text."""
    return f'<{kind} class="{role}">{content}</{kind}>' if role else f"<{kind}>{content}</{kind}>"


def shaded(content: str, share: float) -> str:
    """A cell whose ground is as dark as the share of 1."""
    return f'<td class="s" style="--a:{0.6 * share:.2f}">{content}</td>'


def bar(share: float) -> str:
    """A cell with a bar over that share of its width."""
    return f'<td class="b"><i style="width:{100 * share:.1f}%"></i></td>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A table of text, which is escaped here; the first `words` columns are words, the others numbers."""
    return framed(
        [cell(name(title), "th", "n" if column >= words else "") for column, title in enumerate(head)],
        (
            [cell(name(content), role="n" if column >= words else "") for column, content in enumerate(row)]
            for row in rows
        ),
    )


def framed(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of whole cells, which scrolls by itself where it is wider than the page."""
    lines = "\n".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    top = f"<thead><tr>{''.join(head)}</tr></thead>" if head else ""
    return f'<div class="scroll"><table>{top}<tbody>\n{lines}\n</tbody></table></div>'


def paragraph(sentence: str) -> str:
    """A sentence, which is escaped here."""
    return f'<p class="dim">{text(sentence)}</p>'


def beside(*parts: str) -> str:
    """Pictures in a line, below each other where that is too narrow."""
    return f'<div class="beside">{"".join(parts)}</div>'


def section(title: str, *parts: str) -> str:
    """A heading, which is escaped here, and what is below it."""
    return "\n".join(["<section>", f"<h2>{text(title)}</h2>", *parts, "</section>"])


def document(title: str, lead: str, sections: Iterable[str]) -> bytes:
    """The whole page, UTF-8. lead: a sentence, escaped here."""
    body = "\n".join(sections)
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{text(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{text(title)}</h1>
<p class="dim">{text(lead)}</p>
{body}
</body>
</html>
"""
    return page.encode("utf-8", "replace")  # half a surrogate pair in a name is no character
