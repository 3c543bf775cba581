"""The verbs of files and folders, on a disk and in a bucket alike, and what only buckets have."""

import errno
import http.server
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from etils import epath

from mvar_jax.files import (
    BucketPath,
    GrowingFile,
    check_unused,
    check_writable,
    copy_folder,
    draft_folder,
    draft_of,
    folder_exists,
    folders,
    input_path,
    is_whole,
    load_json,
    local_copy,
    move_folder,
    names_below,
    publish,
    read_grown,
    read_version,
    remove_folder,
    remove_version,
    user_path,
    write_json,
    write_text,
    write_version,
    written_whole,
)
from mvar_jax.files.buckets import client, objects_below
from mvar_jax.files.upload_mark import UploadMark
from tests.files.emulator import storage_environment


@pytest.fixture(params=["disk", "bucket"])
def place(request, tmp_path):
    """A folder, of either kind of storage."""
    if request.param == "disk":
        (tmp_path / "place").mkdir()
        return tmp_path / "place"
    return request.getfixturevalue("bucket") / "some" / "place"


def test_a_path_in_a_bucket_is_a_path(bucket):
    path = bucket / "run" / "a.json"
    assert isinstance(path, Path) and isinstance(path, epath.Path) and isinstance(path, BucketPath)
    assert str(path) == f"{bucket}/run/a.json" == str(path.absolute()) == str(path.resolve())
    assert (path.name, path.suffix, path.parent) == ("a.json", ".json", bucket / "run")
    assert user_path(str(path)) == user_path(f"{bucket}//run/a.json".replace("//run", "/run"))
    assert path.with_name("b") == bucket / "run" / "b" and hash(path) == hash(bucket / "run/a.json")
    for kind in (path / "x", path.parent, next(iter(path.parents))):
        assert type(kind) is BucketPath


def test_files_are_published_whole(place):
    assert not (place / "a.json").exists() and folder_exists(place)
    write_json(place / "a.json", {"a": 1})
    write_text(place / "sub.txt", "köttur")
    assert load_json(place / "a.json") == {"a": 1}
    assert (place / "sub.txt").read_bytes() == "köttur".encode()
    assert (place / "a.json").is_file() and not (place / "a.json").is_dir() and place.is_dir()
    write_json(place / "a.json", {"a": 2})
    assert load_json(place / "a.json") == {"a": 2}
    with pytest.raises(KeyError), written_whole(place / "a.json") as draft:
        draft.write_text("half")
        raise KeyError
    assert load_json(place / "a.json") == {"a": 2} and names_below(place) == ["a.json", "sub.txt"]


def test_what_can_be_written_is_found_out_without_a_trace(place):
    check_writable(place / "a.json")
    assert names_below(place) == []
    check_unused(place)
    write_text(place / "a.unfinished", "")
    check_unused(place)
    write_text(place / "a", "")
    with pytest.raises(ValueError, match="holds something else, expected a new or empty folder"):
        check_unused(place)


def test_folders_are_published_whole(place, tmp_path):
    def fill(draft):
        (draft / "deep").mkdir(parents=True)
        (draft / "deep" / "b").write_text("b")
        (draft / "a").write_text("a")

    with draft_folder(place / "run") as draft:
        fill(draft)
        assert not is_whole(place / "run")
        publish(draft, place / "run")
    assert is_whole(place / "run") and names_below(place / "run") == ["a", "deep/b"]
    assert [path.name for path in (place / "run").rglob("*b")] == ["b"]
    with pytest.raises(KeyError), draft_folder(place / "other") as draft:
        fill(draft)
        raise KeyError
    assert names_below(place) == ["run/a", "run/deep/b"]
    with draft_folder(place / "run") as draft, pytest.raises(OSError, match="not empty"):
        fill(draft)
        publish(draft, place / "run")
    copy_folder(place / "run", tmp_path / "copy")
    assert names_below(tmp_path / "copy") == ["a", "deep/b"]
    move_folder(place / "run", place / "moved", "a")
    assert names_below(place) == ["moved/a", "moved/deep/b"]
    assert (place / "moved" / "deep" / "b").read_bytes() == b"b"
    remove_folder(place / "moved")
    remove_folder(place / "moved")
    assert names_below(place) == []


