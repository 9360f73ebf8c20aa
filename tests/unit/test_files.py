"""Places on disk: user paths, one writer at a time, nothing deleted that the package did not make."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from saddlescope import _files

# --- paths


def test_paths_as_people_write_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there/run.zarr")
    for written, meant in {
        "run.zarr": "run.zarr",
        "./run.zarr/": "run.zarr",
        "there/../run.zarr//": "run.zarr",
        "~/run.zarr": "home/run.zarr",
        "link": "there/run.zarr",
        ".": "",
    }.items():
        assert _files.place(written, "out") == (tmp_path / meant).resolve()
        assert _files.place(Path(written), "out") == (tmp_path / meant).resolve()


@pytest.mark.parametrize(
    "url", ["s3://b/run.zarr", "gs://b/x", "file:///tmp/x", "simplecache::s3://b/x", "zip://a.zip"]
)
def test_urls_are_refused_by_name(url):
    for written in (url, Path(url)):
        with pytest.raises(ValueError, match=r"^out must be on this machine, got the (s3|gs|file|zip) URL .*; give"):
            _files.place(written, "out")


@pytest.mark.parametrize("wrong", [None, 3, b"run.zarr", "", "a\0b", "~nobody-of-this-name/run.zarr"])
def test_what_is_no_path(wrong):
    with pytest.raises((TypeError, ValueError), match=r"^out "):
        _files.place(wrong, "out")


def test_below_a_file(tmp_path):
    (tmp_path / "file").write_text("text")
    with pytest.raises(NotADirectoryError, match=r"lies below .*file', which is a file"):
        _files.place(tmp_path / "file" / "run.zarr", "out")


def test_errors_of_the_disk_in_words():
    for number, kind in ((errno.EACCES, PermissionError), (errno.ENOSPC, OSError), (errno.EIO, OSError)):
        with (
            pytest.raises(kind, match=r"^out 'x' could not be used \(.*\); \w+") as caught,
            _files.in_words("x", "out"),
        ):
            raise OSError(number, os.strerror(number))
        assert caught.value.errno == number


# --- locks

HELD = """
import sys
from pathlib import Path
from saddlescope import _files
with _files.sole(Path(sys.argv[1]), "out"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("there", [False, True])
def test_one_writer_of_all_processes(tmp_path, there):
    path = tmp_path / "run.zarr"
    if there:
        path.mkdir()
    child = subprocess.Popen([sys.executable, "-c", HELD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"held\n"
    with pytest.raises(BlockingIOError, match="is being written by another process"), _files.sole(path, "out"):
        pass
    child.kill()
    child.communicate()
    with _files.sole(path, "out"):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.zarr"] * there


def test_one_writer_of_all_threads(tmp_path):
    """Locks that come and go: never two at a time, and none is left."""
    path, inside, most, refused = tmp_path / "run.zarr", [], [], []

    def write():
        for _ in range(100):
            try:
                with _files.sole(path, "out"):
                    inside.append(None)
                    most.append(len(inside))
                    inside.pop()
            except BlockingIOError:
                refused.append(None)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1} and len(most) + len(refused) == 400
    assert not list(tmp_path.iterdir())


def test_a_file_of_the_locks_name_is_kept(tmp_path):
    mine = tmp_path / ".run.zarr.saddlescope-lock"
    mine.write_text("mine")
    with _files.sole(tmp_path / "run.zarr", "out"):
        pass
    assert mine.read_text() == "mine"


# --- asides


def folder(path: Path, content: str) -> Path:
    path.mkdir(exist_ok=True)
    (path / "content").write_text(content)
    return path


def killed(monkeypatch, method: str, call: int) -> None:
    """The process ends at this call of a method of Path."""
    act, seen = getattr(Path, method), []

    def dying(*args):
        seen.append(None)
        if len(seen) >= call:
            raise SystemError("killed")
        return act(*args)

    monkeypatch.setattr(Path, method, dying)


def test_put_replaces_and_leaves_nothing(tmp_path):
    path = folder(tmp_path / "run.zarr", "old")
    neighbours = {"run.zarr.old": "backup", "run.zarr.partial": "mine", ".run.zarr.old": "mine too"}
    for name, content in neighbours.items():
        folder(tmp_path / name, content)
    with _files.sole(path, "out"):
        _files.put(folder(_files.aside(path), "new"), path)
        _files.recover(path)
    found = {entry.name: (entry / "content").read_text() for entry in tmp_path.iterdir()}
    assert found == neighbours | {"run.zarr": "new"}


@pytest.mark.parametrize(("call", "found"), [(1, "old"), (2, "old"), (3, "new")])
def test_killed_between_renames_a_run_is_found_again(tmp_path, monkeypatch, call, found):
    path = folder(tmp_path / "run.zarr", "old")
    new = folder(_files.aside(path), "new")
    with monkeypatch.context() as patch:
        killed(patch, "rename", call)
        with pytest.raises(SystemError):
            _files.put(new, path)
    assert _files.interrupted(path) == (call == 2)
    with _files.sole(path, "out"):
        _files.recover(path)
    assert {entry.name: (entry / "content").read_text() for entry in tmp_path.iterdir()} == {"run.zarr": found}


def test_an_empty_folder_does_not_take_the_place_of_a_run(tmp_path, monkeypatch):
    path = folder(tmp_path / "run.zarr", "old")
    with monkeypatch.context() as patch:
        killed(patch, "rename", 2)
        with pytest.raises(SystemError):
            _files.put(folder(_files.aside(path), "new"), path)
    path.mkdir()
    with _files.sole(path, "out"):
        _files.recover(path)
    (old,) = (entry for entry in tmp_path.iterdir() if entry != path)
    assert (old / "content").read_text() == "old"


def test_a_file_is_replaced_as_a_whole(tmp_path, monkeypatch):
    file = tmp_path / "page"
    _files.replace(file, b"old")
    with monkeypatch.context() as patch:
        killed(patch, "replace", 1)
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(SystemError):
            _files.replace(file, b"new")
    assert file.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 2
    _files.replace(file, b"new")
    assert file.read_bytes() == b"new" and len(list(tmp_path.iterdir())) == 1
