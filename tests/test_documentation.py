"""What the pages tell a reader to type exists, and what they show runs."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import equilibra

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """Code blocks of one language in a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def commands() -> dict[str, set[str]]:
    """Verbs of the command line that the pages use, in blocks and in running text, with their options."""
    found: dict[str, set[str]] = {}
    for page in PAGES:
        lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
        lines += re.findall(r"`(equilibra [^`]*)`", page.read_text(encoding="utf-8"))
        for line in lines:
            match = re.match(r"equilibra ([a-z-]+)", line)
            if match and not match[1].startswith("-"):
                found.setdefault(match[1], set()).update(re.findall(r"(?<=\s)(--?[a-z][a-z-]*)", line))
    return found


def test_the_pages_use_the_verbs():
    assert {"sample", "train", "fine-tune", "simulate", "evaluate", "interpolate", "models"} <= set(commands())


@pytest.mark.parametrize("verb", sorted(commands()))
def test_commands_and_options_exist(verb):
    code = "from equilibra.cli.main import main; main()"
    wide = {**os.environ, "COLUMNS": "240", "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(
        [sys.executable, "-c", code, verb, "--help"], capture_output=True, text=True, timeout=120, env=wide, check=False
    )
    assert done.returncode == 0, done.stderr
    known = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", done.stdout))
    assert commands()[verb] - {"--help"} <= known


def test_names_in_the_python_examples_exist():
    used = set()
    for page in PAGES:
        for block in blocks(page, "python"):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "equilibra":
                    used.add(node.attr)
    assert {"load", "evaluate"} <= used
    assert [name for name in sorted(used) if not hasattr(equilibra, name)] == []


def test_the_sampler_of_the_extending_page_is_eulers_rule():
    from equilibra.diffusion.denoiser import Denoiser, Prediction
    from equilibra.diffusion.process import Field, Process
    from equilibra.diffusion.schedule import VarianceExploding
    from equilibra.diffusion.space import Euclidean
    from equilibra.sampling.grid import GridConfig, noise_grid
    from equilibra.sampling.ode import Euler
    from equilibra.sampling.sampler import draw
    from equilibra.state.state import State

    (block,) = blocks(ROOT / "docs" / "extending.md", "python")
    names: dict = {}
    exec(compile(block, "docs/extending.md", "exec"), names)

    class PointMass(Denoiser):
        process = Process({"pos": Field(space=Euclidean(), schedule=VarianceExploding(sigma_min=0.01, sigma_max=10.0))})

        def __call__(self, state, t):
            return Prediction({"pos": 1.5 - state.fields["pos"]})

    like = State({"pos": torch.zeros(3, 2, 3, dtype=torch.float64)})
    levels = noise_grid(PointMass.process, GridConfig(steps=5))
    mine, euler = (
        draw(rule, PointMass(), like, levels, generator=torch.Generator().manual_seed(0)).fields["pos"]
        for rule in (names["MyRule"](), Euler())
    )
    assert torch.equal(mine, euler)
    assert torch.allclose(mine, torch.full_like(mine, 1.5))


def test_relative_links_lead_somewhere():
    missing = []
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                missing.append(f"{page.name}: {target}")
    assert not missing


def test_the_pages_load_nothing_from_a_network_address():
    configuration = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "http" not in configuration
    assert "font: false" in configuration
    styles = (ROOT / "docs" / "assets" / "katex" / "katex.min.css").read_text(encoding="utf-8")
    fonts = set(re.findall(r"url\(([^)]*)\)", styles))
    assert fonts
    assert all((ROOT / "docs" / "assets" / "katex" / font).exists() for font in fonts)