def test_a_folder_that_was_being_uploaded_is_not_there(bucket, tmp_path):
    write_text(draft_of(bucket / "run"), "")
    write_text(bucket / "run" / "old", "of a killed process")
    assert (bucket / "run").exists() and not is_whole(bucket / "run")
    (tmp_path / "draft").mkdir()
    (tmp_path / "draft" / "new").write_text("new")
    publish(tmp_path / "draft", bucket / "run")
    assert is_whole(bucket / "run") and names_below(bucket) == ["run/new"]


def write_draft(path, *names):
    path.mkdir()
    for name in names:
        (path / name).write_text(name)
    return path


def test_of_two_that_upload_a_folder_at_once_the_first_stops(bucket, tmp_path, monkeypatch):
    run, send = bucket / "run", folders.upload
    first = write_draft(tmp_path / "first", "a", "b")
    second = write_draft(tmp_path / "second", "c")
    begun, ended, problems = threading.Event(), threading.Event(), []

    def publish_second():
        try:
            publish(second, run)
        except ValueError as error:
            problems.append(str(error))

    other = threading.Thread(target=publish_second)

    def upload(file, path):
        if file.name == "a":
            other.start()
            assert begun.wait(60)
        elif file.name == "c":
            begun.set()
            assert ended.wait(60)
        send(file, path)

    monkeypatch.setattr(folders, "upload", upload)
    monkeypatch.setattr(folders, "AT_ONCE", 1)
    with pytest.raises(ValueError, match=f"{run}: another process uploads this folder too; let"):
        publish(first, run)
    assert not is_whole(run)
    ended.set()
    other.join()
    assert problems == [
        f"{run}: another process wrote there meanwhile; run this again when it has ended."
    ]
    assert names_below(run) == ["a", "c"] and not is_whole(run)
    monkeypatch.setattr(folders, "upload", send)
    publish(second, run)
    assert is_whole(run) and names_below(bucket) == ["run/c"]


def test_who_marks_a_folder_last_uploads_it(bucket):
    first, second = UploadMark(bucket / "run"), UploadMark(bucket / "run")
    for call in (first.check_ours, first.remove):
        with pytest.raises(ValueError, match="another process uploads this folder too"):
            call()
    assert draft_of(bucket / "run").exists()
    second.remove()
    assert not draft_of(bucket / "run").exists()


def test_files_grow(place):
    file = GrowingFile(place / "log", "one\n")
    for line in ("two\n", "drüi\n", "four\n"):
        file.append(line)
        assert read_grown(place / "log").decode().endswith(line)
    whole = "one\ntwo\ndrüi\nfour\n".encode()
    assert read_grown(place / "log") == whole
    file.close()
    assert read_grown(place / "log") == whole == (place / "log").read_bytes()
    assert names_below(place) == ["log"]
    again = GrowingFile(place / "log", "one\n")
    again.append("2\n")
    assert read_grown(place / "log") == b"one\n2\n" and read_grown(place / "none") == b""


def test_parts_that_were_put_together_already_are_not_read_twice(bucket):
    file = GrowingFile(bucket / "log", "")
    file.append("one\n")
    file.append("two\n")
    write_text(bucket / "log", "one\ntwo\n")  # and killed before the parts are deleted
    assert read_grown(bucket / "log") == b"one\ntwo\n"
    (bucket / "log.parts" / f"{4:015d}").unlink()
    write_text(bucket / "log", "")
    assert read_grown(bucket / "log") == b"one\n"


