"""The modules' order: nothing imports from its right, and `import kws` is inert."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import kws

PACKAGE = Path(kws.__file__).resolve().parent
ORDER = (
    {"errors", "frames", "config"},
    {"audio"},
    {"data"},
    {"model"},
    {"detect"},
    {"evaluate"},
    {"train"},
    {"export", "serve", "doctor"},
    {"terminal"},
    {"cli"},
    {"__main__"},
)
RANKS = {part: rank for rank, parts in enumerate(ORDER) for part in parts}
NO_TORCH = ("audio", "detect")


def imported(source: str) -> Iterator[tuple[int, str]]:
    """Yields the line and the dotted name of everything of `kws` that `source` imports, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == "kws")


def wrong_arrows(part: str, source: str) -> list[str]:
    """Returns what `source`, a module of `part`, imports from its right, or from a neighbour it must not know."""
    wrong = []
    for line, name in imported(source):
        target = (name.split(".") + [""])[1]
        is_public = name in ("kws", "kws.__version__")
        if is_public and RANKS[part] >= RANKS["cli"]:
            continue
        if target not in RANKS or RANKS[target] > RANKS[part]:
            wrong.append(f"line {line}: {name}")
        elif RANKS[target] == RANKS[part] > 0 and target != part:
            wrong.append(f"line {line}: {name} (side by side)")
    return wrong


MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE / "pretrained")


@pytest.mark.parametrize("module", [module for module in MODULES if str(module) != "__init__.py"], ids=str)
def test_modules_import_from_their_left_only(module):
    part = module.parts[0].removesuffix(".py")
    assert part in RANKS, f"kws/{module}: add '{part}' to ORDER and to the design"
    assert wrong_arrows(part, (PACKAGE / module).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_are_absolute(module):
    tree = ast.parse((PACKAGE / module).read_text(encoding="utf-8"))
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]


@pytest.mark.parametrize(
    ("part", "source", "is_wrong"),
    [
        ("model", "from kws.detect.detector import load", True),
        ("model", "import kws.train.losses", True),
        ("model", "def f():\n    from kws.cli import main", True),
        ("model", "import kws", True),
        ("model", "from kws import load", True),
        ("export", "from kws.serve import wyoming", True),
        ("model", "from kws.unheard_of import x", True),
        ("model", "from kws.data.phones import PHONES\nfrom kws.model import head\nimport numpy", False),
        ("config", "from kws.errors import ConfigError", False),
        ("cli", "from kws import __version__\nfrom kws.cli.train import train", False),
        ("train", "from kws.cli.train import train", True),
    ],
)
def test_the_check_itself(part, source, is_wrong):
    assert bool(wrong_arrows(part, source)) == is_wrong


def modules_after(code: str) -> set[str]:
    script = (
        f"import sys; before = set(sys.modules)\n{textwrap.dedent(code)}\nprint(*sorted(set(sys.modules) - before))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def test_import_kws_is_inert():
    loaded = modules_after("import kws; dir(kws); kws.__version__; kws.KwsError")
    assert {name for name in loaded if name.startswith("kws")} == {"kws", "kws.errors"}
    assert not {"numpy", "torch", "onnxruntime", "rich", "logging"} & loaded


def test_detection_modules_load_no_torch():
    names = [
        ".".join(("kws", *module.with_suffix("").parts)).removesuffix(".__init__")
        for module in MODULES
        if module.parts[0] in NO_TORCH
    ]
    loaded = modules_after("\n".join(f"import {name}" for name in names))
    assert not {"torch", "torchaudio", "transformers", "onnx", "sounddevice"} & loaded


def test_public_names():
    assert set(kws.__all__) <= set(dir(kws))
    with pytest.raises(AttributeError, match=r"no attribute 'lode'; it has: .*load"):
        kws.lode  # noqa: B018
    assert kws.load is kws.load
    assert kws.Detection.__module__ == "kws.detect.detector"
    assert kws.Microphone.__module__ == "kws.audio.microphone"


@pytest.mark.parametrize("name", ["load_encoder", "train"])
def test_public_names_of_training(name):
    pytest.importorskip("torch")
    assert callable(getattr(kws, name))


def test_type_checkers_see_the_public_names():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (guarded,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.asname or alias.name for node in guarded.body for alias in node.names}
    assert seen == set(kws.__all__)
    homes = {alias.name: node.module for node in guarded.body for alias in node.names if not alias.asname}
    assert homes == kws._HOMES
