"""TeX as it stands in libraries: accents and letters to Unicode, formulas left as they are."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["balanced", "detex", "entex"]

_ACCENTS = {
    '"': "\u0308",
    "'": "\u0301",
    "`": "\u0300",
    "^": "\u0302",
    "~": "\u0303",
    "=": "\u0304",
    ".": "\u0307",
    "c": "\u0327",
    "v": "\u030c",
    "u": "\u0306",
    "H": "\u030b",
    "r": "\u030a",
    "k": "\u0328",
}
_LETTERS = {
    "ss": "ß",
    "o": "ø",
    "O": "Ø",
    "l": "ł",
    "L": "Ł",
    "ae": "æ",
    "AE": "Æ",
    "oe": "œ",
    "OE": "Œ",
    "aa": "å",
    "AA": "Å",
    "i": "i",
    "j": "j",
}
_MATH = re.compile(r"((?<!\\)\$(?:[^$\\]|\\.)+\$)", re.DOTALL)
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "^": r"\^{}",
    "~": r"\~{}",
}


def detex(text: str) -> str:
    r"""Turn TeX into plain text; what stands between dollar signs stays TeX.

    Examples
    --------
    >>> detex(r'{G\"odel} on $\chi_\perp$')
    'Gödel on $\\chi_\\perp$'
    """
    if not any(c in text for c in "\\{}~$-"):
        return " ".join(text.split())
    text = re.sub(r"\\\((.+?)\\\)", r"$\1$", text)
    parts = _MATH.split(text)
    # every second part is a formula
    plain = [part if i % 2 else _words(part) for i, part in enumerate(parts)]
    return " ".join("".join(plain).split())


def _words(text: str) -> str:
    def accent(found: re.Match[str]) -> str:
        letter = {"\\i": "i", "\\j": "j"}.get(found.group(2), found.group(2))
        return unicodedata.normalize("NFC", letter + _ACCENTS[found.group(1)])

    text = re.sub(r"\\([\"'`^~=.])\s*\{(\\[ij]|[A-Za-z])\}", accent, text)
    text = re.sub(r"\\([\"'`^~=.])\s*(\\[ij]|[A-Za-z])", accent, text)
    text = re.sub(r"\\([cvuHrk])\s*\{(\\[ij]|[A-Za-z])\}", accent, text)
    text = re.sub(
        r"\\(ss|ae|AE|oe|OE|aa|AA|[oOlLij])(?![A-Za-z])(\{\})?\s?",
        lambda m: _LETTERS[m.group(1)],
        text,
    )
    text = text.replace("---", "—").replace("--", "–").replace("~", " ")
    # escaped signs survive the removal of braces and commands
    text = re.sub(r"\\([&%$#_{}])", lambda m: chr(0xE000 + ord(m.group(1))), text)
    text = re.sub(r"\\[a-zA-Z]+\s?|[{}]", "", text)
    return re.sub("[\ue000-\ue07f]", lambda m: chr(ord(m.group()) - 0xE000), text)


def entex(text: str) -> str:
    """Escape plain text for a BibTeX field; formulas between dollar signs stay as they are."""
    parts = _MATH.split(text)
    done = [
        part if i % 2 and balanced(part) else "".join(_SPECIAL.get(c, c) for c in part)
        for i, part in enumerate(parts)
    ]
    return "".join(done)


def balanced(text: str) -> bool:
    """Say whether each brace has its partner, so that the text cannot end a field."""
    depth = 0
    for character in text:
        depth += (character == "{") - (character == "}")
        if depth < 0:
            return False
    return depth == 0
