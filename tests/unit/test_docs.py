# SPDX-License-Identifier: MIT
"""docs/protocol.md and docs/architecture.md say what the sources refer to, and what stands there."""

import importlib.util
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
# Of any spelling; then the number of a section, behind the beginning of a comment's next line too.
REFERENCE = re.compile(r"([\w/]*)(protocol\.md)\b(?:[\s*#]+(\d+))?", re.IGNORECASE)


def sources():
    for folder in ("cffi_build", "kcpsock", "tests", "bench", "examples"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".c", ".h", ".py", ".go", ".md") and path != pathlib.Path(__file__):
                yield path


def references():
    """(file, as it is spelt, section or None) of each reference to the page."""
    for path in sources():
        for folder, name, section in REFERENCE.findall(path.read_text(encoding="utf-8")):
            yield str(path.relative_to(ROOT)), folder + name, int(section) if section else None


def test_references_to_the_protocol_lead_somewhere():
    sections = [int(number) for number in re.findall(r"^## (\d+)\. ", PROTOCOL, re.MULTILINE)]
    assert sections == list(range(1, len(sections) + 1))
    found = list(references())
    assert len([section for _, _, section in found if section is not None]) > 5
    wrong = [
        reference
        for reference in found
        if reference[1] != "docs/protocol.md" or (reference[2] is not None and reference[2] not in sections)
    ]
    assert wrong == []


def test_protocol_contents_name_the_sections():
    contents = re.findall(r"^(\d+)\. \[(.+)\]\(#(.+)\)$", PROTOCOL, re.MULTILINE)
    headings = re.findall(r"^## (\d+)\. (.+)$", PROTOCOL, re.MULTILINE)
    assert len(headings) > 5
    assert [(number, title) for number, title, _ in contents] == headings
    anchors = [re.sub(r"[^\w -]", "", f"{number} {title}").lower().replace(" ", "-") for number, title in headings]
    assert [anchor for _, _, anchor in contents] == anchors


def test_architecture_lists_the_layers_in_their_order():
    spec = importlib.util.spec_from_file_location("layers", ROOT / "cffi_build" / "layers.py")
    layers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(layers)
    listed = re.findall(r"^- `(\w+)/`: (.+(?:\n  .+)*)", ARCHITECTURE, re.MULTILINE)
    assert [folder for folder, _ in listed] == list(layers.LAYERS)
    named = [f"{folder}/{name}" for folder, sentence in listed for name in re.findall(r"`([\w.]+)`", sentence)]
    assert len(named) > len(listed)
    assert [name for name in named if not any(is_source(name + suffix) for suffix in ("", ".c", ".h"))] == []


def is_source(name):
    return (ROOT / "cffi_build" / name).is_file()


def test_architecture_words_stand_where_they_are_defined():
    glossary = ARCHITECTURE.partition("## Words of this project")[2]
    rows = [row for row in re.findall(r"^\| (.+) \| .+ \| (.+) \|$", glossary, re.MULTILINE) if row[0] != "word"]
    assert len(rows) > 15
    missing = []
    for words, files in rows:
        paths = [ROOT / ("cffi_build" if is_source(name) else "") / name for name in re.findall(r"[\w./]+\.\w+", files)]
        assert paths, words
        text = "".join(path.read_text(encoding="utf-8") for path in paths)
        missing += [word for word in words.split(", ") if not re.search(rf"(?<![a-z]){word}", text, re.IGNORECASE)]
    assert missing == []
