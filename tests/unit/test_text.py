"""Text from outside is recorded as it is and shown without power over whoever reads it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from champion_gate import text


@given(st.text(max_size=500))
def test_one_line_is_one_line_that_speaks_to_no_runner(value):
    shown = text.one_line(value)
    assert len(shown.splitlines()) <= 1
    assert not any(ord(char) < 32 or ord(char) == 127 for char in shown)
    assert not shown.lstrip().startswith("::")
    assert "##[" not in shown


@pytest.mark.parametrize(
    "value", ["::set-output name=a::b", "  ::error::x", "x ##[set-output name=a;]b", "a\n::debug::b"]
)
def test_workflow_commands_are_broken_up(value):
    shown = text.one_line(value)
    assert "\n" not in shown
    assert not shown.lstrip().startswith("::")
    assert "##[" not in shown


def test_a_long_text_is_cut_and_says_so():
    assert text.one_line("x" * 2000, 100).endswith(text.CUT_MARK)
    assert len(text.one_line("x" * 2000, 100)) == 100


@given(st.text(max_size=4000), st.integers(40, 5000))
def test_a_tag_fits_in_bytes_and_is_whole_where_it_can_be(value, limit):
    fitted = text.fit_tag(value, limit)
    assert len(fitted.encode()) <= limit
    if len(value.encode()) <= limit:
        assert fitted == value


@pytest.mark.parametrize(
    ("value", "never"),
    [
        ("<script>alert(1)</script>", "<"),
        ("@everyone", "@"),
        ("| cell", " | "),
        ("[a](http://x)", "](http"),
        ("a\n# heading", "\n"),
        ("`code`", " `"),
    ],
)
def test_markdown_is_literal(value, never):
    assert never not in text.markdown(value)


def test_bytes_that_are_no_utf8_are_replaced():
    assert text.utf8("a\udcffb") == "a\ufffdb"
    assert text.utf8("日本") == "日本"
