"""Where a run may be written: nothing is changed or removed that the call did not make."""

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

import saddlescope as sc
from saddlescope import _files, cli
from saddlescope.runfile import run_to_toml
from saddlescope.runs import store
from support import PROBLEMS

RUN = PROBLEMS["wide"], sc.SGD(0.05, 2), sc.Plan(steps=6, saves=2, threads=1)


def snapshot(folder: Path) -> dict[str, object]:
    """Every entry below a folder with its content, mode and inode."""
    return {
        str(entry.relative_to(folder)): (
            os.readlink(entry) if entry.is_symlink() else entry.read_bytes() if entry.is_file() else "folder",
            entry.lstat().st_mode,
            entry.lstat().st_ino,
        )
        for entry in folder.rglob("*")
    }


def written(out, **options) -> Path:
    sc.simulate(*RUN, out=out, **options)
    assert sc.load(out).attrs["complete"]
    return Path(out)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder that is the current one, and the home."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "here"))
    return tmp_path / "here"


@pytest.mark.parametrize(
    "out",
    ["run.zarr", "./run.zarr/", "~/run.zarr", "no/such/parent/run.zarr", "../here/run.zarr", "lauf §½ 1.zarr", "-o"],
)
def test_paths_as_people_write_them(here, out):
    place = _files.place(out, "out")
    written(out)
    assert place.is_dir() and here in place.parents
    assert [entry.name for entry in place.parent.iterdir()] == [place.name]


def test_neighbours_are_never_touched(here):
    names = ["run.zarr.old", "run.zarr.partial", ".run.zarr.old", "run.zarr.new", ".run.zarr.lock", "run.zarr.lock"]
    for name in names:
        (here / name).mkdir()
        (here / name / "backup").write_text("years of work")
    before = snapshot(here)
    written("run.zarr")
    written("run.zarr", overwrite=True)
    after = snapshot(here)
    assert before.items() <= after.items()
    assert {Path(name).parts[0] for name in after} == {*names, "run.zarr"}


@pytest.mark.parametrize("target", ["there", "missing"])
def test_a_link_is_kept_and_written_through(here, tmp_path, target):
    (tmp_path / "disk").mkdir()
    (here / "run.zarr").symlink_to(tmp_path / "disk" / "data.zarr")
    if target == "there":
        written(tmp_path / "disk" / "data.zarr")
    written("run.zarr", overwrite=target == "there")
    assert (here / "run.zarr").is_symlink() and sc.load(tmp_path / "disk" / "data.zarr").attrs["complete"]
    assert [entry.name for entry in (tmp_path / "disk").iterdir()] == ["data.zarr"]


@pytest.mark.parametrize("out", [".", "~", "empty", "link"])
def test_an_empty_folder_is_filled_and_stays_the_same_folder(here, out):
    folder = here / "empty" if out in ("empty", "link") else here
    folder.mkdir(exist_ok=True)
    folder.chmod(0o750)
    if out == "link":
        (here / "link").symlink_to("empty")
    before = folder.stat()
    written(out)
    assert (folder.stat().st_ino, folder.stat().st_mode) == (before.st_ino, before.st_mode)
    with pytest.raises(FileExistsError, match="holds a finished run"):
        written(out)


def test_a_mount_point_is_filled_and_not_replaced(here, monkeypatch):
    (here / "disk").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).name == "disk")
    written("disk")
    before = snapshot(here)
    with pytest.raises(FileExistsError, match="is a mount point, which cannot be replaced; give a folder in it"):
        written("disk", overwrite=True)
    assert snapshot(here) == before


@pytest.mark.parametrize("what", ["file", "folder", "link to a file", "array of others"])
def test_what_is_no_run_is_kept(here, what):
    if what == "file":
        (here / "run.zarr").write_text("thesis")
    elif what == "link to a file":
        (here / "thesis").write_text("thesis")
        (here / "run.zarr").symlink_to("thesis")
    else:
        (here / "run.zarr").mkdir()
        (here / "run.zarr" / ("zarr.json" if what == "array of others" else "thesis")).write_text('{"attributes": {}}')
    before = snapshot(here)
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match=r"^out 'run.zarr' exists and is not a run; give another path$"):
            written("run.zarr", overwrite=overwrite)
    with pytest.raises(ValueError, match="is not a run; give the store"):
        sc.load("run.zarr")
    assert snapshot(here) == before


@pytest.mark.parametrize("foreign", ["notes.txt", "loss/notes.txt", "mine/zarr.json", "loss/c/0/0.bak", "link"])
def test_what_others_put_into_a_run_is_kept(here, foreign):
    path = written("run.zarr") / foreign
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(here) if foreign == "link" else path.write_text("mine")
    before = snapshot(here)
    with pytest.raises(FileExistsError, match=r"holds a run and also '(?!zarr).*', which is not part of the run; move"):
        written("run.zarr", overwrite=True)
    assert snapshot(here) == before and sc.load("run.zarr").attrs["complete"]


def test_urls_files_and_what_is_no_path(here):
    (here / "file").write_text("text")
    for out, kind, message in (
        ("s3://bucket/run.zarr", ValueError, "got the s3 URL"),
        ("https://host/run.zarr", ValueError, "got the https URL"),
        ("file/run.zarr", NotADirectoryError, "lies below .*file', which is a file"),
        (b"run.zarr", TypeError, "must be a path such as 'run.zarr'"),
        ("", ValueError, "must be a path such as 'run.zarr'"),
        ("x" * 300, OSError, "name too long"),
    ):
        uses = [lambda out=out: sc.simulate(*RUN, out=out), lambda out=out: sc.load(out)]
        for use in uses[:1] if str(out).startswith("s3:") else uses:  # a sweep can be loaded from an object store
            with pytest.raises(kind, match=rf"(?i)^(out|path) .*{message}|^path .* does not exist"):
                use()
    assert [entry.name for entry in here.iterdir()] == ["file"]


