"""The shell of every HTML page: one file, styles inlined, light and dark; it asks nothing of the network."""

from html import escape
from importlib.resources import files
from string import Template


def html_page(*, title: str, headline: str, lead: str, main: str, top: str = "", about: str = "") -> str:
    """A whole page; everything but the title is HTML already."""
    template = Template((files("locvlm.pages") / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(title),
        headline=headline,
        lead=lead,
        top=top,
        main=main,
        about=about,
    )
