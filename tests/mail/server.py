"""A real SMTP server (aiosmtpd) on loopback, told by JSON in argv[1] how to behave.

Prints its port once it listens, and a line of JSON for each message it has accepted and each
it has refused. It ends when its standard input does.
"""

import asyncio
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

behaviour = json.loads(sys.argv[1])


def tell(**what):
    print(json.dumps(what), flush=True)


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address in behaviour["refuse_receivers"]:
            tell(refused=address)
            return "550 5.1.1 no such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if behaviour["refuse_messages"]:
            reply = behaviour["refuse_messages"].pop(0)
            tell(refused=reply)
            return reply
        encrypted = server.transport.get_extra_info("ssl_object") is not None
        tell(
            sender=envelope.mail_from,
            receivers=envelope.rcpt_tos,
            mail=envelope.content.decode("latin-1"),
            encrypted=encrypted,
            login=bool(session.authenticated),
        )
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    known = [data.login.decode(), data.password.decode()] == behaviour["login"]
    if not known:
        tell(refused="login")
    return AuthResult(success=known, handled=False)


def session(context):
    login = behaviour["login"] is not None
    return SMTP(
        Handler(),
        hostname="localhost",
        tls_context=context if behaviour["tls"] == "starttls" else None,
        require_starttls=behaviour["tls"] == "starttls",
        authenticator=authenticate if login else None,
        auth_required=login,
        auth_require_tls=False,
    )


async def serve():
    context = None
    if behaviour["tls"]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(behaviour["certificate"], behaviour["key"])
    server = await asyncio.get_running_loop().create_server(
        lambda: session(context),
        "127.0.0.1",
        behaviour["port"],
        ssl=context if behaviour["tls"] == "smtps" else None,
    )
    tell(port=server.sockets[0].getsockname()[1])
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(serve())
