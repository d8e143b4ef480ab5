"""Where the caller gets packages from: the index, find-links and certificate settings of uv and of pip.

uv reads neither pip.conf nor PIP_*, and this project's uv reads no uv.toml either, because those files also hold
settings that would change what is installed. So the settings that say where from, and only those, are read here
and handed on to whichever installer runs. What is installed is pinned by hash, wherever it comes from.
"""

from __future__ import annotations

import configparser
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# What an installer, and the Python it looks at, need from the caller to work at all.
KEPT_VARIABLES = (
    *("HOME", "PATH", "TMPDIR", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "XDG_CACHE_HOME", "NETRC"),
    *("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "SSL_CLIENT_CERT"),
    # A Python built with a shared library may not start without these; actions/setup-python sets the first.
    *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"),
)

# What Linux systems call the certificates that everything else on the machine trusts.
SYSTEM_CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)

CREDENTIALS = re.compile(r"(?<=://)[^\s/@]+(?=@)")


@dataclass(frozen=True)
class PackageSources:
    """Where packages come from; an empty field leaves the installer's own default."""

    index: str = ""
    extra_indexes: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    index_strategy: str = ""
    index_credentials: Mapping[str, str] = field(default_factory=dict)
    keyring: str = ""
    trusted_hosts: tuple[str, ...] = ()
    certificates: str = ""
    client_certificate: str = ""
    proxy: str = ""
    timeout: str = ""
    uv_cache: str = ""
    python_downloads: str = ""
    python_mirror: str = ""
    python_folder: str = ""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> PackageSources:
        """Reads the caller's settings; uv's own win over pip's, variables win over files."""
        uv, pip = _uv_settings(environ), _pip_settings(environ)
        return cls(
            index=uv.get("default-index") or _located(pip.get("index-url", "")),
            extra_indexes=_words(uv.get("index", ""))
            or tuple(_located(word) for word in _words(pip.get("extra-index-url", ""))),
            find_links=_existing(uv.get("find-links", "").split(",")) or _existing(pip.get("find-links", "").split()),
            no_index=_truth(uv.get("no-index", "")) or _truth(pip.get("no-index", "")),
            index_strategy=uv.get("index-strategy", ""),
            index_credentials={
                name: value
                for name, value in environ.items()
                if re.fullmatch(r"UV_INDEX_\w+_(USERNAME|PASSWORD)", name)
            },
            keyring=uv.get("keyring-provider", ""),
            trusted_hosts=_words(uv.get("insecure-host", "")) or _words(pip.get("trusted-host", "")),
            certificates=environ.get("SSL_CERT_FILE")
            or pip.get("cert")
            or environ.get("REQUESTS_CA_BUNDLE")
            or environ.get("CURL_CA_BUNDLE")
            or "",
            client_certificate=environ.get("SSL_CLIENT_CERT") or pip.get("client-cert", ""),
            proxy=pip.get("proxy", ""),
            timeout=uv.get("http-timeout") or pip.get("timeout") or pip.get("default-timeout", ""),
            uv_cache=uv.get("cache-dir", ""),
            python_downloads=uv.get("python-downloads", ""),
            python_mirror=uv.get("python-install-mirror", ""),
            python_folder=environ.get("UV_PYTHON_INSTALL_DIR", ""),
        )

    def for_uv(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The whole environment for uv."""
        return _without_empty(
            {
                **_kept(environ, self.proxy),
                **self.index_credentials,
                "UV_DEFAULT_INDEX": self.index,
                "UV_INDEX": " ".join(self.extra_indexes),
                "UV_FIND_LINKS": ",".join(link.replace(",", "%2C") for link in self.find_links),
                # With every file pinned by hash, all indexes may be asked: whichever has the pinned file will do.
                "UV_INDEX_STRATEGY": self.index_strategy or "unsafe-best-match",
                "UV_KEYRING_PROVIDER": self.keyring,
                "UV_INSECURE_HOST": " ".join(self.trusted_hosts),
                "SSL_CERT_FILE": self.certificates,
                "SSL_CLIENT_CERT": self.client_certificate,
                "UV_HTTP_TIMEOUT": self.timeout,
                "UV_CACHE_DIR": self.uv_cache,
                "UV_PYTHON_DOWNLOADS": "never",
                "UV_NO_PROGRESS": "1",
            }
        )

    def for_strangers(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The whole environment for uv where somebody else chose the packages, and no hash pins them.

        The first index that knows a package decides on it, as uv has it: a stranger's package of the same name on
        another index must not win by its version. Python itself may be fetched, unless the caller forbids it.
        """
        return _without_empty(
            {
                **self.for_uv(environ),
                "UV_INDEX_STRATEGY": self.index_strategy,
                "UV_PYTHON_DOWNLOADS": self.python_downloads or "automatic",
                "UV_PYTHON_INSTALL_MIRROR": self.python_mirror,
                "UV_PYTHON_INSTALL_DIR": self.python_folder,
            }
        )

    def for_pip(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The whole environment for pip, when it has to fetch uv first."""
        return _without_empty(
            {
                **_kept(environ, self.proxy),
                "PIP_CONFIG_FILE": os.devnull,
                "PIP_INDEX_URL": self._with_credentials(self.index),
                "PIP_EXTRA_INDEX_URL": " ".join(map(self._with_credentials, self.extra_indexes)),
                "PIP_FIND_LINKS": " ".join(link.replace(" ", "%20") for link in self.find_links),
                "PIP_NO_INDEX": "1" if self.no_index else "",
                "PIP_TRUSTED_HOST": " ".join(self.trusted_hosts),
                "PIP_CERT": self.certificates or _system_certificates(),
                "PIP_CLIENT_CERT": self.client_certificate,
                "PIP_DEFAULT_TIMEOUT": self.timeout,
                "PIP_DISABLE_PIP_VERSION_CHECK": "1",
                "PIP_NO_INPUT": "1",
            }
        )

    def redact(self, text: str) -> str:
        """Text of an installer without the credentials that it may have repeated."""
        for name, value in self.index_credentials.items():
            if name.endswith("_PASSWORD") and value:
                text = text.replace(value, "***")
        return CREDENTIALS.sub("***", text)

    def _with_credentials(self, index: str) -> str:
        """An index as pip takes it: uv's `name=url`, with the credentials that uv keeps in variables of that name."""
        name, separator, url = index.partition("=")
        if not separator or not re.fullmatch(r"[\w.-]+", name):
            return index
        prefix = "UV_INDEX_" + re.sub(r"\W", "_", name).upper()
        user = self.index_credentials.get(f"{prefix}_USERNAME", "")
        password = self.index_credentials.get(f"{prefix}_PASSWORD", "")
        parts = urlsplit(url)
        if not (user or password) or "@" in parts.netloc:
            return url
        return urlunsplit(parts._replace(netloc=f"{quote(user, '')}:{quote(password, '')}@{parts.netloc}"))


def _uv_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """uv's settings by option name: from its variables, else from its files of the system and the user."""
    settings: dict[str, str] = {}
    for file in _uv_files(environ):
        settings.update(_uv_file(file))
    variables = {
        "default-index": environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL"),
        "index": " ".join(filter(None, (environ.get("UV_INDEX"), environ.get("UV_EXTRA_INDEX_URL")))),
        "http-timeout": environ.get("UV_HTTP_TIMEOUT") or environ.get("UV_REQUEST_TIMEOUT"),
    }
    plain = ("find-links", "no-index", "index-strategy", "keyring-provider", "insecure-host", "cache-dir")
    for option in (*plain, "python-downloads", "python-install-mirror"):
        variables[option] = environ.get("UV_" + option.upper().replace("-", "_"))
    settings.update({option: value for option, value in variables.items() if value})
    return settings


def _uv_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """The uv.toml files that uv would read outside a project, weakest first."""
    if environ.get("UV_NO_CONFIG"):
        return
    if environ.get("UV_CONFIG_FILE"):
        yield Path(environ["UV_CONFIG_FILE"])
        return
    for folder in reversed((environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")):
        yield Path(folder, "uv", "uv.toml")
    yield Path("/etc/uv/uv.toml")
    yield Path(environ.get("XDG_CONFIG_HOME") or _home(environ) / ".config", "uv", "uv.toml")


def _uv_file(file: Path) -> dict[str, str]:
    """The settings of one uv.toml that say where packages come from."""
    if not file.is_file():
        return {}
    try:
        import tomllib  # type: ignore[import-not-found, unused-ignore] # new in Python 3.11
    except ImportError:
        print(f"champion-gate: {file} is read on Python 3.11 and later only; UV_* variables always.", file=sys.stderr)
        return {}
    try:
        content: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        print(f"champion-gate: {file} is left out, because it cannot be read: {error}", file=sys.stderr)
        return {}
    content = {**content, **content.get("pip", {})}
    indexes = [entry for entry in content.get("index", []) if not entry.get("explicit")]
    named = [f"{entry['name']}={entry['url']}" if "name" in entry else entry["url"] for entry in indexes]
    extra = [name for name, entry in zip(named, indexes, strict=True) if not entry.get("default")]
    default = [entry["url"] for entry in indexes if entry.get("default")]
    settings = {
        "default-index": (default or [content.get("index-url", "")])[0],
        "index": " ".join([*extra, *content.get("extra-index-url", [])]),
        "find-links": ",".join(content.get("find-links", [])),
        "no-index": "1" if content.get("no-index") else "",
        "index-strategy": content.get("index-strategy", ""),
        "keyring-provider": content.get("keyring-provider", ""),
        "insecure-host": " ".join(content.get("allow-insecure-host", [])),
        "cache-dir": content.get("cache-dir", ""),
        "python-downloads": content.get("python-downloads", ""),
        "python-install-mirror": content.get("python-install-mirror", ""),
    }
    return {option: value for option, value in settings.items() if value}


def _pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """pip's settings by option name: from its variables, else from its files."""
    settings: dict[str, str] = {}
    for file in _pip_files(environ):
        # pip reads its files like this too: no interpolation, sections named after commands.
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read(file, encoding="utf-8")
        except (OSError, ValueError, configparser.Error) as error:
            print(f"champion-gate: {file} is left out, because it cannot be read: {error}", file=sys.stderr)
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                settings.update({name.replace("_", "-"): value for name, value in parser.items(section)})
    for name, value in environ.items():
        if name.startswith("PIP_") and value:
            settings[name[4:].lower().replace("_", "-")] = value
    return settings


def _pip_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """The configuration files that pip would read, weakest first."""
    own = environ.get("PIP_CONFIG_FILE", "")
    if own == os.devnull:
        return
    home = _home(environ)
    if sys.platform == "darwin":
        yield Path("/Library/Application Support/pip/pip.conf")
    for folder in reversed((environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")):
        yield Path(folder, "pip", "pip.conf")
    yield Path("/etc/pip.conf")
    if not (own and Path(own).exists()):
        yield home / ".pip" / "pip.conf"
        mac = home / "Library" / "Application Support" / "pip"
        if sys.platform == "darwin" and mac.is_dir():
            yield mac / "pip.conf"
        else:
            yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config", "pip", "pip.conf")
    yield Path(environ.get("VIRTUAL_ENV") or sys.prefix, "pip.conf")
    if own:
        yield Path(own)


def _kept(environ: Mapping[str, str], proxy: str) -> dict[str, str]:
    """What of the caller's environment an installer gets."""
    kept = {name: environ[name] for name in KEPT_VARIABLES if name in environ}
    if proxy and not any(name.lower() in {"https_proxy", "all_proxy"} for name in kept):
        kept.update({"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy})
    return kept


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("HOME") or Path("~").expanduser())


def _words(value: str) -> tuple[str, ...]:
    return tuple(value.split())


def _truth(value: str) -> bool:
    return value.strip().lower() in {"1", "true", "yes", "on", "y", "t"}


def _located(place: str) -> str:
    """A URL as it is, a path as an absolute one: the installer runs in another folder."""
    if not place or "://" in place or place.startswith("file:"):
        return place
    return str(Path(place).expanduser().absolute())


def _existing(links: list[str]) -> tuple[str, ...]:
    """The find-links without folders that do not exist: pip skips those, uv refuses to run."""
    places = [_located(link.strip()) for link in links if link.strip()]
    return tuple(place for place in places if not place.startswith("/") or Path(place).exists())


def _system_certificates() -> str:
    """A bundle for a pip that is too old to ask the system; macOS keeps its own where no file shows it."""
    if sys.platform == "darwin":
        return ""
    return next((file for file in SYSTEM_CERTIFICATES if Path(file).is_file()), "")


def _without_empty(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if value}
