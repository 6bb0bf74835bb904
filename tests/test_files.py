"""Folders of state are readable by their user only, and files are replaced whole."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coinstream.files import private_folder, whole_file, write_whole


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_missing_folders_are_private_and_existing_ones_keep_their_rights(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    made = private_folder(tmp_path / "home" / "monitoring")
    assert [mode(made), mode(made.parent), mode(tmp_path)] == [0o700, 0o700, 0o755]


def test_the_default_home_of_an_earlier_release_is_restricted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    home = tmp_path / ".coinstream"
    home.mkdir(mode=0o755)
    home.chmod(0o755)
    private_folder(home / "logs")
    assert [mode(home), mode(home / "logs")] == [0o700, 0o700]


def test_a_replaced_file_keeps_its_mode_and_the_link_to_it(tmp_path: Path) -> None:
    target, link = tmp_path / "target.json", tmp_path / "link.json"
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to(target)
    write_whole(link, b"new")
    assert (target.read_bytes(), mode(target), link.is_symlink()) == (b"new", 0o640, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.json", "target.json"]


def test_after_an_error_the_old_content_stays_and_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_whole(path, b"old")
    with pytest.raises(ZeroDivisionError), whole_file(path) as draft:  # noqa: PT012
        draft.write_bytes(b"half")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_and_a_missing_folder_are_errors_that_name_the_path(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        write_whole(tmp_path, b"data")
    with pytest.raises(FileNotFoundError, match="missing"):
        write_whole(tmp_path / "missing" / "file", b"data")


def test_threads_that_write_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    contents = [bytes([letter]) * 100_000 for letter in b"abcdefgh"]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda data: write_whole(path, data), contents * 5))
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]
