"""A local Google Drive (API v2) behind an HTTPS proxy, for the real client: dvc-gdrive, unpatched, over real TLS.

The client is pointed here with `HTTPS_PROXY`: a CONNECT to any host ends in this server, which shows a certificate of
its own authority (`HTTPLIB2_CA_CERTS`). It speaks the calls that dvc-gdrive makes: tokens, listing, metadata, folders,
resumable uploads, downloads, removal.
"""

import contextlib
import datetime
import hashlib
import json
import re
import socket
import ssl
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

FOLDER = "application/vnd.google-apps.folder"
ROOT = "my-drive"
SHARED = "shared-drive"
CLIENT = {"client_id": "42-tests.apps.googleusercontent.com", "client_secret": "a secret of the tests"}
REFRESH_TOKEN = "refresh-token-of-the-tests"

ERRORS = {
    "userRateLimitExceeded": (403, "User Rate Limit Exceeded"),
    "storageQuotaExceeded": (403, "The user's Drive storage quota has been exceeded."),
    "serviceAccountQuota": (403, "Service Accounts do not have storage quota. Leverage shared drives."),
    "notFound": (404, "File not found"),
    "insufficientFilePermissions": (403, "The user does not have sufficient permissions for this file."),
    "accessNotConfigured": (403, "Google Drive API has not been used in project 42 before or it is disabled."),
    "cannotDownloadAbusiveFile": (403, "This file has been identified as malware or spam and cannot be downloaded."),
    "authError": (401, "Invalid Credentials"),
    "backendError": (500, "Internal Error"),
}
"""Reason -> (HTTP status, message), as Drive gives them."""


@dataclass
class Item:
    """A file or folder of the drive."""

    id: str
    title: str
    parent: str
    mime: str = "application/octet-stream"
    content: bytes = b""

    def metadata(self, drive: str | None) -> dict:
        record = {"id": self.id, "title": self.title, "mimeType": self.mime, "parents": [{"id": self.parent}]}
        if self.mime != FOLDER:
            record |= {"fileSize": str(len(self.content)), "md5Checksum": hashlib.md5(self.content).hexdigest()}
        return record | ({"driveId": drive} if drive else {})


@dataclass
class Faults:
    """What is out of order. Calls are named token, list, get, folder, start, upload, download, trash."""

    errors: dict[str, list[str]] = field(default_factory=dict)  # call -> reasons of the next answers to it
    always: dict[str, str] = field(default_factory=dict)  # call -> the reason of every answer to it
    cut_uploads_after: int | None = None  # bytes of content after which the connection of an upload drops
    corrupt_downloads: bool = False  # contents arrive with a byte changed
    lose_uploads: bool = False  # an upload is confirmed, and nothing kept
    hide: bool = False  # lists are empty
    abusive: bool = False  # contents are given only to who acknowledges that they may be malware
    token_error: str | None = None  # what the token endpoint answers: invalid_grant, invalid_client


