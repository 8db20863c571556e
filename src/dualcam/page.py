"""One page of HTML that shows what a command made; no script, nothing from elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from dualcam.files import write_whole

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1200px; padding: 0 1rem; color: #1c2430; }
h1, h2 { line-height: 1.2 } figure { margin: 0 0 2rem } img { max-width: 100%; border: 1px solid #d5dae1 }
figcaption { color: #4a5565 } table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
td, th { border: 1px solid #d5dae1; padding: .35rem .7rem; text-align: left } th { background: #f2f4f7 }
"""


@dataclass(frozen=True)
class Section:
    """A heading, a text, pictures (paths relative to the page) with captions, and rows of a table, header first."""

    title: str
    text: str
    pictures: Sequence[tuple[str, str]] = ()
    table: Sequence[Sequence[str]] = ()


def write_page(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write the page, whole or not at all."""
    body = "\n".join(_section(section) for section in sections)
    page = (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n<h1>{escape(title)}</h1>\n{body}\n</html>\n"
    )
    with write_whole(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _section(section: Section) -> str:
    parts = [f"<h2>{escape(section.title)}</h2>", f"<p>{escape(section.text)}</p>"]
    if section.table:
        header, *rows = section.table
        parts.append("<table><tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in header) + "</tr>")
        parts += ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
        parts.append("</table>")
    for source, caption in section.pictures:
        text = escape(caption)
        parts.append(
            f'<figure><img src="{escape(source)}" alt="{text}" loading="lazy"><figcaption>{text}</figcaption></figure>'
        )
    return "\n".join(parts)
