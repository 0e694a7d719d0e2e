"""Archives that somebody made to do harm, or that came to harm: for `test_hostile.py`.

Each is a whole hand-in with one thing changed, and with checksums that fit unless these are it.
"""

import hashlib
import io
import json
import stat
import zipfile
from collections.abc import Callable, Iterator

from innerloop.assignment.pack import SUMS

RUN = "runs/fomaml-s0"
VALUES = (
    "text",
    None,
    [],
    {},
    [[[]]],
    True,
    -1,
    0,
    1e308,
    10**400,
    float("nan"),
    float("inf"),
    "\ud800",
)
"""In the place of what a row should hold."""
TEXTS = {
    "empty": b"",
    "null": b"null",
    "a list of numbers": b"[1, 2]",
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 900 + b"1" + b"}" * 900,
    "no UTF-8": b"\xff\xfe\x00",
    "a huge number": b'{"step": ' + b"9" * 5000 + b"}",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "a NUL": b"\x00" * 64,
}
"""In the place of a file of JSON."""
NAMES = (
    "../out.txt",
    "/out.txt",
    "C:/out.txt",
    "{stem}/../../out.txt",
    "{stem}\\out.txt",
    "{stem}//out.txt",
    "{stem}/./out.txt",
    "{stem}/runs/../../../out.txt",
    "{stem}/a\0b",
    "{stem}/file:stream",
    "alone.txt",
    "other/out.txt",
    "",
    "{stem}/" + "n" * 300,
    "{stem}/report.html/inside",
    "{stem}/" + "d/" * 2000 + "f",
)
HEADERS = {
    "of no length": b"",
    "longer than the file": (2**40).to_bytes(8, "little") + b"{}",
    "of the largest length": b"\xff" * 8,
    "no JSON": (4).to_bytes(8, "little") + b"none",
    "deep": (100_000).to_bytes(8, "little") + b"[" * 100_000,
    "of overlapping tensors": b"",
    "of a negative offset": b"",
    "of another kind": b"",
    "of a huge shape": b"",
}
TENSORS = {
    "of overlapping tensors": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
    "of a negative offset": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]},
    "of another kind": {"dtype": "PICKLE", "shape": [2], "data_offsets": [0, 8]},
    "of a huge shape": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 8]},
}

Content = dict[str, bytes]