class Drive(ThreadingHTTPServer):
    """The server, the drive's content, and a log of the calls."""

    daemon_threads = True

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.items: dict[str, Item] = {}
        self.uploads: dict[str, Item] = {}
        self.faults = Faults()
        self.calls: Counter[str] = Counter()
        self.tokens: dict[str, str] = {}  # access token -> the kind of account it belongs to
        self.page_size = 1000
        self.lock = threading.RLock()
        self.numbers = iter(range(10**9))
        self.service_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.authority, self.tls = _certificates(folder)

    @property
    def environment(self) -> dict[str, str]:
        """What leads a client here."""
        proxy = f"http://127.0.0.1:{self.server_port}"
        names = {"HTTPS_PROXY": proxy, "https_proxy": proxy, "NO_PROXY": "", "no_proxy": ""}
        return {**names, "HTTPLIB2_CA_CERTS": str(self.authority)}

    def user_credentials(self) -> str:
        """What `GDRIVE_CREDENTIALS_DATA` holds for a person: the client, an expired access token, a refresh token."""
        return json.dumps(
            {
                **CLIENT,
                "access_token": "expired-token",
                "refresh_token": REFRESH_TOKEN,
                "token_expiry": "2000-01-01T00:00:00Z",
                "token_uri": "https://oauth2.googleapis.com/token",
                "user_agent": None,
                "revoke_uri": "https://oauth2.googleapis.com/revoke",
                "id_token": None,
                "id_token_jwt": None,
                "token_response": None,
                "scopes": ["https://www.googleapis.com/auth/drive"],
                "token_info_uri": "https://oauth2.googleapis.com/tokeninfo",
                "invalid": False,
                "_class": "OAuth2Credentials",
                "_module": "oauth2client.client",
            }
        )

    def service_account(self) -> str:
        """The JSON key of a service account."""
        key = self.service_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return json.dumps(
            {
                "type": "service_account",
                "project_id": "tests",
                "private_key_id": "1",
                "private_key": key.decode(),
                "client_email": "robot@tests.iam.gserviceaccount.com",
                "client_id": "1",
                "token_uri": "https://oauth2.googleapis.com/token",
            }
        )

    def make_folder(self, title: str, parent: str = ROOT) -> str:
        """Create a folder as a person would in the browser; returns its id."""
        return self._add(Item(self.new_id(), title, parent, FOLDER)).id

    def new_id(self) -> str:
        with self.lock:
            return f"item{next(self.numbers):06d}"

    def _add(self, item: Item) -> Item:
        with self.lock:
            self.items[item.id] = item
        return item

    def contents(self) -> dict[str, bytes]:
        """Path below the top -> bytes of every file."""
        with self.lock:
            return {self._path(item): item.content for item in self.items.values() if item.mime != FOLDER}

    def _path(self, item: Item) -> str:
        parent = self.items.get(item.parent)
        return f"{self._path(parent)}/{item.title}" if parent else item.title

    def drive_of(self, item_id: str) -> str | None:
        """The shared drive an item is in; None for one in My Drive."""
        while item_id in self.items:
            item_id = self.items[item_id].parent
        return SHARED if item_id == SHARED else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Drive

    def log_message(self, *_):
        pass

    def do_CONNECT(self):
        """Become the far end of the tunnel: the requests after this one come over TLS."""
        self.send_response(200)
        self.end_headers()
        self.connection = self.server.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb")
        self.close_connection = False

    def handle(self):
        try:
            with contextlib.suppress(ConnectionError, TimeoutError, ssl.SSLError):  # where the client went away
                super().handle()
        finally:
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            self.connection.close()

    def do_GET(self):
        self._answer()

    def do_POST(self):
        self._answer()

    def do_PUT(self):
        self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        self.query = {key: values[0] for key, values in parse_qs(url.query).items()}
        call, act = self._route(url.path)
        length = int(self.headers.get("Content-Length") or 0)
        if call == "upload" and self.server.faults.cut_uploads_after is not None:
            cut = self.server.faults.cut_uploads_after
            if length > cut:
                self._read(cut)
                self.close_connection = True
                return
        self.body = self._read(length)
        with self.server.lock:
            self.server.calls[call] += 1
            reason = self._fault(call)
            if reason is None and call != "token":
                self.account = self.server.tokens.get(self.headers.get("Authorization", "").removeprefix("Bearer "))
                reason = None if self.account else "authError"
            if reason:
                self._error(reason)
            else:
                act()

    def _read(self, length: int) -> bytes:
        """A request's body; a client that stops sending is hung up on, as one that tries a spent stream again is."""
        self.connection.settimeout(5)
        try:
            return self.rfile.read(length)
        finally:
            self.connection.settimeout(None)

    def _route(self, path: str):
        """The name of a call, and what answers it."""
        if path == "/token":
            return "token", self._token
        if path == "/upload/drive/v2/files":
            return ("upload", self._upload) if self.command == "PUT" else ("start", self._start)
        if path == "/drive/v2/files":
            return ("list", self._list) if self.command == "GET" else ("folder", self._make_folder)
        found = re.fullmatch("/drive/v2/files/([^/]+)(/trash)?", path)
        if not found:
            return "unknown", lambda: self._error("notFound")
        top = Item(found[1], "top", "", FOLDER) if found[1] in (ROOT, SHARED) else None
        self.item = self.server.items.get(found[1], top)
        if found[2]:
            return "trash", self._trash
        return ("download", self._download) if self.query.get("alt") == "media" else ("get", self._get)

    def _fault(self, call: str) -> str | None:
        waiting = self.server.faults.errors.get(call)
        return waiting.pop(0) if waiting else self.server.faults.always.get(call)

    def _token(self) -> None:
        form = {key: values[0] for key, values in parse_qs(self.body.decode()).items()}
        if self.server.faults.token_error:
            return self._json({"error": self.server.faults.token_error, "error_description": "as the test has it"}, 400)
        if form["grant_type"] == "refresh_token":
            known = (REFRESH_TOKEN, *CLIENT.values())
            if (form["refresh_token"], form["client_id"], form["client_secret"]) != known:
                return self._json({"error": "invalid_grant"}, 400)
        token = f"token-{self.server.new_id()}"
        self.server.tokens[token] = "service" if form["grant_type"].endswith("jwt-bearer") else "user"
        lasting = {"refresh_token": REFRESH_TOKEN} if form["grant_type"] == "authorization_code" else {}
        return self._json({"access_token": token, "expires_in": 3600, "token_type": "Bearer", **lasting})

    def _list(self) -> None:
        query = self.query["q"]
        parents = {ROOT if name == "root" else name for name in re.findall(r"'([^']*)' in parents", query)}
        title = re.search(r"title='((?:[^'\\]|\\.)*)'", query)
        found = [
            item
            for item in self.server.items.values()
            if item.parent in parents
            and (title is None or item.title.lower() == title[1].replace("\\'", "'").lower())
            and not self.server.faults.hide
        ]
        start = int(self.query.get("pageToken", 0))
        stop = start + min(int(self.query.get("maxResults", 100)), self.server.page_size)
        answer = {"items": [item.metadata(self.server.drive_of(item.id)) for item in found[start:stop]]}
        self._json(answer | ({"nextPageToken": str(stop)} if stop < len(found) else {}))

    def _get(self) -> None:
        if self.item is None:
            return self._error("notFound")
        return self._json(self.item.metadata(self.server.drive_of(self.item.id)))

    def _new(self) -> Item:
        metadata = json.loads(self.body)
        parent = metadata["parents"][0]["id"]
        parent = ROOT if parent == "root" else parent
        return Item(
            self.server.new_id(), metadata["title"], parent, metadata.get("mimeType", "application/octet-stream")
        )

    def _make_folder(self) -> None:
        item = self.server._add(self._new())
        self._json(item.metadata(self.server.drive_of(item.id)))

    def _start(self) -> None:
        item = self._new()
        if self.account == "service" and self.server.drive_of(item.parent) is None:
            return self._error("serviceAccountQuota")
        self.server.uploads[item.id] = item
        self.send_response(200)
        self.send_header("Location", f"https://www.googleapis.com/upload/drive/v2/files?upload_id={item.id}")
        self.send_header("Content-Length", "0")
        return self.end_headers()

    def _upload(self) -> None:
        item = self.server.uploads[self.query["upload_id"]]
        item.content += self.body
        total = self.headers["Content-Range"].rsplit("/", 1)[1]
        if total != "*" and len(item.content) == int(total):
            if not self.server.faults.lose_uploads:
                self.server._add(self.server.uploads.pop(item.id))
            return self._json(item.metadata(self.server.drive_of(item.id)))
        self.send_response(308)
        self.send_header("Range", f"bytes=0-{len(item.content) - 1}")
        self.send_header("Content-Length", "0")
        return self.end_headers()

    def _download(self) -> None:
        if self.item is None:
            return self._error("notFound")
        if self.server.faults.abusive and self.query.get("acknowledgeAbuse") != "true":
            return self._error("cannotDownloadAbusiveFile")
        content = self.item.content
        if self.server.faults.corrupt_downloads and content:
            content = bytes([content[0] ^ 1]) + content[1:]
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "bytes=0-")
        start, stop = int(span[1]), min(int(span[2] or len(content)) + 1, len(content))
        if start >= len(content) and start:
            return self._error("notFound")
        self.send_response(206 if content else 200)
        self.send_header("Content-Length", str(stop - start))
        if content:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.end_headers()
        return self.wfile.write(content[start:stop])

    def _trash(self) -> None:
        if self.item is None:
            return self._error("notFound")
        return self._json(self.server.items.pop(self.item.id).metadata(None))

    def _json(self, content: dict, status: int = 200) -> None:
        encoded = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def _error(self, reason: str) -> None:
        status, message = ERRORS[reason]
        reason = "storageQuotaExceeded" if reason == "serviceAccountQuota" else reason
        error = {"domain": "global", "reason": reason, "message": message}
        self._json({"error": {"code": status, "message": message, "errors": [error]}}, status)


def _certificates(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """An authority of our own, and a server context whose certificate it has signed."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2)]
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in ("tests", "googleapis.com")]

    def sign(subject: int, extensions: list) -> bytes:
        builder = x509.CertificateBuilder(names[0], names[subject], keys[subject].public_key(), subject + 1)
        builder = builder.not_valid_before(now - datetime.timedelta(days=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=1))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    identifier = x509.SubjectKeyIdentifier.from_public_key(keys[0].public_key())
    authority = folder / "authority.pem"
    authority.write_bytes(sign(0, [x509.BasicConstraints(ca=True, path_length=None), identifier]))
    hosts = x509.SubjectAlternativeName([x509.DNSName(name) for name in ("*.googleapis.com", "accounts.google.com")])
    issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    private = keys[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    chain = folder / "server.pem"
    chain.write_bytes(sign(1, [hosts, issuer]) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return authority, context
