"""Build: the commit, as pip and git leave it behind."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from engine.observe import build

NOBODY = ["-c", "user.name=n", "-c", "user.email=n@example"]


def git(place: Path, *words: str) -> str:
    ran = subprocess.run(
        ["git", *NOBODY, *words], cwd=place, capture_output=True, text=True, check=True
    )
    return ran.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    made = tmp_path / "checkout"
    made.mkdir()
    git(made, "init", "-q", "-b", "main")
    git(made, "commit", "-q", "--allow-empty", "-m", "first")
    return made


def here(root: Path) -> str:
    return build.commit("no-such-distribution", root)


def test_a_checkout_names_its_commit(checkout: Path) -> None:
    assert git(checkout, "rev-parse", "HEAD")[:16] == here(checkout)


def test_packed_and_detached_heads_are_read(checkout: Path) -> None:
    known = git(checkout, "rev-parse", "HEAD")[:16]

    git(checkout, "pack-refs", "--all")
    assert known == here(checkout)
    git(checkout, "checkout", "-q", "--detach")
    assert known == here(checkout)


def test_a_worktree_leads_to_its_repository(checkout: Path, tmp_path: Path) -> None:
    git(checkout, "worktree", "add", "-q", "-b", "other", str(tmp_path / "other"))
    git(tmp_path / "other", "commit", "-q", "--allow-empty", "-m", "second")

    assert git(tmp_path / "other", "rev-parse", "HEAD")[:16] == here(tmp_path / "other")


def test_what_pip_installed_from_git_names_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "made_up-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: made-up\nVersion: 1.0")
    (info / "direct_url.json").write_text(
        '{"url": "https://git.example/x", "vcs_info":'
        ' {"vcs": "git", "commit_id": "0123456789abcdef0123456789abcdef01234567"}}'
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    assert "0123456789abcdef" == build.commit("made-up", tmp_path)


def test_where_nobody_knows_it_says_so(tmp_path: Path) -> None:
    assert "unknown" == here(tmp_path)