CLOSED = """
import os, sys
import saddlescope as sc
from saddlescope.runfile import run_from_toml
sc.simulate(*run_from_toml(open("run.toml").read()), out="first.zarr").load()  # imports what it needs
if os.geteuid() == 0:
    os.seteuid(65534)
for use in (lambda: sc.simulate(*run_from_toml(open("run.toml").read()), out="closed/run.zarr"),
            lambda: sc.simulate(*run_from_toml(open("run.toml").read()), out="closed/empty"),
            lambda: sc.load("secret/run.zarr"),
            lambda: sc.simulate(*run_from_toml(open("run.toml").read()), out="secret/run.zarr")):
    try:
        use()
        print("done")
    except PermissionError as error:
        print(error)
"""


def test_a_closed_folder_is_named_in_the_error():
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        here.chmod(0o755)
        (here / "run.toml").write_text(run_to_toml(*RUN))
        (here / "closed" / "empty").mkdir(parents=True)
        (here / "secret").mkdir()
        for folder, mode in ((here / "closed" / "empty", 0o777), (here / "closed", 0o555), (here / "secret", 0o000)):
            folder.chmod(mode)
        done = subprocess.run([sys.executable, "-c", CLOSED], capture_output=True, text=True, cwd=here)
        for folder in ("secret", "closed"):
            (here / folder).chmod(0o755)
        lines = done.stdout.splitlines()
        assert len(lines) == 4, done.stderr
        assert lines[1] == "done" and sc.load(here / "closed" / "empty").attrs["complete"]
    for sentence in (lines[0], lines[2], lines[3]):
        assert sentence.endswith("(Permission denied); give a path in a folder that you may read and write"), lines


def test_a_full_or_broken_disk_leaves_nothing(here, monkeypatch):
    (here / "empty").mkdir()
    written("old.zarr")
    before = snapshot(here)

    def failing(*args, **kwargs):
        raise OSError(errno.EIO, "input/output error")

    for name in ("write", "lay_out"):
        with monkeypatch.context() as patch:
            patch.setattr(store, name, failing)
            for out in ("run.zarr", "empty", "old.zarr"):
                with pytest.raises(OSError, match="input/output error"):
                    written(out, overwrite=True)
    assert snapshot(here) == before


def test_a_killed_start_in_an_empty_folder_is_cleaned(here, monkeypatch):
    (here / "empty").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(store, "write", lambda *_: (_ for _ in ()).throw(SystemError("killed")))
        patch.setattr(store, "clear", lambda place: None)
        with pytest.raises(SystemError):
            written("empty")
    assert (here / "empty" / "loss").is_dir()
    with pytest.raises(ValueError, match="is not a run; give the store"):
        sc.load("empty")
    (here / "empty" / "mine").write_text("mine")
    with pytest.raises(FileExistsError, match="exists and is not a run"):
        written("empty")
    (here / "empty" / "mine").unlink()
    written("empty")
    assert not (here / "empty" / ".saddlescope-new").exists()


def test_the_command_line_says_it_too(here):
    (here / "run.toml").write_text(run_to_toml(*RUN))
    (here / "file").write_text("text")
    for out in ("s3://bucket/run.zarr", "file", "file/run.zarr"):
        for words in (["run", "run.toml", "-o", out], ["info", out]):
            answer = CliRunner().invoke(cli.app, words)
            assert answer.exit_code == 2 and answer.stderr.startswith("error: ") and answer.stderr.count("\n") == 1


@pytest.mark.parametrize(("call", "found"), [(1, 2), (2, 2), (3, 4)])
def test_an_overwrite_killed_between_its_renames(here, monkeypatch, call, found):
    """The old run (2 steps) is found again, or the new one (4 steps) is there; the next call leaves nothing else."""
    written("run.zarr")
    sc.simulate(*RUN[:2], sc.Plan(steps=2, saves=2), out="run.zarr", overwrite=True)
    rename, seen = Path.rename, []

    def dying(*args):
        seen.append(None)
        if len(seen) >= call:
            raise SystemError("killed")
        return rename(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", dying)
        patch.setattr(store.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(SystemError):
            sc.simulate(*RUN[:2], sc.Plan(steps=4, saves=2), out="run.zarr", overwrite=True)
    assert sc.load("run.zarr").step.values[0] == 0 and f"steps = {found}\n" in sc.load("run.zarr").attrs["toml"]
    written("run.zarr", overwrite=True)
    assert [entry.name for entry in here.iterdir()] == ["run.zarr"]


def test_only_what_is_provably_left_by_a_killed_call_is_removed(here):
    left = [f".run.zarr.{'0a' * 8}.saddlescope-new", f".run.zarr.{'1b' * 8}.saddlescope-gone"]
    kept = [
        ".run.zarr.mine.saddlescope-new",
        f".run.zarr.{'0a' * 8}.saddlescope-new.txt",
        f".other.zarr.{'0a' * 8}.saddlescope-new",
        f"run.zarr.{'0a' * 8}.saddlescope-old",
    ]
    for name in left + kept:
        (here / name).mkdir()
        (here / name / "content").write_text("mine")
    written("run.zarr")
    assert {entry.name for entry in here.iterdir()} == {*kept, "run.zarr"}
