"""Verdicts in Markdown and plain text: clear at a glance, bounded, and deaf to the names in them."""

import re
from dataclasses import replace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from champion_gate import report, timeline
from champion_gate.decision import Outcome
from champion_gate.move_writes import Moved
from champion_gate.policy import Policy
from champion_gate.verdict_view import policy_lines
from tests.support import judgements

EVIL = (
    "<script>alert(1)</script> | @everyone `x` [a](javascript:x) ##[error]\n::error::x\n# h\x1b[31m</details></pre>```"
)
MERMAID = re.compile(
    r"""---
config:
  xyChart:
    height: 300
  themeVariables:
    xyChart:
      plotColorPalette: "\#3b78c3"
---
xychart-beta
    title "[A-Za-z0-9@._/: -]+"
    x-axis (?:"challenger - champion" -?\d+\.\d+ --> \d+\.\d+|\["challenger", "(?:champion|threshold|baseline)"\])
    y-axis (?:"queries" )?0 --> \d+(?:\.\d+)?
    bar \[(\d+(?:\.\d+)?(?:, \d+(?:\.\d+)?)*)\]"""
)


def plain(markdown):
    """Markdown without its escapes."""
    return re.sub(r"\\([^\w\s])", r"\1", markdown).replace("&#64;", "@").replace("\N{NO-BREAK SPACE}", " ")


def shown(judged, **options):
    markdown, _ = report.verdict(judged, **options)
    return plain(markdown)


