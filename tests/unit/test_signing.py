"""Signatures of verdicts: whoever changes a word, or has no key, cannot make one."""

import hashlib
import hmac
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from champion_gate import holds, signing
from champion_gate.errors import BadInput
from champion_gate.holds import Hold

KEY, OLD, OTHER = "a" * 32, "b" * 32, "c" * 32


def test_a_signature_is_the_hmac_of_the_bytes_and_names_its_key():
    signature = signing.sign("text", KEY)
    scheme, name, digest = signature.split(":")
    assert scheme == "hmac-sha256"
    assert digest == hmac.new(KEY.encode(), b"text", hashlib.sha256).hexdigest()
    assert name == signing.sign("another text", KEY).split(":")[1] != signing.sign("text", OLD).split(":")[1]
    assert KEY not in signature


def test_the_name_of_a_key_is_no_plain_digest_of_it():
    assert signing.sign("text", KEY).split(":")[1] not in hashlib.sha256(KEY.encode()).hexdigest()


def test_of_several_keys_any_may_have_signed():
    old = signing.sign("text", OLD)
    assert signing.is_signed_by("text", old, (KEY, OLD))
    assert not signing.is_signed_by("text", old, (KEY, OTHER))
    assert not signing.is_signed_by("text", old, ())


@given(st.text(), st.text())
def test_another_text_has_another_signature(text, other):
    signature = signing.sign(text, KEY)
    assert signing.is_signed_by(text, signature, (KEY,))
    assert signing.is_signed_by(other, signature, (KEY,)) is (text == other)


@given(st.data())
def test_a_signature_with_a_changed_character_is_wrong(data):
    signature = signing.sign("text", KEY)
    at = data.draw(st.integers(0, len(signature) - 1))
    put = data.draw(st.characters(exclude_characters=signature[at], codec="utf-8"))
    assert not signing.is_signed_by("text", signature[:at] + put + signature[at + 1 :], (KEY,))


@pytest.mark.parametrize(
    "change",
    [
        str.upper,
        lambda s: s + " ",
        lambda s: s[:-1],
        lambda s: s.replace("hmac-sha256", "none"),
        lambda s: s.split(":")[-1],
        lambda s: s.rpartition(":")[0] + ":",
        lambda s: s.rpartition(":")[0] + ":" + "0" * 64,
        lambda s: "",
        lambda s: "é\U0001f600",
    ],
)
def test_what_only_looks_like_the_signature_is_wrong(change):
    signature = signing.sign("text", KEY)
    assert change(signature) != signature
    assert not signing.is_signed_by("text", change(signature), (KEY,))


def test_the_key_that_a_signature_names_is_no_reason_to_take_it():
    mine, theirs = signing.sign("text", KEY).split(":"), signing.sign("text", OTHER).split(":")
    assert not signing.is_signed_by("text", ":".join((mine[0], mine[1], theirs[2])), (KEY,))


@pytest.mark.parametrize("key", ["", "x", "k" * 15, "   ", " " * 40, "short" + " " * 40])
def test_a_key_that_could_be_guessed_is_refused_without_being_shown(key):
    with pytest.raises(BadInput, match="signing-key") as raised:
        signing.usable((KEY, key))
    assert not key.strip() or key.strip() not in re.findall(r"\w+", str(raised.value))


def test_keys_keep_their_order_since_the_first_one_signs():
    assert signing.usable((KEY, OLD, KEY)) == (KEY, OLD)
    assert signing.usable((f" {KEY}\n",)) == (KEY,)
    assert signing.usable(("ключ-подписи",)) == ("ключ-подписи",)
    assert signing.usable(()) == ()


# -- the mark that stops promotions


@given(st.text(), st.text(), st.text())
def test_a_hold_read_back_says_who_when_and_why(who, when, why):
    text = Hold(who, when, why).text()
    assert len(text.encode("utf-8", "surrogatepass")) <= 5000 or len(when) > 100
    again = holds.parse(text)
    assert again.when == when
    assert "\n" not in again.sentence()


@pytest.mark.parametrize(
    "tag", ["", "holidays", "{}", "[]", "null", '"who"', '{"who": 1}', "[" * 5000, '{"who":' * 700, "9" * 5000, "NaN"]
)
def test_a_tag_in_any_other_form_is_a_hold_too(tag):
    assert holds.parse(tag).why == tag
    assert "somebody" in holds.parse(tag).sentence()


def test_a_hold_with_endless_texts_fits_a_tag():
    text = Hold("w" * 9000, "2026-01-01", "é" * 9000).text()
    assert len(text.encode()) <= 5000
    assert json.loads(text)["when"] == "2026-01-01"
