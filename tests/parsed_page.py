"""An HTML page as a browser would take it apart, as far as tests ask."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

_WITHOUT_END = {"meta", "br"}


@dataclass
class Element:
    """An element: its name, attributes, the names of what it stands in, and all the text within."""

    name: str
    attributes: dict[str, str | None]
    within: tuple[str, ...]
    text: str = ""
    elements: list[Element] = field(default_factory=list)

    def all(self, name: str, class_: str | None = None) -> list[Element]:
        """The elements of a name, and of a class, that stand in this one at any depth, in their order."""
        classes = {None} if class_ is None else {class_}
        return [
            one
            for one in self.elements
            if one.name == name and (class_ is None or classes & set((one.attributes.get("class") or "").split()))
        ]


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {}, ())
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._add(tag, attrs)
        if tag in _WITHOUT_END:
            self.open.pop()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._add(tag, attrs)
        self.open.pop()

    def _add(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        made = Element(tag, dict(attrs), tuple(one.name for one in self.open[1:]))
        for one in self.open:
            one.elements.append(made)
        self.open.append(made)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].name == tag, f"</{tag}> where <{self.open[-1].name}> is open"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for one in self.open:
            one.text += data


def parsed(page: str) -> Element:
    """Return the page's root; every element of it must be closed, in order."""
    parser = _Parser()
    parser.feed(page)
    parser.close()
    assert parser.open == [parser.root]
    return parser.root