def test_copies_are_fetched_again_only_when_the_object_changes(bucket, capsys):
    write_text(bucket / "data" / "a.txt", "first")
    write_text(bucket / "data" / "b" / "c.txt", "deep")
    folder = input_path(f"{bucket}/data")
    assert names_below(folder) == ["a.txt", "b/c.txt"] and (folder / "a.txt").read_text() == "first"
    assert "fetched 2 of 2 file(s) to" in capsys.readouterr().err
    before = (folder / "a.txt").stat().st_ino
    assert local_copy(bucket / "data" / "a.txt").stat().st_ino == before
    write_text(bucket / "data" / "a.txt", "other")  # as long as it was
    (bucket / "data" / "b" / "c.txt").unlink()
    assert names_below(input_path(f"{bucket}/data")) == ["a.txt"]
    assert (folder / "a.txt").read_text() == "other"
    assert input_path("plain/path") == Path("plain/path")
    with pytest.raises(FileNotFoundError) as caught:
        input_path(f"{bucket}/none")
    assert caught.value.filename == f"{bucket}/none" and caught.value.errno == errno.ENOENT


def test_a_name_that_leads_out_of_its_folder_is_refused(bucket):
    client().bucket(bucket.name).blob("data/../../evil").upload_from_string(b"")
    with pytest.raises(ValueError, match=r"holds '\.\./\.\./evil', which would lie elsewhere"):
        objects_below(bucket / "data")


def test_a_file_with_the_name_of_a_folder_has_no_copy(bucket, tmp_path):
    write_text(bucket / "data" / "deep" / "a", "a file")
    write_text(bucket / "data" / "deep" / "a" / "b", "and a folder")
    both = r"data: holds a file 'deep/a' and a file 'deep/a/b', which cannot both lie on a disk; d"
    with pytest.raises(ValueError, match=both):
        local_copy(bucket / "data")
    with pytest.raises(ValueError, match=both):
        copy_folder(bucket / "data", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_version_is_replaced_only_by_who_saw_it(bucket):
    path = bucket / "lock"
    assert read_version(path) == (b"", 0)
    first = write_version(path, b"one", 0)
    assert read_version(path) == (b"one", first)
    with pytest.raises(FileExistsError):
        write_version(path, b"two", 0)
    second = write_version(path, b"two", first)
    with pytest.raises(FileExistsError):
        write_version(path, b"three", first)
    assert read_version(path) == (b"two", second) and second != first
    remove_version(path, second)
    with pytest.raises(FileNotFoundError):
        remove_version(path, second)


@pytest.mark.parametrize(
    "name", ["gs://", "gs:///a", "gs://b", "gs://Bucket/a", "gs://bucket/../a"]
)
def test_what_is_no_address_is_refused(storage, name):
    with pytest.raises(ValueError, match=r"^got 'gs://.*', expected gs://BUCKET/FOLDER"):
        user_path(name)


def test_a_bucket_that_is_not_there_is_named(storage):
    with pytest.raises(ValueError, match=r"^gs://missing: there is no such bucket; check its name"):
        user_path("gs://missing/run")


@contextmanager
def refusing(status):
    """A server that refuses everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = b'{"error": {"message": "no storage.objects.list access"}}'
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.parametrize("status", [401, 403])
def test_a_bucket_that_may_not_be_read_is_named(run, status):
    with refusing(status) as url:
        environment = {**run.environment, **storage_environment(url)}
        command = [sys.executable, "-m", "mvar_jax.sample", "--workdir=gs://closed/run"]
        result = subprocess.run(
            [*command, "--labels=1", "--out=a.png"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1, result.stderr
    assert "error: gs://closed: it may not be read by these credentials" in result.stderr
    assert "gcloud auth application-default login" in result.stderr


def test_missing_packages_are_named(run, tmp_path):
    (tmp_path / "gcsfs.py").write_text("raise ImportError")
    environment = {**run.environment, "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    command = [sys.executable, "-m", "mvar_jax.train", "--config=digits.py"]
    result = subprocess.run(
        [*command, "--workdir=gs://bucket/run"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2, result.stderr
    assert result.stderr.splitlines() == [
        "error: gs://: buckets need the packages gcsfs and google-cloud-storage; install them by "
        "pip install -e '.[gcs]' in the clone of mvar_jax."
    ]
