"""Optional packages that are missing or broken: the message names the command that repairs it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import kws.errors
from kws.errors import DependencyError, KwsError, require


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Returns a function that makes a module of this source importable, before any other of its name."""

    def install(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, name, raising=False)

    return install


def test_every_error_is_a_kws_error() -> None:
    errors = [value for name, value in vars(kws.errors).items() if name.endswith("Error")]
    assert len(errors) == 8
    assert all(issubclass(error, KwsError) for error in errors)


def test_a_package_that_is_there_is_returned(install) -> None:
    install("kws_fake", "answer = 42")
    assert require("kws_fake", "train").answer == 42


def test_a_missing_package_names_its_extra() -> None:
    with pytest.raises(DependencyError, match=r"'kws_absent', which is not installed; run: pip install 'kws\[train\]'"):
        require("kws_absent", "train")


def test_a_missing_submodule_of_a_missing_package_names_the_extra() -> None:
    with pytest.raises(DependencyError, match=r"'kws_absent.part', which is not installed"):
        require("kws_absent.part", "train")


@pytest.mark.parametrize("name", ["torch", "torchaudio", "transformers"])
@pytest.mark.parametrize(
    "source",
    [
        "raise OSError('libcudart.so.13: cannot open shared object file')",
        "raise ImportError('undefined symbol: torch_library_impl')",
        "raise RuntimeError('operator torchvision::nms does not exist')",
        "import kws_absent_dependency",
    ],
)
def test_a_torch_that_does_not_match_names_the_matched_pair(install, name: str, source: str) -> None:
    install(name, source)
    with pytest.raises(DependencyError) as error:
        require(name, "train")
    message = str(error.value)
    assert f"the package '{name}' is installed but can't be imported" in message
    assert "matched pair from PyPI" in message
    assert "pip install --force-reinstall 'torch~=2.11.0' 'torchaudio~=2.11.0'" in message


def test_the_matched_pair_is_the_one_that_is_installed() -> None:
    pins = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert '"torch~=2.11.0"' in pins
    assert '"torchaudio~=2.11.0"' in pins


def test_another_broken_package_is_to_be_installed_again(install) -> None:
    install("kws_fake", "raise ImportError('broken')")
    with pytest.raises(
        DependencyError, match=r"can't be imported \(broken\); run: pip install --force-reinstall kws_fake"
    ):
        require("kws_fake", "mic")