def tables(markdown):
    """The tables, as rows of cells."""
    found, rows = [], []
    for line in [*markdown.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif rows:
            found.append(rows)
            rows = []
    return found


def charts_of(markdown):
    return re.findall(r"```mermaid\n(.*?)\n```", markdown, re.DOTALL)


def sliced(count, n=None, lost=()):
    names = tuple(f"market-{i:05d}" for i in range(count))
    asked = judgements.policy(
        "metrics: [{name: ndcg@10, min-queries: 5}]\nslices: [{column: market, required: [market-00000]}]"
    )
    table = judgements.per_query(n or 20 * count, slices={"market": names}, lost=dict.fromkeys(lost, 0.6))
    return judgements.on_queries(table, asked)


def hostile(event="push"):
    name = EVIL[:80]
    asked = Policy.model_validate({"metrics": [{"name": "ndcg@10"}], "slices": [{"column": name, "required": [name]}]})
    table = judgements.per_query(900, slices={name: (name, EVIL, "de")})
    table = replace(table, query_ids=[f"{EVIL}{i}" for i in range(900)])
    judged = judgements.on_queries(
        table,
        asked,
        job=judgements.job(run_url=f"https://x/{EVIL}", actor=EVIL, commit=EVIL, event=event),
        entries=tuple(judgements.move(i, reason=EVIL, actor=EVIL, alias=EVIL, state=EVIL) for i in range(3, 0, -1)),
        champion_alias=EVIL,
        isolation=EVIL,
        gate_run_id=EVIL,
        report=EVIL,
    )
    checks = tuple(replace(check, reason=EVIL) for check in judged.decision.checks)
    return replace(
        judged,
        model=replace(judged.model, name=EVIL),
        dataset=replace(judged.dataset, name=EVIL, notes=(EVIL,)),
        decision=replace(judged.decision, checks=checks),
    )


PASSED = judgements.on_queries(judgements.per_query(2400, 0.02))
FAILED = judgements.on_queries(judgements.per_query(2400, -0.06, lost={"de": 0.1}))
OPEN = judgements.on_queries(judgements.per_query(600, -0.012))


# -- the summary


@pytest.mark.parametrize("judged", [PASSED, FAILED, OPEN], ids=["passed", "failed", "inconclusive"])
def test_the_first_line_is_the_verdict_and_the_next_says_why(judged):
    lines = shown(judged).splitlines()
    outcome = judged.decision.outcome.value
    assert lines[0] == f"## {report.MARKS[outcome]} search-ranker version 7: {outcome}"
    assert lines[2].startswith("Version 7 ")
    assert "champion version 6" in lines[2]


def test_metrics_are_a_table_of_both_sides_the_ratio_and_what_is_asked():
    (check,) = [check for check in PASSED.decision.checks if check.name == "champion"]
    e = check.estimate
    metrics = tables(shown(PASSED))[0]
    assert metrics[0][1:] == [
        *("metric", "compared with", "challenger", "reference", "ratio or difference", "asked", "won/tied/lost")
    ]
    assert metrics[2][:3] == ["✅", "ndcg@10", "threshold"]
    assert metrics[3] == [
        "✅",
        "ndcg@10",
        "champion version 6",
        f"{e.challenger:.6g}",
        f"{e.reference:.6g}",
        f"{e.ratio:.4f} ({e.ratio_lower:.4f} to {e.ratio_upper:.4f})",
        "≥ 0.98",
        f"{e.wins}/{e.ties}/{e.losses}",
    ]


def test_there_is_one_chart_with_the_same_figures_in_a_table():
    markdown, _ = report.verdict(PASSED)
    (chart,) = charts_of(markdown)
    bars = MERMAID.fullmatch(chart)[1].split(", ")
    (table,) = [rows for rows in tables(markdown) if rows[0] == ["difference", "queries"]]
    assert [row[1].replace(",", "") for row in table[2:-1]] == bars
    (check,) = [check for check in PASSED.decision.checks if check.name == "champion"]
    assert sum(map(int, bars)) == check.estimate.wins + check.estimate.losses
    assert table[-1] == ["tied", f"{check.estimate.ties:,}"]


@pytest.mark.parametrize(
    "judged",
    [
        judgements.on_runs(0.81, 0.82),
        judgements.on_runs(0.81, None),
        judgements.on_queries(judgements.per_query(500, 1e-5, noise=1e-4)),
        hostile(),
        sliced(40),
    ],
    ids=["point estimate", "first release", "tiny", "hostile", "slices"],
)
def test_mermaid_can_read_every_chart(judged):
    markdown, _ = report.verdict(judged)
    (chart,) = charts_of(markdown)
    assert MERMAID.fullmatch(chart)


@pytest.mark.parametrize(
    "judged",
    [
        judgements.on_runs(None, 0.82),
        judgements.on_runs(1e-9, 1e-9, judgements.policy("metrics: [{name: loss, direction: lower}]")),
        judgements.on_queries(judgements.per_query(500, ties=1.0)),
        judgements.unservable(),
    ],
    ids=["no figure", "too small", "all tied", "unservable"],
)
def test_where_there_is_nothing_to_draw_there_is_no_chart(judged):
    markdown, _ = report.verdict(judged)
    charts = charts_of(markdown)
    assert len(charts) <= 1
    assert all(MERMAID.fullmatch(chart) for chart in charts)


def test_a_point_estimate_says_that_noise_cannot_be_told_from_loss():
    markdown, text = report.verdict(judgements.on_runs(0.81, 0.82))
    assert "**Basis: point estimate.** One figure a side" in markdown
    assert "basis: point estimate (one figure a side: noise cannot be told from loss)" in text
    assert "Queries that changed most" not in markdown
    markdown, text = report.verdict(PASSED)
    assert "**Basis: judged queries.** Both models on each of the same 2,400 queries" in markdown
    assert "point estimate" not in markdown + text


def test_it_says_whether_it_may_be_promoted():
    assert "It may be promoted to **champion**." in shown(PASSED)
    assert "Not promoted: **champion** stays version 6.\n" in shown(FAILED)
    assert "\n  Not promoted: champion stays version 6.\n" in report.verdict(FAILED)[1]
    pull_request = replace(PASSED, job=judgements.job(event="pull_request"), promotable=False)
    assert "promoted to **champion** by a run on the default branch, not by this pull request." in shown(pull_request)
    assert "the policy lets it be promoted to **champion** all the same" in shown(replace(OPEN, promotable=True))
    taken_back = judgements.move(9, "rollback", from_version="7", to_version="6")
    assert "was rolled back before" in shown(replace(PASSED, entries=(taken_back,)))


def test_a_first_release_names_no_champion():
    table = judgements.per_query()
    del table.values["champion"]
    markdown, text = report.verdict(judgements.on_queries(table))
    assert "First release: ndcg@10" in plain(markdown)
    assert "none: first release" in plain(markdown)
    assert text.startswith("PASSED: search-ranker version 7 against the thresholds (first release)")
    assert "version None" not in markdown + text


@pytest.mark.parametrize(
    ("promotes", "event", "why"),
    [
        (False, "push", "the policy has no promote-inconclusive: true"),
        (True, "push", "on-inconclusive is not pass-with-warning"),
        (True, "pull_request", "a pull request promotes nothing"),
    ],
)
def test_an_open_verdict_says_why_it_is_not_promoted(promotes, event, why):
    judged = replace(OPEN, policy=OPEN.policy.model_copy(update={"promote_inconclusive": promotes}))
    judged = replace(judged, job=judgements.job(event=event))
    assert f"Not promoted: **champion** stays version 6 ({why})." in shown(judged)
    assert f"\n  Not promoted: champion stays version 6 ({why}).\n" in report.verdict(judged)[1]
    assert "Not promoted" not in report.verdict(replace(judged, promotable=True))[1]


def test_without_a_champion_the_alias_still_names_none():
    table = judgements.per_query()
    del table.values["champion"]
    judged = judgements.on_queries(table, judgements.policy("metrics: [{name: ndcg@10, threshold: 0.99}]"))
    assert "Not promoted: **champion** still names no version." in shown(judged)


def test_a_metric_that_nothing_is_compared_with_is_shown_and_not_passed():
    table = judgements.per_query(metrics=("ndcg@10", "mrr@10"))
    del table.values["champion"]
    judged = judgements.on_queries(
        table, judgements.policy("metrics: [{name: ndcg@10, threshold: 0.5}, {name: mrr@10}]")
    )
    markdown, text = report.verdict(judged)
    assert tables(plain(markdown))[0][3][:3] == ["·", "mrr@10", "no champion to compare with"]
    assert "report only" not in markdown + text
    assert re.search(r"\[shown\] figure: mrr@10 is 0\.\d+\. There is no champion to compare with\.", text)


def test_the_headline_of_a_model_that_cannot_be_loaded_carries_the_exceptions_last_line():
    markdown, text = report.verdict(judgements.unservable())
    said = "Challenger version 7 cannot be loaded: ModuleNotFoundError: No module named '<lightgbm>'."
    assert shown(judgements.unservable()).splitlines()[2].replace("&lt;", "<").replace("&gt;", ">") == said
    assert text.splitlines()[1] == f"  {said}"
    assert "Both models" not in markdown
    assert text.startswith("FAILED: search-ranker version 7")


def test_what_to_do_stands_before_the_models_last_lines_which_stay_lines_and_text():
    markdown, text = report.verdict(judgements.unservable())
    traceback = "<pre>\nTraceback (most recent call last):\n  line 41, in load\nModuleNotFoundError: "
    assert markdown.index("**What to do:** A model that cannot be loaded") < markdown.index(traceback)
    assert "&lt;lightgbm&gt;" in markdown
    lines = text.splitlines()
    at = lines.index("  its last lines:")
    assert lines[at - 1].startswith("  what to do: A model that cannot be loaded and asked cannot be served.")
    assert lines[at + 1 : at + 3] == ["    Traceback (most recent call last):", "      line 41, in load"]
    assert " | " not in text


def test_a_champion_that_cannot_be_loaded_keeps_its_traceback_out_of_the_sentences():
    markdown, text = report.verdict(judgements.without_the_champion())
    said = "Champion version 6 cannot be loaded: ModuleNotFoundError: No module named '<lightgbm>'. So there is nothing"
    assert text.splitlines()[1].startswith(f"  {said}")
    assert text.count("Traceback (most recent call last)") == 1
    assert markdown.count("<pre>\nTraceback") == 1
    assert "basis: judged queries" in text


@pytest.mark.parametrize(
    ("reason", "headline"),
    [
        ("Challenger version 7 cannot be loaded: OSError: a\\nb. It printed nothing. Try again.", "OSError: a"),
        ("Challenger version 7 cannot be loaded: it ended with 1.", "it ended with 1."),
        ("Challenger version 7 has requirements that no set meets: x>2. So it cannot be served. Log it again.", "x>2."),
        ("", ""),
        (judgements.unloadable(printed="A model that cannot be loaded and asked Its last lines: "), "'<lightgbm>'."),
    ],
)
def test_whatever_a_model_said_has_a_headline(reason, headline):
    _, text = report.verdict(judgements.unservable(reason or " "))
    assert text.splitlines()[1].endswith(headline)


def test_a_slice_that_decides_is_in_the_table_of_what_was_asked():
    judged = judgements.open_in_a_slice()
    assert judged.decision.outcome is Outcome.INCONCLUSIVE
    rows = tables(shown(judged))[0][2:]
    assert [row[0] for row in rows] == ["✅", "✅", "❔"]
    assert rows[2][1] == "mrr@10 in language=it, required"
    e = next(c.estimate for c in judged.decision.checks if c.slice and c.outcome is Outcome.INCONCLUSIVE)
    assert rows[2][3:7] == [
        f"{e.challenger:.6g}",
        f"{e.reference:.6g}",
        f"{e.ratio:.4f} ({e.ratio_lower:.4f} to {e.ratio_upper:.4f})",
        "≥ 0.95",
    ]


def test_slices_that_were_not_shown_to_hold_are_not_called_held():
    judged = judgements.noisy_slices()
    assert judged.decision.outcome is Outcome.PASSED
    markdown = shown(judged)
    (rows,) = [rows for rows in tables(markdown) if rows[0][1] == "slice"]
    found = {(row[0], row[-1]) for row in rows[2:]}
    assert found == {("⚪", "not shown worse"), ("✅", "held")}
    for row in rows[2:]:
        lower = float(row[3].partition("(")[2].partition(" ")[0])
        assert (row[-1] == "held") is (lower >= 0.98)
    neutral = sum(row[0] == "⚪" for row in rows[2:])
    assert f"ndcg@10: {7 - neutral} held, {neutral} not shown worse." in markdown
    assert f"The {7 - neutral} other checks held; {neutral} slices were not shown worse." in markdown
    assert markdown.count("fails only if it surely lost more than asked (Holm's correction over all of them)") == 1


def test_the_headline_counts_the_other_checks():
    both = judgements.policy("metrics: [{name: ndcg@10, threshold: 0.1}]")
    assert (
        shown(judgements.on_queries(judgements.per_query(2400), both))
        .splitlines()[2]
        .endswith("queries). The other check held.")
    )
    three = judgements.policy("metrics: [{name: ndcg@10, threshold: 0.1}, {name: mrr@10}]")
    table = judgements.per_query(2400, metrics=("ndcg@10", "mrr@10"))
    assert shown(judgements.on_queries(table, three)).splitlines()[2].endswith("queries). The 2 other checks held.")


def test_queries_without_a_relevant_document_are_counted_by_metric():
    said = "6 without a relevant document (88 for mrr@10, relevant from 3)"
    markdown, text = report.verdict(judgements.open_in_a_slice())
    assert plain(markdown).count(said) == 2
    assert f"basis: judged queries; 1,500 of them, {said}\n" in text
    assert "without a relevant document" not in "".join(report.verdict(PASSED))


def test_it_says_once_what_kind_of_bounds_there_are():
    markdown, text = report.verdict(PASSED)
    assert markdown.count("two one-sided 95% bounds, together a 90% interval") == 1
    assert text.count("two one-sided 95% bounds, together a 90% interval") == 1
    assert "one-sided" not in "".join(report.verdict(judgements.on_runs(0.81, 0.82)))
    asked = judgements.policy("metrics: [{name: ndcg@10}, {name: mrr@10, confidence: 0.99}]")
    table = judgements.per_query(metrics=("ndcg@10", "mrr@10"))
    _, text = report.verdict(judgements.on_queries(table, asked))
    assert "90% interval (ndcg@10); two one-sided 99% bounds, together a 98% interval (mrr@10)" in text


def same_baseline(text, **fields):
    table = judgements.per_query(2400, metrics=("ndcg@10", "mrr@10"))
    table.values["baseline"] = table.values["champion"]
    return judgements.on_queries(table, judgements.policy(text), pinned="6", **fields)


def test_a_baseline_that_is_the_champion_is_one_row_with_it():
    judged = same_baseline("metrics: [{name: ndcg@10}, {name: mrr@10}]\nbaseline: {version: 6}")
    markdown, text = report.verdict(judged)
    rows = tables(plain(markdown))[0][2:]
    assert [row[2] for row in rows] == ["champion and baseline version 6"] * 2
    assert text.splitlines()[0] == "PASSED: search-ranker version 7 against champion and baseline version 6"
    assert "The other check held." in text
    assert "] baseline:" not in text
    assert "version 6 of run 00000000000000000000000000000006, the baseline too" in plain(markdown)


def test_a_baseline_that_is_the_champion_is_a_row_of_its_own_where_more_is_asked():
    judged = same_baseline("metrics: [{name: ndcg@10}]\nbaseline: {version: 6, max-regression: 0.001}")
    rows = tables(shown(judged))[0][2:]
    assert [row[2] for row in rows] == ["champion version 6", "baseline version 6"]


def test_a_reason_that_is_cut_says_so_and_a_promotions_is_its_comparison():
    reason = (
        "ndcg@10 0.8 of version 6 reaches the threshold 0.5. "
        + "ndcg@10 0.8 against 0.7 of champion version 5: x. " * 9
    )
    entries = (judgements.move(6, reason=reason), judgements.move(5, "rollback", reason="slow. So " * 40))
    markdown = shown(replace(PASSED, entries=entries))
    assert "| ndcg@10 0.8 against 0.7 of champion version 5: x. |" in markdown
    assert re.search(r"\| slow\. So .{150,200} … \|", markdown)
    story = timeline.tell(entries, None, "")
    assert "slow. So" in report.history("m", story.rows, story.spans, None, 0)


# -- releases


@pytest.mark.parametrize("basis", ["", "judged queries"])
def test_a_promotion_says_in_a_sentence_why_and_on_what_it_rests(basis):
    first, second = "ndcg@10 0.8 of version 7 reaches the threshold 0.5.", "It is 0.7 of champion version 6: better."
    moved = Moved("m", "promotion", "champion", "6", "7", True, "r", f"{first} {second} And so on.")
    if basis:
        object.__setattr__(moved, "basis", basis)
    markdown, text = report.move(moved)
    assert text.splitlines()[1] == f"  {second}"
    assert "And so on" not in text
    assert "And so on" in markdown
    assert ("basis: judged queries" in text) is bool(basis)
    assert ("**Basis of the verdict:** judged queries." in markdown) is bool(basis)


def test_a_rollbacks_reason_is_left_whole():
    moved = Moved("m", "rollback", "champion", "7", "6", True, "r", "Slow. Very slow.")
    markdown, text = report.move(moved)
    assert "  reason: Slow. Very slow." in text
    assert "Slow. Very slow." in markdown
    assert "All that the verdict says" not in markdown


# -- the policy


def test_the_policy_is_shown_whole_as_it_was_applied():
    asked = judgements.policy(
        "metrics:\n  - {name: ndcg@10, max-regression: 0.01}\n  - {name: mrr@10, max-loss: 0.1}\n  - name: size_mb\n"
        "slices: [{column: language}, {column: device, min-queries: 77}]\nbaseline: {version: 3, max-regression: 0.3}"
    )
    found = yaml.safe_load("\n".join(policy_lines(asked)))
    ndcg, mrr, size = found["metrics"]
    assert (ndcg["min-queries"], ndcg["gain"], ndcg["confidence"]) == (299, "exp", 0.95)
    assert (mrr["min-queries"], mrr["max-loss"], mrr["relevant-from"]) == (200, 0.1, 1.0)
    assert "max-regression" not in mrr
    assert "gain" not in mrr
    assert size["direction"] == "higher"
    assert size["max-regression"] == 0.02
    assert "min-queries" not in size
    assert [column["min-queries"] for column in found["slices"]] == [200, 77]
    assert found["slices"][0]["max-regression"] == 0.05
    assert found["baseline"] == {"version": "3", "max-regression": 0.3, "min-queries": 200}
    assert found["promote-inconclusive"] is False
    assert "max-regression: 0.02" in shown(PASSED)


def test_the_policy_names_each_metrics_number_of_queries_where_they_differ():
    asked = judgements.policy(
        "metrics: [{name: ndcg@10, min-queries: 60}, {name: mrr@10}]\nslices: [{column: language}]"
    )
    (column,) = yaml.safe_load("\n".join(policy_lines(asked)))["slices"]
    assert column["min-queries"] == {"ndcg@10": 60, "mrr@10": 200}


def test_slices_that_matter_are_in_sight_and_the_others_are_folded():
    markdown = shown(sliced(40, lost=("market-00003",)))
    first, second = [rows for rows in tables(markdown) if rows[0][1] == "slice"]
    assert [row[1] for row in first[2:]] == ["market=market-00003", "market=market-00000"]
    assert first[2][0] == "❌"
    assert first[3][-1].endswith("required")
    assert len(second) - 2 == 38
    assert "<details><summary>38 other slices</summary>" in markdown
    (few,) = [rows for rows in tables(shown(PASSED)) if rows[0][1] == "slice"]
    assert len(few) - 2 == 7


# -- however much was judged


@pytest.mark.parametrize(
    ("limit", "notice", "slices"),
    [
        (700_000, "", None),
        (12_000, "_Shown are the slices that were lost", 2),
        (4_500, "_The slices are only counted", 0),
    ],
)
def test_it_says_less_where_there_is_less_room(limit, notice, slices):
    judged = sliced(300, lost=("market-00003",))
    slices = sum(check.slice is not None for check in judged.decision.checks) if slices is None else slices
    markdown, _ = report.verdict(judged, limit=limit)
    assert len(markdown.encode()) <= limit
    assert notice in markdown
    found = [rows for rows in tables(markdown) if rows[0][1] == "slice"]
    assert sum(len(rows) - 2 for rows in found) == slices
    assert re.search(r"ndcg@10: 1 lost more than it may, .* held", plain(markdown))


def test_twenty_thousand_slices_fit_a_summary_and_a_comment():
    judged = sliced(20_000, 60_000, lost=("market-00003",))
    markdown, text = report.verdict(judged)
    assert len(markdown.encode()) <= report.SUMMARY_BYTES < 2**20
    assert len(report.comment(judged).encode()) <= report.COMMENT_BYTES < 65_536
    assert "market=market-00003" in markdown
    assert len(text) < 20_000


def test_twenty_thousand_lost_slices_fit_too():
    judged = sliced(300)
    lost = [c for c in judged.decision.checks if c.slice]
    many = tuple(
        replace(lost[i % len(lost)], outcome=Outcome.FAILED, counts=True, reason="x" * 900) for i in range(20_000)
    )
    judged = replace(judged, decision=replace(judged.decision, outcome=Outcome.FAILED, checks=many))
    markdown, text = report.verdict(judged)
    assert len(markdown.encode()) <= report.SUMMARY_BYTES
    assert "20,000 lost more than they may" in markdown
    assert "and 19,980 more slices" in text
    comment = report.comment(judged)
    assert len(comment.encode()) <= report.COMMENT_BYTES
    assert "20,000 lost more than they may" in comment


def many_metrics(reason):
    names = [f"ndcg@{k}" for k in range(1, 51)]
    asked = judgements.policy(f"metrics: [{', '.join(f'{{name: {name}, threshold: 0.99}}' for name in names)}]")
    judged = judgements.on_queries(judgements.per_query(300, metrics=tuple(names)), asked)
    checks = tuple(replace(check, reason=reason) for check in judged.decision.checks)
    return replace(judged, decision=replace(judged.decision, checks=checks))


@settings(max_examples=25, deadline=None)
@given(limit=st.integers(1_000, 70_000))
def test_whatever_the_limit_it_is_kept_and_nothing_stays_open(limit):
    judged = MANY
    for markdown in (report.verdict(judged, limit=limit)[0], report.comment(judged, limit=limit)):
        assert len(markdown.encode()) <= limit
        assert markdown.count("<details") == markdown.count("</details>")
        assert markdown.count("<pre>") == markdown.count("</pre>")
        assert markdown.count("```") % 2 == 0
        assert markdown.startswith("## ❌ search-ranker")


MANY = many_metrics("<&@|>" * 180)


# -- texts of others


@pytest.mark.parametrize("event", ["push", "pull_request"])
def test_texts_of_others_have_no_power_over_markdown_or_the_runner(event):
    judged = hostile(event)
    markdown, text = report.verdict(judged)
    for found in (markdown, report.comment(judged)):
        assert "<script" not in found
        assert "@everyone" not in found
        assert "\x1b" not in found
        assert "](javascript" not in found
        assert found.count("<details") == found.count("</details>")
        assert found.count("<pre>") == found.count("</pre>")
        assert found.count("```") % 2 == 0
        for rows in tables(found):
            assert len({len(row) for row in rows}) == 1
    for line in (*markdown.splitlines(), *text.splitlines()):
        assert not line.lstrip().startswith("::")
        assert "##[" not in line
    assert all(line.startswith(("  ", "PASSED: ")) for line in text.splitlines())


def test_a_job_address_that_could_end_its_link_is_no_link():
    for address in ("javascript:alert(1)", "https://x/> [a](b)", "https://x/\n# h", "https://x/)", ""):
        judged = replace(FAILED, job=judgements.job(run_url=address))
        assert "](<" not in report.comment(judged)


def test_a_name_that_is_no_unicode_can_be_sent():
    judged = replace(PASSED, model=replace(PASSED.model, name="a\ud800b"))
    for found in (*report.verdict(judged), report.comment(judged)):
        found.encode()


# -- the text


def test_the_text_names_every_check_of_a_whole_metric_and_the_slices_that_did_not_hold():
    _, text = report.verdict(FAILED)
    lines = text.splitlines()
    assert lines[0] == "FAILED: search-ranker version 7 against champion version 6"
    assert any(line.startswith("  [passed] threshold: ndcg@10") for line in lines)
    assert any(line.startswith("  [failed] champion: ndcg@10") for line in lines)
    assert any(line.startswith("  [failed] slice: ndcg@10 of the required language=de") for line in lines)
    assert not [line for line in lines if line.startswith("  [passed] slice")]
    assert lines[-2:] == [f"  gate run: {FAILED.gate_run_id}", f"  report: {FAILED.report}"]


# -- the comment


def test_a_comment_says_what_the_verdict_means_for_the_pull_request():
    pull_request = judgements.job(event="pull_request")
    said = [
        (PASSED, "what it brings holds. Nothing is released by it"),
        (FAILED, "what it brings would not be released, and champion stays as it is"),
        (OPEN, "nobody can tell from these figures"),
    ]
    for judged, sentence in said:
        comment = report.comment(replace(judged, job=pull_request, promotable=False))
        assert f"**For this pull request:** {sentence}" in comment
        assert judged.decision.outcome.value in comment.splitlines()[0]
        assert f"(<{pull_request.run_url}>)" in comment
        assert len(comment) < len(report.verdict(judged)[0])
        assert "```" not in comment
    assert "**For this pull request:**" not in report.comment(PASSED)
    assert "It may be promoted to **champion**." in report.comment(PASSED)


def test_a_comment_shows_what_was_lost():
    comment = plain(report.comment(FAILED))
    assert "language=de" in comment
    assert "Even the upper bound is below" in comment
    assert "language=pl" not in comment
