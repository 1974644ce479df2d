"""A web service that answers with results only the right reader can open."""

import json
import os
from http import HTTPStatus
from pathlib import Path

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from flask import Flask, Response

app = Flask(__name__)


def read_secrets(variable: str) -> dict:
    """Secrets arrive after the start of the node, as the JSON file this variable names."""
    path = os.environ.get(variable)
    if not path or not Path(path).is_file():
        return {}
    return json.loads(Path(path).read_text(encoding="utf-8"))


@app.get("/health")
def health():
    """Answer as soon as the service is able to work."""
    return Response(status=HTTPStatus.OK)


@app.get("/")
def hello():
    """Say hello."""
    return "Hello world"


@app.get("/result/secrets")
def result_secrets():
    """Encrypt a result with AES-GCM under the key in secrets.json: nonce, ciphertext, tag."""
    key = read_secrets("SECRETS_PATH").get("result_key")
    if key is None:
        return "this node was not given secrets.json", HTTPStatus.NOT_FOUND
    nonce = os.urandom(12)
    message = b"secret message with secrets.json"
    return Response(nonce + AESGCM(bytes.fromhex(key)).encrypt(nonce, message, None),
                    mimetype="application/octet-stream")


@app.get("/result/sealed_secrets")
def result_sealed_secrets():
    """Encrypt a result with Fernet under the key in the sealed secrets."""
    key = read_secrets("SEALED_SECRETS_PATH").get("result_consumer_key")
    if key is None:
        return "this node was not given sealed secrets", HTTPStatus.NOT_FOUND
    message = b"secret message with sealed_secrets.json"
    return Response(Fernet(key).encrypt(message), mimetype="application/octet-stream")
