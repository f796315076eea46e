"""Who may connect to the service: what the settings say, checked, with a token where there must be one."""

from __future__ import annotations

from dataclasses import dataclass, field

from clmer_server.auth import new_token
from clmer_server.protocol.parts import Limits
from clmer_server.settings import ServeSettings, is_loopback
from clmer_server.tls import Tls, find_tls


@dataclass(frozen=True)
class Access:
    """Who may connect, and how much of it."""

    bound_host: str  # decides which Host headers are our own
    token: str | None = field(default=None, repr=False)  # None: nobody needs one
    made_token: bool = False  # nobody knows it yet
    hosts: tuple[str, ...] = ()  # further names of this machine
    origins: tuple[str, ...] = ()  # pages elsewhere that may connect
    limits: Limits = field(default_factory=Limits)
    tls: Tls | None = None

    @property
    def on_loopback(self) -> bool:
        """Whether only programs on this machine can connect."""
        return is_loopback(self.bound_host)


def plan_access(settings: ServeSettings) -> Access:
    """Return who may connect. Off loopback everybody needs a token; without one in the settings, it is made.

    Raises:
        SettingsError: The certificate or its key cannot be used.
    """
    given = settings.token.get_secret_value() if settings.token is not None else None
    made = given is None and not settings.on_loopback
    return Access(
        bound_host=settings.host,
        token=new_token() if made else given,
        made_token=made,
        hosts=settings.allow_host,
        origins=settings.allow_origin,
        limits=Limits(
            max_messages_per_s=settings.max_message_rate,
            max_connections=settings.max_clients,
            max_connections_per_address=settings.max_clients_per_address,
        ),
        tls=find_tls(settings.tls_cert, settings.tls_key),
    )


def access_text(access: Access) -> list[str]:
    """Return the lines that the user of the service should read at its start."""
    lines = []
    if access.made_token:
        lines.append(f"token      {access.token} (the dashboard and every client need it; it is shown only here)")
    elif access.token is not None:
        lines.append("token      the one that you gave; the dashboard and every client need it")
    if not access.on_loopback and access.tls is None:
        lines.append(
            "warning    open to the network without encryption: others on it can read token and emotions. "
            "Give --tls-cert and --tls-key"
        )
    return lines
