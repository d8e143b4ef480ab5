"""A certificate for localhost, and the authority that signed it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Certificate:
    """Files in PEM: what a server shows, its key, and what a client must trust."""

    certificate: Path
    key: Path
    authority: Path


def for_localhost(folder: Path) -> Certificate:
    """Make one in `folder`."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now, day = dt.datetime.now(dt.timezone.utc), dt.timedelta(days=1)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def signed(name: str, issuer: str, public: Any, *extensions: Any) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + 7 * day)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )
        for extension in extensions:
            critical = isinstance(extension, (x509.BasicConstraints, x509.KeyUsage))
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    usage = dict.fromkeys(
        (
            *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
            *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
        ),
        False,
    )
    authority = signed(
        "Authority of the tests",
        "Authority of the tests",
        authority_key.public_key(),
        x509.BasicConstraints(ca=True, path_length=None),
        x509.KeyUsage(**{**usage, "key_cert_sign": True}),
    )
    own = signed(
        "localhost",
        "Authority of the tests",
        key.public_key(),
        x509.BasicConstraints(ca=False, path_length=None),
        x509.KeyUsage(**{**usage, "digital_signature": True}),
        x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]),
        x509.SubjectAlternativeName([x509.DNSName("localhost")]),
        x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
    )
    made = Certificate(folder / "server.crt", folder / "server.key", folder / "ca.crt")
    made.certificate.write_bytes(own)
    made.authority.write_bytes(authority)
    plain = serialization.NoEncryption()
    made.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain),
    )
    made.key.chmod(0o600)
    return made
