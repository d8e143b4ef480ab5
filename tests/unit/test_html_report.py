"""The HTML report: read by people in any light, on any screen, whatever the names in it try."""

import base64
import hashlib
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest

from champion_gate import html_report, report
from champion_gate.decision import Outcome
from champion_gate.per_query import PerQuery
from champion_gate.policy import Policy
from tests.support import judgements

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u202e\x1b[31m{{ 7 * 7 }} &amp; `x` | @all"
VOID = {"meta"}


class Page(HTMLParser):
    """What is in a page, and whether it is well formed."""

    def __init__(self, source):
        super().__init__()
        self.elements, self.open, self.text, self.source = [], [], [], source
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "desc", "title"} & set(self.open):
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def page(judged):
    return Page(html_report.render(judged))


def hostile():
    name = EVIL[:100]
    asked = Policy.model_validate({"metrics": [{"name": "ndcg@10"}], "slices": [{"column": name, "required": [name]}]})
    table = judgements.per_query(900, slices={name: (name, "</style></svg>", "de")})
    table = replace(table, query_ids=[f"{EVIL}{i}" for i in range(900)])
    judged = judgements.on_queries(
        table,
        asked,
        job=judgements.job(run_url="javascript:alert(1)", actor=EVIL, repository=EVIL, commit=EVIL, branch=EVIL),
        entries=tuple(judgements.move(i, reason=EVIL, actor=EVIL, alias=EVIL, state=EVIL) for i in range(3, 0, -1)),
        champion_alias=EVIL,
        isolation=EVIL,
        gate_run_id=EVIL,
        version=replace(judgements.version("7"), source=f"javascript:{EVIL}", run_id=EVIL),
    )
    checks = tuple(replace(check, reason=EVIL) for check in judged.decision.checks)
    return replace(
        judged,
        model=replace(judged.model, name=EVIL),
        dataset=replace(judged.dataset, name=EVIL, source=EVIL, notes=(EVIL,)),
        decision=replace(judged.decision, checks=checks),
    )


def sliced(slices=40, n=9000, metrics=("ndcg@10",)):
    names = tuple(f"m-{i:05d}" for i in range(slices))
    asked = judgements.policy(
        "metrics:\n"
        + "".join(f"  - {{name: {metric}, min-queries: 50}}\n" for metric in metrics)
        + "slices: [{column: market, required: [m-00000, m-00001]}]"
    )
    table = judgements.per_query(n, slices={"market": names}, lost={"m-00002": 0.3, "m-00001": 0.3}, metrics=metrics)
    return judgements.on_queries(table, asked)


def kinds():
    first = judgements.per_query()
    del first.values["champion"]
    return {
        "passed": judgements.on_queries(judgements.per_query(2400, 0.02)),
        "failed": judgements.on_queries(judgements.per_query(2400, -0.06)),
        "inconclusive": judgements.on_queries(judgements.per_query(600, -0.012)),
        "first release": judgements.on_queries(first),
        "point estimate": judgements.on_runs(0.81, 0.82),
        "first point estimate": judgements.on_runs(0.81, None),
        "no figure": judgements.on_runs(None, 0.82),
        "unservable": judgements.unservable(),
        "no champion": judgements.without_the_champion(),
        "slices": sliced(),
        "open slice": judgements.open_in_a_slice(),
        "noisy slices": judgements.noisy_slices(),
        "hostile": hostile(),
        "equal": judgements.on_queries(judgements.per_query(800, 0.0, ties=1.0 - 1e-12)),
        "difference": judgements.on_queries(asked=judgements.policy("metrics: [{name: ndcg@10, max-loss: 0.01}]")),
    }


KINDS = kinds()
every_kind = pytest.mark.parametrize("judged", KINDS.values(), ids=KINDS)


# -- one file, that needs nothing and lets nothing in


@every_kind
def test_it_is_one_well_formed_file_without_script_or_network(judged):
    shown = page(judged)
    assert not {name for name, _ in shown.elements} & {"script", "link", "img", "iframe", "object", "form", "base"}
    for _, attributes in shown.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "src", "srcset")]
        assert attributes.get("href", "https://").startswith("https://")
    assert "url(" not in shown.source
    assert "@import" not in shown.source


