"""A Hugging Face hub on this machine: repositories of datasets held in memory, as its HTTP interface serves them."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "a" * 40


class Hub:
    """What is served: repository → path → content; `lies`: the size that is told of a path; `gated`: repositories
    whose files are for those only who have accepted terms."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.lies: dict[str, int] = {}
        self.gated: set[str] = set()
        self.address = ""

    def size(self, path: str, content: bytes) -> int:
        return self.lies.get(path, len(content))


@contextmanager
def serve() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def answer(self, body: bytes, status: int = 200, length: int | None = None, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
            if length is not None:
                self.close_connection = True

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            parts = unquote(urlsplit(self.path).path).strip("/").split("/")
            if parts[:2] == ["api", "datasets"] and len(parts) >= 4:
                self.describe("/".join(parts[2:4]), parts[4:])
            elif parts[0] == "datasets" and parts[3:4] == ["resolve"]:
                self.resolve("/".join(parts[1:3]), "/".join(parts[5:]))
            else:
                self.answer(b"{}", 404)

        def describe(self, name: str, asked: list[str]) -> None:
            if name not in hub.files:
                self.answer(b'{"error": "Repository not found"}', 404, X_Error_Code="RepoNotFound")
                return
            files = hub.files[name]
            if asked[:1] == ["tree"]:
                recursive = parse_qs(urlsplit(self.path).query).get("recursive", [""])[0].lower() == "true"
                self.json(list(self.tree(files, "/".join(asked[2:]), recursive)))
            else:
                self.json({"id": name, "sha": COMMIT, "siblings": [{"rfilename": path} for path in files]})

        def tree(self, files: dict[str, bytes], under: str, recursive: bool) -> Iterator[dict[str, object]]:
            prefix = f"{under}/" if under else ""
            folders = set()
            for path, content in files.items():
                if not path.startswith(prefix):
                    continue
                inner = path.removeprefix(prefix).split("/")
                for depth in range(1, len(inner) if recursive else min(2, len(inner))):
                    folders.add(prefix + "/".join(inner[:depth]))
                if recursive or len(inner) == 1:
                    yield {"type": "file", "path": path, "size": hub.size(path, content), "oid": "0" * 40}
            yield from ({"type": "directory", "path": path, "size": 0, "oid": "0" * 40} for path in sorted(folders))

        def json(self, value: object) -> None:
            self.answer(json.dumps(value).encode(), Content_Type="application/json")

        def resolve(self, name: str, path: str) -> None:
            content = hub.files.get(name, {}).get(path)
            if name in hub.gated:
                self.answer(b'{"error": "Access to this dataset is restricted"}', 401, X_Error_Code="GatedRepo")
                return
            if content is None:
                self.answer(b"", 404, X_Error_Code="EntryNotFound" if name in hub.files else "RepoNotFound")
                return
            about = {"ETag": f'"{"e" * 40}"', "X_Repo_Commit": COMMIT, "Accept_Ranges": "bytes"}
            size, asked = hub.size(path, content), self.headers.get("Range")
            if asked is None:
                self.answer(content, length=size if size != len(content) else None, **about)
                return
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last or size - 1), size - 1)
            told = {"Content_Range": f"bytes {start}-{end}/{size}"} | about
            part = content[start : end + 1]
            self.answer(part, 206, length=end + 1 - start if len(part) != end + 1 - start else None, **told)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
