"""The quick run of the study of the book."""

from tests.studies.quick import quick


def test_principles(tmp_path):
    claims = quick("principles", tmp_path / "out")
    # the maximum of the information is one of the truncated expansion: this must not be hidden
    failed = {name for name, c in claims.items() if c["verdict"] == "fails"}
    assert failed == {"optimal-aspect"}
    decided = [name for name, c in claims.items() if c["verdict"] == "holds"]
    assert len(decided) >= 12, {n: c["verdict"] for n, c in claims.items()}
