"""What is downloaded is the original, whole, or nothing; what is here is said as it is."""

import functools
import gzip
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from regrow.commands.data import Data
from regrow.lab.data import fetch as fetching
from regrow.lab.data.fetch import check, download, fetch
from regrow.lab.data.mnist import MNIST_FILES, load_mnist

CONTENT = bytes(range(256)) * 4000
SUM = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
NOWHERE = "http://127.0.0.1:9/"  # where nothing listens


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; promises more than it sends of names that begin with "cut"."""

    def send_header(self, keyword: str, value: str) -> None:
        if keyword == "Content-Length" and self.path.startswith("/cut"):
            value = str(int(value) + 1000)
        super().send_header(keyword, value)

    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address that it is served at."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("REGROW_DATA", raising=False)
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)


def one_line(error: pytest.ExceptionInfo[Exception], *words: str) -> None:
    message = str(error.value)
    assert "\n" not in message and all(word in message for word in words), message


def test_a_file_arrives_whole_and_says_how_far_it_is(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = served
    (folder / "file.gz").write_bytes(CONTENT)
    path, said = tmp_path / "new" / "folder" / "file.gz", []
    download(address + "file.gz", SUM, path, lambda *progress: said.append(progress))
    assert path.read_bytes() == CONTENT and list(path.parent.iterdir()) == [path]
    done = [bytes_done for _, bytes_done, _ in said]
    assert done == sorted(done) and done[-1] == len(CONTENT) and len(done) > 2
    assert {(name, total) for name, _, total in said} == {("file.gz", len(CONTENT))}


def test_a_damaged_file_is_replaced_and_a_right_one_left(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = served
    (folder / "file.gz").write_bytes(CONTENT)
    path = tmp_path / "file.gz"
    path.write_bytes(CONTENT[:-1])
    download(address + "file.gz", SUM, path)
    assert path.read_bytes() == CONTENT
    download(NOWHERE + "file.gz", SUM, path)  # asks nobody


@pytest.mark.parametrize("old", [None, b"what was there"])
@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("wrong.gz", ValueError, f"is not the original, whose checksum is {SUM}; the download was discarded"),
        ("missing.gz", OSError, "404 Client Error"),
        ("cut.gz", OSError, "IncompleteRead"),
        (None, OSError, "(Connection refused)"),
    ],
)
def test_a_failure_is_one_line_and_leaves_no_file(
    served: tuple[Path, str], tmp_path: Path, name: str | None, kind: type[Exception], says: str, old: bytes | None
) -> None:
    folder, address = served
    (folder / "wrong.gz").write_bytes(CONTENT[::-1])
    (folder / "cut.gz").write_bytes(CONTENT)
    url = address + name if name else NOWHERE + "file.gz"
    path = tmp_path / "data" / "file.gz"
    path.parent.mkdir()
    if old:
        path.write_bytes(old)
    with pytest.raises(kind) as error:
        download(url, SUM, path)
    one_line(error, url, says, f"put the original at {path} yourself")
    assert [each.read_bytes() for each in path.parent.iterdir()] == ([old] if old else [])


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError) as error:
        download(NOWHERE + "x", SUM, tmp_path / "file" / "x")
    one_line(error, "cannot be downloaded to", "(File exists)")


def test_mnist_is_fetched_and_then_left(served: tuple[Path, str], real_mnist: Path, tmp_path: Path) -> None:
    folder, address = served
    for file in MNIST_FILES:
        (folder / Path(file).name).symlink_to(real_mnist / file)
    (found,) = fetch(tmp_path / "data", ["mnist"], bases={"mnist": address})
    assert found.state == "whole" and found.detail == "60,000 training and 10,000 test images of 28 x 28"
    assert load_mnist(tmp_path / "data")[0].labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert sorted(path.name for path in (tmp_path / "data" / "mnist").iterdir()) == sorted(
        Path(file).name for file in MNIST_FILES
    )
    labels = tmp_path / "data" / "mnist" / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(gzip.decompress(labels.read_bytes()), 1))  # the same digits in other bytes
    (again,) = fetch(tmp_path / "data", ["mnist"], bases={"mnist": NOWHERE})
    assert again.state == "whole"


def test_another_archive_than_the_original_is_not_kept(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = served
    (folder / "cifar-100-python.tar.gz").write_bytes(gzip.compress(b"something else"))
    with pytest.raises(ValueError, match="md5:eb9058c3a382ffc7106e4002c42a8d85"):
        fetch(tmp_path / "data", ["cifar100"], bases={"cifar100": address})
    assert list((tmp_path / "data").iterdir()) == []


def test_every_data_set_has_an_address_and_files() -> None:
    assert set(get_args(fetching.Name)) == set(fetching.BASES) == set(fetching._FILES)
    assert list(fetching._FILES["mnist"]) == list(MNIST_FILES)


def test_check_says_what_there_is(tmp_path: Path, real_mnist: Path) -> None:
    digits, mnist, cifar = check(tmp_path)
    assert (digits.state, digits.detail) == ("whole", "1,797 images of 8 x 8, always there")
    assert mnist.state == cifar.state == "missing"
    assert mnist.place == str(tmp_path / "mnist") and "regrow data fetch --only mnist" in mnist.detail
    assert cifar.place == str(tmp_path) and "regrow data fetch --only cifar100" in cifar.detail

    (tmp_path / "mnist").symlink_to(real_mnist / "mnist")
    (tmp_path / "cifar-100-python.tar.xz").write_bytes(b"cut")
    _, mnist, cifar = check(tmp_path)
    assert (mnist.state, mnist.detail) == ("whole", "60,000 training and 10,000 test images of 28 x 28")
    assert cifar.state == "damaged" and cifar.place == str(tmp_path / "cifar-100-python.tar.xz")
    assert "truncated or no valid archive" in cifar.detail and "regrow data fetch --only cifar100" in cifar.detail


def test_the_command_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Data(data=tmp_path).run()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Data folder: {tmp_path}"
    assert [line.split()[:2] for line in lines if line[0] != " "][1:] == [
        ["digits", "whole"],
        ["mnist", "missing"],
        ["cifar100", "missing"],
    ]
    assert all("regrow data fetch" in line for line in lines if "missing" in line)

    (tmp_path / "cifar-100-python.tar.gz").touch()
    with pytest.raises(ValueError, match="damaged: cifar100; see the remedies above"):
        Data(data=tmp_path).run()
    assert "cifar100  damaged" in capsys.readouterr().out


def test_the_command_fetches_into_the_own_folder(
    served: tuple[Path, str],
    real_mnist: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, address = served
    for file in MNIST_FILES:
        (folder / Path(file).name).symlink_to(real_mnist / file)
    monkeypatch.setitem(fetching.BASES, "mnist", address)  # type: ignore[arg-type]
    Data("fetch", only="mnist").run()
    own = tmp_path / "cache" / "regrow" / "data"
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        f"Data folder: {own}",
        "mnist     whole    60,000 training and 10,000 test images of 28 x 28",
        f"                   in {own / 'mnist'}",
    ]
    assert said.err == "" and (own / MNIST_FILES[0]).exists()


def test_without_a_home_the_command_asks_for_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "nowhere")  # as little of an absolute path as a user without one gets
    with pytest.raises(ValueError, match="name a folder with --data or REGROW_DATA"):
        Data("fetch").run()
