"""``report.html``: the run on one self-contained page.

Nothing is fetched and nothing runs: styles, plots and pictures are inline, there is no script, and a content security
policy forbids both. All texts from recordings and policies are escaped.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2

from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.report import summary, text
from pivotgym.harness.report.examples import examples
from pivotgym.harness.report.figures import figures_of
from pivotgym.harness.report.files import find_files
from pivotgym.harness.report.forgetting import forgetting_line, forgetting_rows
from pivotgym.harness.report.pictures import Camera
from pivotgym.harness.report.plots import Pictures

FOLDER = Path(__file__).parent
SECTIONS = (
    ("restoring", "Fidelity"),
    ("pivots", "Pivots"),
    ("filter", "Filter"),
    ("training", "Learning curves"),
    ("results", "Before and after"),
    ("forgetting", "Forgetting"),
    ("rules", "Rules"),
    ("cost", "Cost"),
    ("examples", "Examples"),
    ("settings", "Settings"),
)
NOT_SHOWN = frozenset({"folder", "command", "title", "warm_start"})
"""Entries of ``run.json`` that have a place of their own on the page."""


def build_report(run: Path, *, pictures: bool = True) -> Path:
    """Writes ``report.html`` into the run's folder: one self-contained page.

    Args:
        run: the folder; whatever parts of a run are in it are reported, the others named with the command that
            makes them.
        pictures: take pictures of the examples where their domain has any (this restores their turns); False shows
            those that an earlier report took.

    Returns:
        The page.

    Raises:
        BadInput: no such folder, or nothing of a run in it.
    """
    found = find_files(Path(run))
    with Camera(found, enabled=pictures) as camera:
        shown = examples(found, camera=camera)
    page = render(figures_of(found), shown)
    out = found.root / "report.html"
    temporary = out.with_name(".report.html.tmp")
    temporary.write_text(page, encoding="utf-8", errors="replace")
    temporary.replace(out)
    return out


def render(figures: JsonObject, shown: list[JsonObject]) -> str:
    """The page as text.

    Args:
        figures: as :func:`pivotgym.harness.report.report_figures` gives them.
        shown: as :func:`pivotgym.harness.report.examples.examples` gives them.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    for name in ("clean", "decimal", "signed", "count", "percent", "seconds", "estimate", "percent_estimate", "words"):
        environment.filters[name] = getattr(text, name)
    profile, restore, episodes, cost = (figures[name] for name in ("profile", "restore", "episodes", "cost"))
    filtered = profile["filtered"] if profile else True
    title, subtitle = _title(figures["run"])
    return environment.get_template("page.html.jinja").render(
        f=figures,
        title=title,
        subtitle=subtitle,
        style=(FOLDER / "style.css").read_text(encoding="utf-8"),
        headline=summary.headline(figures),
        tiles=summary.tiles(figures),
        sections=SECTIONS,
        plots=_plots(figures),
        pivot_word="pivots" if filtered else "turns with mixed outcomes",
        kinds_of_failure=_failures(restore) if restore else [],
        most_of_a_kind=max((kind["candidates"] for kind in profile["by_kind"]), default=1) if profile else 1,
        by_turn=_by_turn(profile) if profile else [],
        filter_rows=summary.filter_rows(figures["filter"]) if figures["filter"] else [],
        comparison=summary.comparison(figures),
        forgetting_rows=forgetting_rows(figures["forgetting"]),
        forgetting_line=forgetting_line(figures["forgetting"]),
        episode_rows=summary.episode_rows(episodes) if episodes else [],
        rule_rows=_rules(profile) if profile else [],
        shipped=_shipped(figures["run"].get("warm_start")),
        cost_rows=summary.cost_rows(cost) if cost else [],
        examples=shown,
        pictures=any(example["picture"] or example["demonstration"]["picture"] for example in shown),
        command=_command(figures["run"].get("command")),
        facts=_facts(figures["run"]),
        settings=[(name, _json(value)) for name, value in figures["settings"].items()],
    )


