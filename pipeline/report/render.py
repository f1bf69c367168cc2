"""Self-contained pages from templates: escaped, without scripts, reaching for nothing outside.

Names and messages in a report are written by strangers. Every value is escaped by the template
engine, characters that do not show are made visible, and a Content-Security-Policy forbids the
page everything but the pictures it carries and the one style sheet whose hash it names.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.report.names import visible, visible_parts

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_TEMPLATES = Path(__file__).parent / "templates"

#: Pictures a browser shows, by the bytes they begin with.
_MEDIA_TYPES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"BM": "image/bmp",
}

#: Longest title at the head of a printed page, in characters.
_PRINTED_TITLE = 60


def render(template: str, *, title: str, **values: Any) -> str:
    """Fill a template of this package; ``title`` also heads every printed page."""
    from markupsafe import Markup

    style = _page_head(title) + (_TEMPLATES / "style.css").read_text(encoding="utf-8")
    # Browsers hash the text between the tags as it stands in the document.
    style_hash = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style_hash}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        _environment()
        .get_template(template)
        .render(
            title=title,
            style=Markup(style),  # noqa: S704 - our own style sheet and escaped CSS strings
            policy=Markup(policy),  # noqa: S704 - a constant and a base64 digest
            **values,
        )
    )


def data_uri(picture: bytes | None) -> str | None:
    """The picture as an address without a request; None if it is none that a browser shows."""
    if picture is None:
        return None
    for start, media_type in _MEDIA_TYPES.items():
        if picture.startswith(start):
            return f"data:{media_type};base64,{base64.b64encode(picture).decode('ascii')}"
    return None


def show(text: str) -> Markup:
    """Escape a hostile text, isolate its writing direction, and mark what does not show."""
    from markupsafe import Markup

    template = {False: Markup("{}"), True: Markup('<span class="hidden-character">{}</span>')}
    pieces = (template[escaped].format(piece) for piece, escaped in visible_parts(text))
    return Markup('<bdi class="name">{}</bdi>').format(Markup("").join(pieces))


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["show"] = show
    environment.filters["visible"] = visible
    environment.filters["percent"] = percent
    environment.filters["number"] = number
    return environment


def percent(share: float) -> str:
    """A share as a percentage with as many digits as it deserves near 0 and 1."""
    if 0 < share < 0.001:
        return "< 0.1%"
    if 0.999 < share < 1:
        return "> 99.9%"
    text = f"{100 * share:.1f}"
    return f"{text.removesuffix('.0')}%"


def number(value: float | None, digits: int = 3) -> str:
    """A measured number to ``digits`` significant digits, or a dash."""
    return "–" if value is None else f"{value:.{digits}g}"


def _page_head(title: str) -> str:
    """CSS that prints the title at the head of every page."""
    text = visible(title)
    if len(text) > _PRINTED_TITLE:
        text = text[: _PRINTED_TITLE - 1] + "…"
    # Every character but the plainest as a CSS escape: nothing can end the string or the sheet.
    quoted = "".join(
        c if c.isascii() and (c.isalnum() or c in " -_") else f"\\{ord(c):06x}" for c in text
    )
    return f'@page {{ @top-left {{ content: "{quoted}"; }} }}\n'
