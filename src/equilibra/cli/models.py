"""`equilibra models`: what models there are, and their cards."""

from typing import Annotated

import typer

from equilibra.cli.console import say, table

NAME = "models"
EXAMPLE = "Examples:\n\nequilibra models\n\nequilibra models molecule-ala2"


def run(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(help="A shipped model, or the folder of your own.", metavar="[NAME]")] = None,
) -> None:
    """List the models of the package, or show the card of one: data, recipe, cost, figures, limits."""
    from equilibra.systems.checkpoint import read_description
    from equilibra.systems.model import WEIGHTS, load, shipped

    if name is None:
        rows = []
        for known in shipped():
            values = read_description(WEIGHTS / known)
            rows.append((known, values["domain"], values["card"].get("summary", "")))
        if rows:
            table(ctx, ("model", "domain", "summary"), rows)
        else:
            say(ctx, "no model comes with this installation; train one with `equilibra train`")
        return
    model = load(name)
    scope = model.scope
    temperature = "" if scope.temperature is None else f" at {scope.temperature:g} K"
    say(ctx, f"{model.name}: {model.domain}, {model.parameters():,} weights, sha256 {model.sha256[:12]}")
    say(ctx, f"systems: {', '.join(scope.systems) or 'any'}{temperature}{' (transferable)' if scope.transferable else ''}")
    say(ctx, f"default sampler: {model.sampler.name}, {model.sampler.grid.steps} steps, {model.sampler.grid.spacing} spacing")
    say(ctx, model.card.to_text())
