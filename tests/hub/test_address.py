"""Names of models on the Hub, and names that are tricks."""

import pytest

from mvar_jax.hub.address import HubAddress, check_repository, is_plain


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf://me/digits", HubAddress("me/digits")),
        ("hf://me/digits/", HubAddress("me/digits")),
        ("hf://me/VAR_d1.6-x@v1.0", HubAddress("me/VAR_d1.6-x", "v1.0")),
        ("hf://me/digits/a/b.pth", HubAddress("me/digits", "main", "a/b.pth")),
        (f"hf://me/digits@{'0a' * 20}/a.pth", HubAddress("me/digits", "0a" * 20, "a.pth")),
    ],
)
def test_an_address_is_read_and_written(text, expected):
    assert HubAddress.parse(text) == expected
    assert str(expected) == text.rstrip("/")


@pytest.mark.parametrize(
    "text",
    [
        "hf://",
        "hf://digits",
        "hf://me/digits@",
        "hf://me/digits@a@b",
        "hf://me//digits",
        "hf://../digits",
        "hf://me/..",
        "hf://me/a--b",
        "hf://me/digits/../../x",
        "hf://me/digits//etc/passwd",
        "hf://me/digits/a/./b",
        "hf://me/digits/a\\b",
        "hf://me/digits/a\nb",
        "hf://me/digits@../x",
        "hf://me/dïgits",
        "https://huggingface.co/me/digits",
    ],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError, match=r"expected (hf://OWNER/NAME|OWNER/NAME)"):
        HubAddress.parse(text)


def test_names_that_lead_elsewhere_are_not_plain():
    assert all(map(is_plain, ("a", "a/b.c", ".a/..b")))
    assert not any(map(is_plain, ("", "/a", "a//b", "..", "a/../b", "./a", "a\\b", "a\0")))


def test_files_are_named_below_an_address():
    address = HubAddress("me/model", path="a/b")
    names = ("a/b", "a/b/c", "a/bc", "a", "c")
    assert [address.relative(name) for name in names] == ["", "c", None, None, None]
    assert address.file("c") == "a/b/c" and HubAddress("me/model").file("c") == "c"
    assert HubAddress("me/model").relative("a/c") == "a/c"


@pytest.mark.parametrize("name", ["", "digits", "a/b/c", "me/a..b", "-me/a", "me/a-"])
def test_what_is_no_repository_is_refused(name):
    with pytest.raises(ValueError, match="expected OWNER/NAME"):
        check_repository(name)
