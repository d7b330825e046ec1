"""Reads pages of the report."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """Elements with their attributes, texts, and data of a page; every element is closed where it
    should be.
    """

    VOID = frozenset({"meta", "link", "img", "input", "br"})

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self.blocks, self.open = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.blocks.append(data)
        elif self.open and self.open[-1] != "style":
            self.texts.append(data)

    def of(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]
