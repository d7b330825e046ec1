"""docs/security.md names every limit."""

from pathlib import Path

from vtd_jax.untrusted import limits

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "security.md"


def test_every_limit_is_documented():
    text = PAGE.read_text()
    names = [
        name for name, value in vars(limits).items() if name.isupper() and isinstance(value, int)
    ]
    assert names
    lacking = [name for name in names if f"`{name}`" not in text]
    assert not lacking, f"{PAGE.name} does not say {', '.join(lacking)}"
