"""A run beside the paper and beside other runs: everything that the tables' page, Markdown and JSON print."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from locvlm.evals.reports.answers import Answers, Run
from locvlm.evals.reports.diagnoses import Diagnosis, diagnose
from locvlm.evals.reports.grid import Grid, build_grid
from locvlm.evals.reports.leakage import TrainedOn
from locvlm.evals.reports.results import SUBSETS, Results, Score, measure_run
from locvlm.evals.reports.statistics import CONFIDENCE, RESAMPLES
from locvlm.evals.reports.tables import Measure, Section, Table
from locvlm.evals.task import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """The tables with our figures, and what is behind them."""

    title: str
    results: list[Results]  # the run that it is about, then those beside it
    tables: list[Table]
    grids: list[Grid]
    diagnoses: dict[str, Diagnosis]  # by task, of the first run
    sources: dict[str, str]  # task -> where to get its files
    trained_on: TrainedOn | None
    seed: int

    @property
    def main(self) -> Results:
        """Of the run that the report is about."""
        return self.results[0]

    def other_measures(self) -> list[Measure]:
        """The metrics of what the runs were asked beyond the paper's tables."""
        named = {task for table in self.tables for task in table.tasks()}
        asked = [answers.task for result in self.results for answers in result.run.answers.values()]
        others = [task for task in asked if task.name not in named]
        return list(
            dict.fromkeys(Measure(task=t.name, metric=metric) for t in others for metric in t.metrics)
        )

    def not_run(self) -> list[str]:
        """The tasks of the paper's tables that the run has no answers to, in the order of the tables."""
        named = dict.fromkeys(task for table in self.tables for task in table.tasks())
        return [task for task in named if task not in self.main.run.answers]


def build_benchmark(
    runs: Sequence[Run],
    tables: Sequence[Table],
    tasks: Sequence[Task],
    *,
    trained_on: TrainedOn | None = None,
    seed: int = 0,
) -> Benchmark:
    """Measure every run, and put the figures into the tables.

    Args:
        runs: the one that the report is about, then those beside it.
        tasks: all that are declared.
        seed: of the bootstrap.

    Raises:
        ValueError: if two runs have one name.
    """
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        raise ValueError(f"runs need different names, got {', '.join(names)}; give them as NAME=FOLDER")
    measures = [m for t in tables for section in t.sections for m in t.measures(section) if m is not None]
    results = [measure_run(run, measures, trained_on=trained_on, seed=seed) for run in runs]
    return Benchmark(
        title=runs[0].name,
        results=results,
        tables=list(tables),
        grids=[build_grid(table, results) for table in tables],
        diagnoses={name: diagnose(a.task, a.rows, seed=seed) for name, a in runs[0].answers.items()},
        sources={task.name: task.data.source for task in tasks if task.data.source},
        trained_on=trained_on,
        seed=seed,
    )


def to_json(benchmark: Benchmark) -> dict[str, Any]:
    """All figures as plain values, scores as fractions."""
    return {
        "intervals": {
            "bootstrap_over": "images",
            "confidence": CONFIDENCE,
            "resamples": RESAMPLES,
            "seed": benchmark.seed,
        },
        "trained_on": [str(path) for path in benchmark.trained_on.files] if benchmark.trained_on else [],
        "runs": [_run_json(results) for results in benchmark.results],
        "diagnoses": {name: _diagnosis_json(found) for name, found in benchmark.diagnoses.items()},
        "tables": [_table_json(table, benchmark.results) for table in benchmark.tables],
        "not_run": {task: benchmark.sources.get(task, "") for task in benchmark.not_run()},
    }


def _run_json(results: Results) -> dict[str, Any]:
    return {
        "name": results.run.name,
        "folder": str(results.run.folder),
        "unavailable": {f"{m.task} {m.metric}": why for m, why in results.unavailable.items()},
        "tasks": {name: _task_json(results, answers) for name, answers in results.run.answers.items()},
    }


def _task_json(results: Results, answers: Answers) -> dict[str, Any]:
    scores: dict[str, dict[str, Any]] = {}
    for (subset, measure), score in results.scores.items():
        if measure.task == answers.task.name and not measure.group:
            scores.setdefault(subset, {})[measure.metric] = _score_json(score)
    return {**answers.facts(), **answers.counts(), "remarks": answers.remarks(), "scores": scores}


def _score_json(score: Score | None) -> dict[str, Any] | None:
    if score is None:
        return None
    return {
        "value": score.value,
        "interval": None if score.interval is None else list(score.interval),
        "questions": score.questions,
        "images": score.images,
    }


def _table_json(table: Table, results: Sequence[Results]) -> dict[str, Any]:
    return {
        "name": table.name,
        "paper": table.paper,
        "title": table.title,
        "columns": [column.title for column in table.columns],
        "sections": [_section_json(table, section, results) for section in table.sections],
    }


def _section_json(table: Table, section: Section, results: Sequence[Results]) -> dict[str, Any]:
    measured = {
        result.run.name: {
            subset: [_score_json(result.score(measure, subset)) for measure in table.measures(section)]
            for subset in SUBSETS
        }
        for result in results
    }
    printed = [{"model": row.model, "facts": row.facts, "figures": row.figures} for row in section.rows]
    return {"title": section.title, "paper": printed, "measured": measured}


def _diagnosis_json(found: Diagnosis) -> dict[str, Any]:
    return {
        "metric": found.metric,
        "breakdowns": {
            name: {group.title: _score_json(group.score) for group in groups}
            for name, groups in found.breakdowns.items()
        },
        "said": found.said,
        "flips": None
        if found.flips is None
        else {**asdict(found.flips), "consistent_fraction": found.flips.consistent_fraction},
    }