def _plots(figures: JsonObject) -> dict[str, str]:
    draw = Pictures()
    plots = dict.fromkeys(
        [
            "pivots",
            "histogram",
            "training",
            "heldout",
            "groups",
            "kl",
            "entropy",
            "malformed",
            "norm",
            "warm_start",
            "before_after",
        ],
        "",
    )
    profile, train, warm = figures["profile"], figures["train"], figures["warm_start"]
    if profile:
        limit = ((figures["filter"] or {}).get("settings") or {}).get("max_mean")
        plots["pivots"] = draw.pivots_in_trajectories(profile)
        plots["histogram"] = draw.reward_histogram(profile, limit)
    if train:
        curves = train["curves"]
        plots["training"] = draw.training_reward(train)
        plots["heldout"] = draw.heldout_reward(train)
        plots["groups"] = draw.groups(train)
        plots["kl"] = draw.curve(curves, [("kl", "KL to the reference")], "KL (nats)")
        plots["entropy"] = draw.curve(curves, [("entropy", "entropy")], "entropy (nats)", zero=True)
        shares = [("malformed", "malformed"), ("cut_off", "cut off")]
        plots["malformed"] = draw.curve(curves, shares, "share of actions", zero=True)
        plots["norm"] = draw.curve(curves, [("grad_norm", "gradient norm")], "gradient norm", zero=True)
        gaps = [("sampler_gap_max", "largest of a step"), ("sampler_gap_mean", "mean")]
        plots["sampler"] = draw.curve(curves, gaps, "difference (nats)", zero=True)
    if warm:
        plots["warm_start"] = draw.curve(warm["curves"], [("loss", "loss")], "loss (nats)")
    plots["before_after"] = draw.before_after(summary.estimates(figures))
    return plots


def _title(run: JsonObject) -> tuple[str, str]:
    title = text.clean(run.get("title") or f"Run {run['folder']}", 120)
    parts = ["PivotGym report"]
    for name in ("started", "date", "policy", "seed"):
        if run.get(name) is not None:
            parts.append(f"{name} {text.clean(run[name], 80)}")
    return title, " · ".join(parts)


def _failures(restore: JsonObject) -> list[list[str]]:
    return [
        [text.words(kind), meaning, text.count(number)]
        for field, meaning in (
            ("diverged_by_kind", "the replayed observation differs from the recorded one"),
            ("not_restorable_by_kind", "the trajectory could not be restored (further)"),
            ("recorded_by_kind", "taken from the recording: its call never ran"),
        )
        for kind, number in restore[field].items()
    ]


def _by_turn(profile: JsonObject, limit: int = 100) -> list[list[str]]:
    rows = [
        [
            str(row["turn"]),
            text.count(row["candidates"]),
            text.count(row["judged"]),
            text.count(row["pivots"]),
            text.decimal(row["reward_mean"]),
        ]
        for row in profile["by_turn"]
    ]
    more = len(rows) - limit
    return rows[:limit] + ([[f"{more} more", "", "", "", ""]] if more > 0 else [])


def _rules(profile: JsonObject) -> list[list[str]]:
    return [
        [
            text.clean(row["rule"], 60),
            text.count(row["actions"]),
            text.percent(row["share"]),
            text.decimal(row["reward_mean"]),
            text.count(row["wrong"]),
            f"{text.clean(row['commonest_reason'], 160)} ({row['commonest_count']:,})"
            if row["commonest_count"]
            else "",
        ]
        for row in profile["rules"]
    ]


def _command(command: Any) -> str:
    if isinstance(command, list):
        command = " ".join(str(part) for part in command)
    return text.clean(command, 2000)


def _shipped(warm: Any) -> JsonObject | None:
    names = ("updates", "trajectories", "trained_tokens", "first_loss", "last_loss", "command")
    return {name: warm.get(name) for name in names} if isinstance(warm, dict) else None


def _facts(run: JsonObject) -> list[tuple[str, str]]:
    """The entries of ``run.json``, nested ones on one line each."""
    facts = []
    for name, value in run.items():
        if name in NOT_SHOWN or value is None:
            continue
        if isinstance(value, dict):
            flat = all(not isinstance(item, dict | list) for item in value.values())
            shown = (
                ", ".join(f"{key} {item}" for key, item in value.items()) if flat else json.dumps(value, default=str)
            )
        else:
            shown = str(value)
        facts.append((text.words(name), text.clean(shown, 1500)))
    return facts


def _json(value: Any) -> str:
    return text.clean(json.dumps(value, indent=2, ensure_ascii=False, default=str), 8000)