@every_kind
def test_its_policy_allows_its_own_style_sheet_and_nothing_else(judged):
    shown = page(judged)
    (policy,) = [m["content"] for m in shown.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    style = re.search(r"<style>(.*?)</style>", shown.source, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert shown.source.index("Content-Security-Policy") < shown.source.index("<style>")


def test_texts_of_others_are_shown_and_do_nothing():
    shown = page(KINDS["hostile"])
    assert "<script" not in shown.source
    assert "<img" not in shown.source
    assert "\x1b" not in shown.source
    assert "\u202e" not in shown.source
    assert "<script>alert(1)</script>" in shown.words
    assert "{{ 7 * 7 }}" in shown.words
    assert "javascript:alert(1)" in shown.words
    assert shown.all("a") == []


def test_a_name_that_is_no_unicode_can_be_written_all_the_same():
    judged = KINDS["passed"]
    judged = replace(judged, model=replace(judged.model, name="a\ud800b"))
    assert "a?b" in html_report.render(judged).encode().decode()


# -- for everybody


@every_kind
def test_headings_lead_through_it(judged):
    shown = page(judged)
    levels = [int(name[1]) for name, _ in shown.elements if re.fullmatch(r"h[1-6]", name)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(next_ - level <= 1 for level, next_ in pairwise(levels))
    assert shown.all("html") == [{"lang": "en"}]


@every_kind
def test_charts_have_names_and_all_ids_are_there_once(judged):
    shown = page(judged)
    ids = [attributes["id"] for _, attributes in shown.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for name, attributes in shown.elements:
        assert set(attributes.get("aria-labelledby", "").split()) <= set(ids)
        if name == "svg" and attributes.get("class") != "glyph":
            assert attributes.get("role") == "img" or attributes.get("aria-hidden") == "true"
        if attributes.get("class") == "scroll plot":
            assert attributes.get("tabindex") == "0"
        if name == "th":
            assert attributes.get("scope")


def colours(css):
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", css))


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_words_stand_out_from_what_is_behind_them(dark):
    """Web Content Accessibility Guidelines 2.2, 1.4.3: 4.5 to 1."""
    css = html_report.render(KINDS["passed"])
    light, night = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    found = colours(light) | (colours(night) if dark else {})
    assert len(colours(night)) == len(colours(light))
    outcomes = ("passed", "failed", "inconclusive")
    pairs = [(ink, behind) for ink in ("ink", "soft", "link", *outcomes) for behind in ("ground", "paper")]
    pairs += [(ink, f"{outcome}-tint") for outcome in outcomes for ink in ("ink", "soft", outcome)]
    pairs += [("on", outcome) for outcome in outcomes]
    for ink, behind in pairs:
        bright, dim = sorted((luminance(found[ink]), luminance(found[behind])), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= 4.5, (ink, behind)


def test_paper_is_always_light():
    assert "@media screen and (prefers-color-scheme: dark)" in html_report.render(KINDS["passed"])


# -- what it says


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("passed", "Version 7 is better than champion version 6 on ndcg@10 (95% confidence, 2,400 queries)."),
        ("failed", r"Version 7 keeps at most \d\d\.\d% of champion version 6's ndcg@10; 98% is asked for"),
        ("inconclusive", r"Version 7 keeps between \S+% and \S+% of champion version 6's ndcg@10, and 98% is asked"),
        ("first release", r"First release: ndcg@10 0\.\d+ of version 7 on 1500 queries reaches the threshold 0\.5\."),
        ("point estimate", r"val_ndcg_at_10 0\.81 of version 7 is 1\.22% below 0\.82 of champion version 6"),
        ("no figure", "The run of challenger version 7 has no metric val_ndcg_at_10"),
        ("unservable", r"Challenger version 7 cannot be loaded: ModuleNotFoundError: No module named '<lightgbm>'\."),
        ("no champion", r"Champion version 6 cannot be loaded: ModuleNotFoundError: No module named '<lightgbm>'\. So"),
        ("open slice", r"In the slice language=it, version 7 keeps between \S+% and \S+% of the champion's mrr@10"),
        (
            "difference",
            r"Version 7 (loses at most 0\.00\d+ of champion version 6's ndcg@10; 0\.01 may be lost|is better)",
        ),
    ],
)
def test_the_verdict_is_one_sentence_with_a_word_for_it(kind, sentence):
    shown = page(KINDS[kind])
    assert re.search(sentence.replace("(95%", r"\(95%").replace("queries).", r"queries\)\."), shown.words)
    outcome = KINDS[kind].decision.outcome.value
    assert shown.words.startswith(outcome.capitalize())
    assert ("header", {"class": f"verdict {outcome}"}) in shown.elements


def test_an_open_verdict_says_how_many_queries_would_settle_it():
    judged = judgements.on_queries(judgements.per_query(300, -0.001, noise=0.3, ties=0.1))
    estimate = next(check.estimate for check in judged.decision.checks if check.name == "champion")
    assert judged.decision.outcome is Outcome.INCONCLUSIVE
    assert estimate.needed > 300
    assert f"About {estimate.needed:,} queries would settle it" in page(judged).words


def test_too_few_queries_are_said_to_be_too_few():
    assert "At least 200 queries are needed" in page(judgements.on_queries(judgements.per_query(150))).words


def test_a_point_estimate_is_called_one_in_large_letters_and_has_no_queries():
    shown = page(KINDS["point estimate"])
    assert ("h2", {"id": "basis", "class": "large"}) in shown.elements
    assert "Point estimate" in shown.words
    assert "noise cannot be told from loss" in shown.words
    for absent in ("Query by query", "Queries that changed most", "Slices", "Data and metrics"):
        assert absent not in shown.words
    assert "Point estimate" not in page(KINDS["passed"]).words


def test_a_run_metric_beside_judged_queries_is_marked_as_a_point_estimate():
    asked = judgements.policy(
        "metrics:\n  - name: ndcg@10\n  - {name: size_mb, direction: lower, allow-different-data: true}"
    )
    judged = judgements.on_queries(
        asked=asked, challenger_metrics={"size_mb": 105.0}, champion_metrics={"size_mb": 100.0}
    )
    assert judged.decision.outcome is Outcome.FAILED
    words = page(judged).words
    assert "size_mb 105 of version 7 is 5.00% above 100" in words
    assert "≤\N{NO-BREAK SPACE}1.02" in html_report.render(judged)


@pytest.mark.parametrize("kind", ["unservable", "no champion"])
def test_the_models_last_lines_are_lines_below_what_to_do(kind):
    source = html_report.render(KINDS[kind])
    traceback = "<pre>Traceback (most recent call last):\n  line 41, in load\nModuleNotFoundError: No module"
    assert source.count("Traceback (most recent call last)") == 1
    assert source.index("<strong>What to do:</strong> A model that cannot") < source.index(traceback)
    assert "Metric by metric" not in source


def test_a_slice_that_decides_stands_in_the_table_in_the_reasons_and_in_large_figures():
    judged = KINDS["open slice"]
    (check,) = [c for c in judged.decision.checks if c.counts and c.outcome is Outcome.INCONCLUSIVE]
    source = html_report.render(judged)
    header = source[source.index("<header") : source.index("</header>")]
    for figure in (check.estimate.challenger, check.estimate.reference):
        assert f'<dd>{figure:.6g}</dd><dd class="soft">mrr@10 in language=it</dd>' in header
    asked = source[source.index('id="checks"') : source.index('id="metrics"')]
    assert 'slice language=it <span class="tag">required</span>' in asked
    assert "<h3>Why it is open</h3>" in asked
    assert Page(source).words.count(check.reason) == 1
    assert '<span class="tag">1 slice open</span>' in source


def test_the_large_figures_are_those_of_the_check_that_decided():
    asked = judgements.policy("metrics: [{name: ndcg@10}, {name: mrr@10, threshold: 0.99}]")
    table = judgements.per_query(2400, 0.02, metrics=("ndcg@10", "mrr@10"))
    words = page(judgements.on_queries(table, asked)).words
    assert re.search(r"Version 7 0\.\d+ mrr@10 Threshold ≥ 0\.99 mrr@10 Champion 6 0\.\d+ mrr@10 Judged", words)


def test_of_very_many_slices_that_failed_the_first_are_listed_and_the_others_counted():
    names = tuple(f"m-{i:02d}" for i in range(60))
    asked = judgements.policy("metrics: [{name: ndcg@10, min-queries: 5}]\nslices: [{column: market}]")
    table = judgements.per_query(3000, slices={"market": names}, lost=dict.fromkeys(names, 0.4))
    judged = judgements.on_queries(table, asked)
    failed = sum(c.slice is not None and c.outcome is Outcome.FAILED for c in judged.decision.checks)
    words = page(judged).words
    assert f"{failed - 10} more slices failed or stayed open" in words
    assert f"{failed + 1 - 20} more: verdict.json beside this file has all of them" in words


def test_slices_that_were_not_shown_to_hold_are_grey():
    source = html_report.render(KINDS["noisy slices"])
    rows = re.findall(r'<tr class="(\w+)"><th scope="row" class="any name">.*?<td class="word">([^<]+)</td>', source)
    assert set(rows) == {("neutral", "not shown worse"), ("passed", "held")}
    assert source.count("fails only if it surely lost more than asked") == 1
    assert "surely lost more" not in html_report.render(judgements.on_queries(asked=judgements.policy(ONE)))


ONE = "metrics: [{name: ndcg@10}]\nslices: [{column: language, required: [de, en, fr, it, es, nl, pl]}]"


def test_a_metric_that_nothing_is_compared_with_is_shown_in_grey():
    table = judgements.per_query(metrics=("ndcg@10", "mrr@10"))
    del table.values["champion"]
    judged = judgements.on_queries(
        table, judgements.policy("metrics: [{name: ndcg@10, threshold: 0.5}, {name: mrr@10}]")
    )
    source = html_report.render(judged)
    assert re.search(
        r'<span class="badge shown">.*?</svg>shown</span></td>.*?mrr@10.*?no champion to compare with', source
    )
    assert "report only" not in source


def test_queries_without_a_relevant_document_stand_beside_the_count():
    words = page(KINDS["open slice"]).words
    said = "6 without a relevant document (88 for mrr@10, relevant from 3)"
    assert re.search(rf"Judged queries 1,500 [\d,]+ documents; {re.escape(said)}", words)
    assert words.count(said) == 2


def test_it_says_what_kind_of_bounds_there_are():
    source = html_report.render(KINDS["passed"])
    said = "two one-sided 95% bounds, together a 90% interval"
    assert source.count(f"In brackets: {said}.") == 1
    assert source.count(f'title="{said}"') == 4
    assert "one-sided" not in html_report.render(KINDS["point estimate"])


def test_a_baseline_that_is_the_champion_is_one_with_it():
    table = judgements.per_query()
    table.values["baseline"] = table.values["champion"]
    asked = judgements.policy("metrics: [{name: ndcg@10}]\nbaseline: {version: 6}")
    words = page(judgements.on_queries(table, asked, pinned="6")).words
    assert "against champion and baseline version 6" in words
    assert words.count("Against champion and baseline version 6") == 1
    assert "baseline version 6, the champion" in words


def test_the_histogram_counts_what_the_decision_counted():
    judged = KINDS["passed"]
    e = next(check.estimate for check in judged.decision.checks if check.name == "champion")
    words = page(judged).words
    for count, what in ((e.wins, "won"), (e.ties, "tied"), (e.losses, "lost")):
        assert f"{count:,} {what}" in words


def test_queries_without_a_relevant_document_are_counted_as_the_policy_says():
    for rule, ties in (("skip", 0), ("0", 100)):
        asked = judgements.policy(f"metrics: [{{name: ndcg@10, empty-queries: {rule}}}]")
        judged = judgements.on_queries(judgements.per_query(1000, ties=0.0, empty=100), asked)
        assert f"{ties:,} tied" in page(judged).words


def test_the_queries_that_changed_most_are_listed_with_both_figures():
    table = judgements.per_query(1000)
    table.values["champion"]["ndcg@10"][417] = 0.987654
    table.values["challenger"]["ndcg@10"][417] = 0.012345
    source = html_report.render(judgements.on_queries(table))
    lost = source[source.index("Lost most on ndcg@10") : source.index("Won most on ndcg@10")]
    assert lost.count('<tr><th scope="row"') == 10
    assert re.search(r"q-00417.*?0\.9753.*?0\.9877.*?0\.0123", lost)
    assert lost.index("q-00417") < lost.index("documents")
    assert "language=" in lost


def test_slices_say_which_are_required_lost_or_too_small():
    judged = KINDS["slices"]
    source = html_report.render(judged)
    rows = re.findall(r'<tr class="(\w+)"><th scope="row" class="any name">.*?</svg></span> ([^<]*?)(?: <|<)', source)
    by_name = {name.strip(): outcome for outcome, name in rows}
    assert len(by_name) == 40
    assert [outcome for outcome, _ in rows[:2]] == ["failed", "failed"]
    assert by_name["m-00001"] == by_name["m-00002"] == "failed"
    assert by_name["m-00000"] == "passed"
    few = {c.slice.value for c in judged.decision.checks if c.slice and not c.counts}
    assert few
    assert {name for name, outcome in by_name.items() if outcome == "few"} == few
    forest = source[source.index('<table class="forest">') :]
    assert forest.count('<span class="tag">required</span>') == 2


def test_a_slice_that_is_not_there_is_in_the_table_without_a_chart():
    asked = judgements.policy("metrics: [{name: ndcg@10}]\nslices: [{column: language, required: [xx]}]")
    words = page(judgements.on_queries(asked=asked)).words
    assert "language=xx is required, and no query is in it" in words


def test_the_history_shows_the_newest_moves_and_how_many_are_older():
    moves = tuple(judgements.move(i, state="undone" if i == 49 else "done") for i in range(50, 0, -1))
    moves = (replace(moves[0], kind="rollback", reason="p99 doubled"), *moves[1:])
    words = page(judgements.on_queries(entries=moves)).words
    assert "rollback" in words
    assert "p99 doubled" in words
    assert "undone" in words
    assert "30 earlier ones are in the release log" in words
    assert "nothing was released" in page(KINDS["first release"]).words


def test_a_version_that_was_taken_back_is_not_said_to_be_promotable():
    taken_back = judgements.move(9, "rollback", from_version="7", to_version="6")
    words = page(judgements.on_queries(entries=(taken_back,))).words
    assert "was rolled back before" in words
    assert "It may be promoted" not in words


def test_provenance_names_everything_that_the_verdict_rests_on():
    judged = KINDS["passed"]
    shown = page(judged)
    for known in (
        judged.model.name,
        judged.version.run_id,
        judged.champion.run_id,
        judged.version.source,
        judged.gate_run_id,
        judged.policy.digest(),
        judged.dataset.digest,
        judged.dataset.source,
        judged.isolation,
        judged.job.commit,
        judged.job.repository,
        "gain exp, ties average, empty-queries skip",
        "2026-11-25 09:30 UTC",
        "threshold: 0.5",
    ):
        assert known in shown.words
    assert [a["href"] for a in shown.all("a")] == [judged.job.run_url]


def test_a_pull_request_reads_that_it_does_not_promote():
    judged = judgements.on_queries(job=judgements.job(event="pull_request"), promotable=False)
    assert "by a run on the default branch, not by this pull request" in page(judged).words


def test_report_only_metrics_are_marked():
    asked = judgements.policy("metrics:\n  - name: ndcg@10\n  - {name: mrr@10, report-only: true, threshold: 0.99}")
    judged = judgements.on_queries(judgements.per_query(metrics=("ndcg@10", "mrr@10")), asked)
    assert judged.decision.outcome is Outcome.PASSED
    shown = page(judged)
    assert "report only" in shown.words
    assert "What is only reported" in shown.words


def test_a_gate_on_run_metrics_alone_is_shown_without_numpy(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy", None)
    for kind in ("point estimate", "first point estimate", "no figure"):
        assert "val_ndcg_at_10" in html_report.render(KINDS[kind])
        assert "val_ndcg_at_10" in report.verdict(KINDS[kind])[1]


# -- however much was judged


def test_a_million_queries_and_twenty_thousand_slices_make_a_small_file():
    n = 1_000_000
    rng = np.random.default_rng(0)
    few = sliced(20_000, 60_000)
    champion = rng.beta(5, 2, n)
    values = {"champion": {"ndcg@10": champion}, "challenger": {"ndcg@10": np.clip(champion + 0.01, 0, 1)}}
    ids = ["q" * 1000] * n
    table = PerQuery(ids, np.full(n, 100), {"market": ["m" * 1000] * n}, values)
    source = html_report.render(replace(few, per_query=table, dataset=replace(few.dataset, queries=n)))
    assert len(source.encode()) < 500_000
    assert "Not shown here:" in source
    assert "1,000,000" in source


def test_many_metrics_make_a_file_that_a_browser_opens():
    names = tuple(f"{kind}@{k}" for k in range(1, 13) for kind in ("ndcg", "mrr", "map", "recall"))
    source = html_report.render(sliced(60, 3000, names))
    assert len(source.encode()) < 2_000_000
    assert "those of" in Page(source).words


def test_a_policy_of_many_lines_is_cut_and_says_so():
    values = [f"v{i}" for i in range(100)]
    columns = [{"column": f"c{i}", "required": values} for i in range(20)]
    asked = Policy.model_validate({"metrics": [{"name": "ndcg@10"}], "slices": columns})
    assert "more lines are left out" in page(judgements.on_queries(asked=asked)).words
