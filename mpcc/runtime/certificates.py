"""Certificates for a cluster on one machine, made on the fly and thrown away with it.

One certificate authority per session; every endpoint gets a key pair and a certificate whose only
DNS name is the endpoint's name, which is what peers compare (RFC 6125). Private keys are written
with mode 0600 and the authority's key is never written at all. Production clusters bring their own.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["Identity", "issue", "write_private"]

_LIFETIME = dt.timedelta(days=1)


@dataclass(frozen=True)
class Identity:
    """Paths of one endpoint's PEM files: its certificate, its private key, and the authority."""

    name: str
    certificate: Path
    key: Path
    authority: Path


def write_private(path: Path, data: bytes) -> None:
    """Create a file that only its owner can read (mode 0600); FileExistsError if it exists."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _builder(
    subject: str, issuer: str, public_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        # Clocks of hosts differ by minutes; a certificate from the future is refused.
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + _LIFETIME)
    )


def issue(directory: Path, names: Sequence[str]) -> dict[str, Identity]:
    """Make an authority and one identity per endpoint name, written under ``directory``.

    Args:
        directory: an existing directory, readable by its owner only.
        names: endpoint names, used as DNS names in the certificates.

    Returns:
        The identity of every name.
    """
    authority_name = "mpcc session authority"
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = (
        _builder(authority_name, authority_name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .sign(authority_key, hashes.SHA256())
    )
    authority_path = directory / "authority.pem"
    authority_path.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    identities: dict[str, Identity] = {}
    for name in names:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(name, authority_name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
                ),
                critical=False,
            )
            .sign(authority_key, hashes.SHA256())
        )
        identity = Identity(
            name, directory / f"{name}.pem", directory / f"{name}.key", authority_path
        )
        identity.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        write_private(
            identity.key,
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )
        identities[name] = identity
    return identities