def hostile(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """What is wrong with each, and its bytes."""
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        stem = packed.namelist()[0].partition("/")[0]
        content = {name.partition("/")[2]: packed.read(name) for name in packed.namelist()}
    for what, change in (*_of_rows(content), *_of_files(content), *_of_weights()):
        changed = dict(content)
        change(changed)
        yield what, _zipped(stem, _summed(changed))
    yield from _of_entries(stem, content)
    yield from _of_bytes(archive)


def _of_rows(content: Content) -> Iterator[tuple[str, Callable[[Content], None]]]:
    evaluation = next(name for name in content if name.startswith(f"{RUN}/evaluation-"))
    fields = {
        "results.json": ("run", "episodes", "query_accuracy"),
        evaluation: ("query_accuracy_per_episode", "query_accuracy_per_step"),
        f"{RUN}/config.json": ("method", "own"),
        f"{RUN}/metrics.jsonl": ("step", "query_accuracy", "diagnostics"),
    }
    for file, names in fields.items():
        for name in names:
            for value in VALUES:
                what = f"{file}: {name} is {str(value)[:20]!r}"
                yield what, lambda files, f=file, n=name, v=value: _replace(files, f, n, v)


def _replace(files: Content, file: str, name: str, value: object) -> None:
    """Give one row of a file another value; of lines, the last validation."""
    if file.endswith(".jsonl"):
        rows = [json.loads(line) for line in files[file].splitlines()]
        last = max(index for index, row in enumerate(rows) if row["kind"] == "validation")
        rows[last][name] = value
        files[file] = "".join(json.dumps(row) + "\n" for row in rows).encode()
        return
    rows = json.loads(files[file])
    (rows[0] if isinstance(rows, list) else rows)[name] = value
    files[file] = json.dumps(rows).encode()


def _without_runs(files: Content) -> None:
    for name in [name for name in files if "runs/" in name]:
        del files[name]


def _of_files(content: Content) -> Iterator[tuple[str, Callable[[Content], None]]]:
    names = ("results.json", "author.json", f"{RUN}/config.json", f"{RUN}/env.json")
    for name in (*names, f"{RUN}/status.json", f"{RUN}/metrics.jsonl"):
        for what, text in TEXTS.items():
            yield f"{name}: {what}", lambda files, n=name, t=text: files.update({n: t})
    extra = "runs/explanation/explanation.json"
    for what, text in TEXTS.items():
        yield f"{extra}: {what}", lambda files, t=text: files.update({extra: t})
        yield (
            f"an episode: {what}",
            lambda files, t=text: files.update({f"{RUN}/episode.npz": t}),
        )
    yield "no run at all", _without_runs
    evil = content[f"{RUN}/config.json"].replace(b'"fomaml"', b'"evil:CARD"')
    yield "a hidden run of foreign code", lambda files: files.update({"runs/x/config.json": evil})


def _of_weights() -> Iterator[tuple[str, Callable[[Content], None]]]:
    name = f"{RUN}/model.safetensors"
    for what, header in HEADERS.items():
        if what in TENSORS:
            tensor = TENSORS[what]
            text = json.dumps({"a": tensor, "b": tensor}).encode()
            header = len(text).to_bytes(8, "little") + text + bytes(8)
        yield f"weights with a header {what}", lambda files, h=header: files.update({name: h})
    yield "pickled weights", lambda files: files.update({name: b"\x80\x04cos\nsystem\n."})


def _summed(content: Content) -> Content:
    sums = "".join(
        f"{hashlib.sha256(data).hexdigest()}  {name}\n"
        for name, data in sorted(content.items())
        if name != SUMS
    )
    return content | {SUMS: sums.encode("utf-8", errors="surrogatepass")}


def _zipped(
    stem: str, content: Content, extra: tuple[zipfile.ZipInfo, bytes] | None = None
) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in content.items():
            archive.writestr(f"{stem}/{name}", data)
        if extra is not None:
            archive.writestr(*extra)
    return packed.getvalue()


def _entry(name: str, *, mode: int = stat.S_IFREG | 0o644, method: int = 0) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo("name")
    entry.filename = name
    entry.compress_type = method
    entry.create_system = 3
    entry.external_attr = mode << 16
    return entry


def _of_entries(stem: str, content: Content) -> Iterator[tuple[str, bytes]]:
    def packed(entry: zipfile.ZipInfo, data: bytes = b"x") -> bytes:
        inside = entry.filename.removeprefix(f"{stem}/")
        summed = _summed(content | {inside: data})
        del summed[inside]
        return _zipped(stem, summed, (entry, data))

    for pattern in NAMES:
        name = pattern.replace("{stem}", stem)
        yield f"an entry {name[:40]!r}", packed(_entry(name))
    yield "a link", packed(_entry(f"{stem}/link", mode=stat.S_IFLNK | 0o777), b"/etc/passwd")
    yield "a device", packed(_entry(f"{stem}/device", mode=stat.S_IFCHR | 0o666))
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield f"compression {method}", packed(_entry(f"{stem}/x", method=method))
    bomb = _entry(f"{stem}/bomb", method=zipfile.ZIP_DEFLATED)
    yield "a bomb", packed(bomb, bytes(2**27))
    sums = content | {SUMS: b"0" * 64 + b"  ../../out.txt\n"}
    yield "checksums that lead out", _zipped(stem, sums)
    yield "checksums that are no text", _zipped(stem, content | {SUMS: b"\xff" * 64})
    yield (
        "no checksums",
        _zipped(stem, {name: data for name, data in content.items() if name != SUMS}),
    )


def _of_bytes(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """The directory, or what it stands for, changed in place."""
    directory = archive.index(b"PK\x01\x02")
    places = {
        "a name that is not UTF-8": (46, b"\xff\xfe"),
        "version 22": (6, b"\xdc\x00"),
        "compression LZMA of what is none": (10, b"\x0e\x00"),
        "compression of no kind": (10, b"\x63\x00"),
        "encrypted": (8, b"\x01\x00"),
        "another size": (24, b"\xff\xff\xff\x7f"),
        "another place": (42, b"\xff\xff\xff\x7f"),
        "another checksum": (16, b"\x00\x00\x00\x00"),
    }
    for what, (offset, bytes_there) in places.items():
        place = directory + offset
        changed = archive[:place] + bytes_there + archive[place + len(bytes_there) :]
        if what == "a name that is not UTF-8":  # and said to be
            flags = directory + 8
            changed = changed[:flags] + b"\x00\x08" + changed[flags + 2 :]
        yield what, changed
    for share in (0, 0.1, 0.5, 0.9, 0.999):
        yield f"cut at {share}", archive[: int(share * len(archive))]
    yield "garbage before it", b"x" * 1000 + archive[:-1]
    yield "twice", archive + archive[:-22]
