"""The wake words that the demo offers, and the runtime of the detector in the browser."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from command_line import Run, runner

from kws.errors import ArtefactError, ConfigError, DependencyError
from kws.serve import demo_runtime
from kws.serve.demo_shelf import Shelf


class TestShelf:
    def test_damaged_ones_are_left_out_and_named(self, folder: Path) -> None:
        (folder / "bad").mkdir()
        (folder / "bad/wakeword.json").write_text("{}")
        reports: list[str] = []
        shelf = Shelf([], folder, reports.append)
        assert list(shelf.offers) == ["hey_computer", "go_on.kws"]
        assert len(reports) == 1 and "bad" in reports[0]

    def test_one_that_was_named_must_be_there(self, tmp_path: Path) -> None:
        with pytest.raises(ArtefactError, match="no wake word at 'nowhere'"):
            Shelf(["nowhere"], tmp_path)

    def test_what_is_named_and_found_is_offered_once(self, folder: Path) -> None:
        assert list(Shelf([str(folder / "go_on.kws")], folder).offers) == ["go_on.kws", "hey_computer"]

    def test_shipped_ones_stay_as_they_are(self, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr("kws.serve.demo_shelf.pretrained_folder", lambda: folder)
        shelf = Shelf([], tmp_path / "empty")
        with pytest.raises(ConfigError, match="comes with kws"):
            shelf.save_threshold(["hey_computer"], "hey computer", 0.3)

    def test_an_interrupted_run_goes_on_in_its_folder(self, folder: Path) -> None:
        (folder / "lumos/.work").mkdir(parents=True)
        assert Shelf([], folder).free_folder("lumos") == folder / "lumos"


class TestRuntime:
    """onnxruntime-web, from an archive that npm would have fetched."""

    @pytest.fixture
    def archive(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(demo_runtime, "cache_folder", lambda: tmp_path / "cache")
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for name in demo_runtime.FILES:
                member = tarfile.TarInfo(f"package/dist/{name}")
                member.size = len(name)
                archive.addfile(member, io.BytesIO(name.encode()))
        path = tmp_path / "onnxruntime-web.tgz"
        path.write_bytes(buffer.getvalue())
        return path

    def test_another_archive_is_refused(
        self, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        kws: Run = runner(capsys)
        outcome = kws("demo", "--browser-runtime", archive)
        assert outcome.code == 2
        assert "its SHA-512 is" in outcome.messages
        assert "nothing was installed" in outcome.messages
        assert not (tmp_path / "cache").exists()

    def test_the_expected_one_is_installed(
        self, archive: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        monkeypatch.setattr(demo_runtime, "INTEGRITY", digest)
        assert demo_runtime.find_runtime() is None
        assert runner(capsys)("demo", "--browser-runtime", archive).code == 0
        found = demo_runtime.find_runtime()
        assert found is not None
        assert {path.name: path.read_text() for path in found.iterdir()} == {name: name for name in demo_runtime.FILES}

    def test_npm_fetches_it(
        self, archive: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        monkeypatch.setattr(demo_runtime, "INTEGRITY", digest)
        npm = tmp_path / "bin/npm"
        npm.parent.mkdir()
        npm.write_text(
            f"#!/bin/sh\n[ \"$*\" = 'pack onnxruntime-web@{demo_runtime.VERSION} --silent' ] && cp {archive} .\n"
        )
        npm.chmod(0o755)
        monkeypatch.setenv("PATH", f"{npm.parent}:/usr/bin:/bin")
        assert runner(capsys)("demo", "--fetch-browser-runtime").code == 0
        assert demo_runtime.find_runtime() is not None

    def test_without_npm_it_says_what_to_do(self, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")
        with pytest.raises(DependencyError, match=r"install Node\.js.*--browser-runtime"):
            demo_runtime.fetch_runtime(print)
