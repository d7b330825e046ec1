"""Hostile plans of `reproduce`: what a good plan of one row, as `save_plan` keeps it, is changed
into. All in place.
"""

from collections.abc import Callable
from typing import Any

Plan = dict[str, Any]


def _row(**changes: Any) -> Callable[[Plan], object]:
    return lambda plan: plan["rows"][0].update(changes)


def _rows(plan: Plan) -> None:
    plan["rows"] *= 20_000


def _datasets(plan: Plan) -> None:
    plan["rows"] = [plan["rows"][0] | {"dataset": f"d{number}"} for number in range(300)]


def _columns_by_row(plan: Plan) -> None:
    plan["rows"] = [plan["rows"][0] | {"cells": {str(number): ["one"]}} for number in range(200)]


# refused, and what the line says
REFUSED: dict[str, tuple[Callable[[Plan], object], str]] = {
    "rows": (_rows, "rows"),
    "datasets": (_datasets, "300 data sets"),
    "columns": (_row(cells={str(number): ["one"] for number in range(3000)}), "cells"),
    "columns_by_row": (_columns_by_row, "200 columns"),
    "runs": (_row(cells={"": ["one"] * 20_000}), "20,000 runs"),
    "method": (_row(method="m" * 2**20), "method"),
    "learnt_on": (_row(learnt_on="m" * 2**20), "learnt_on"),
    "group": (
        _row(ablation={"group": "g" * 2**20, "name": "n", "slug": "s", "changes": {}}),
        "group",
    ),
    "wide_name": (_row(dataset="ü" * 200), "400 bytes"),
    "above": (_row(cells={"": [".."]}), "'..' names"),
    "here": (_row(dataset="."), "'.' names"),
    "missing": (lambda plan: plan.update(missing=["x"] * 50_000), "missing"),
    "notes": (lambda plan: plan.update(notes=dict.fromkeys(map(str, range(5000)), 1)), "notes"),
}
# drawn and printed as they are
ODD = {
    "formula": r"$\frac{a}{$",
    "roots": "$" + r"\sqrt{" * 30 + "x" + "}" * 10 + "$",
    "cjk": "綱引き" * 60,
    "wide": "W" * 200,
    "acting": "\x1b]0;x\x07\x1b[31m\u202e",
}
