"""An authority of our own and the certificates that it signs."""

import ipaddress
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Secured:
    """A server's context for one name, the authority's file, and the names clients asked for."""

    server: ssl.SSLContext
    authority: Path
    asked: list[str | None] = field(default_factory=list)


def secured(folder: Path, host: str, *, expired: bool = False) -> Secured:
    """Make an authority and a certificate for `host`, a name or an address."""
    now = datetime.now(UTC)
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    end = now - timedelta(days=1) if expired else now + timedelta(days=1)

    def begun(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(root_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
        )

    root = (
        begun(root_name, root_key.public_key())
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    leaf = (
        begun(x509.Name([]), key.public_key())
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([_general(host)]), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    authority, chain = folder / f"{host}-ca.pem", folder / f"{host}.pem"
    authority.write_bytes(root.public_bytes(pem))
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain.write_bytes(leaf.public_bytes(pem) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    made = Secured(context, authority)
    context.sni_callback = _keeper(made.asked)
    return made


def _keeper(asked: list[str | None]) -> Callable[[ssl.SSLObject, str | None, ssl.SSLContext], None]:
    def keep(_socket: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        asked.append(name)

    return keep


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
