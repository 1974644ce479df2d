"""Tests that run alike on a laptop (`localtest`) and against the enclave (`test`)."""

import pytest
import requests
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TIMEOUT = 30


def test_health(url):
    assert requests.get(f"{url}/health", timeout=TIMEOUT).status_code == 200


def test_hello(url):
    response = requests.get(url, timeout=TIMEOUT)
    assert response.status_code == 200
    assert response.text == "Hello world"


def test_result_secrets(url, secret_json):
    if secret_json is None:
        pytest.skip("secrets.json was not given to the tests")
    response = requests.get(f"{url}/result/secrets", timeout=TIMEOUT)
    assert response.status_code == 200
    nonce, ciphertext = response.content[:12], response.content[12:]
    key = bytes.fromhex(secret_json["result_key"])
    assert AESGCM(key).decrypt(nonce, ciphertext, None) == b"secret message with secrets.json"


def test_result_sealed_secrets(url, sealed_secret_json):
    if sealed_secret_json is None:
        pytest.skip("the secrets to seal were not given to the tests")
    response = requests.get(f"{url}/result/sealed_secrets", timeout=TIMEOUT)
    assert response.status_code == 200
    key = sealed_secret_json["result_consumer_key"]
    assert Fernet(key).decrypt(response.content) == b"secret message with sealed_secrets.json"
