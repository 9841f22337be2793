"""Files through the official client: left, listed, read and removed, by their own tenant alone."""

import time

import openai
import pytest

LINES = b'{"custom_id": "1"}\n{"custom_id": "2"}\n'


@pytest.fixture(autouse=True)
def none_left(oai):
    yield
    for tenant in ["default", "counted"]:
        for file in oai(tenant).files.list():
            oai(tenant).files.delete(file.id)


def test_a_file_is_left_and_read_back(oai):
    client = oai()
    file = client.files.create(file=("lines.jsonl", LINES), purpose="batch")
    assert (file.object, file.filename, file.purpose, file.bytes, file.status) == (
        "file", "lines.jsonl", "batch", len(LINES), "processed")
    assert file.id.startswith("file-") and abs(file.created_at - time.time()) < 60 and file.expires_at is None
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).content == LINES
    gone = client.files.delete(file.id)
    assert (gone.id, gone.deleted) == (file.id, True)
    for ask in [client.files.retrieve, client.files.content, client.files.delete]:
        with pytest.raises(openai.NotFoundError) as missing:
            ask(file.id)
        assert missing.value.code == "not_found" and missing.value.request_id.startswith("req_")


def test_files_are_listed_by_pages(oai):
    client = oai()
    made = [client.files.create(file=(f"{n}.txt", b"x" * (n + 1)), purpose=["batch", "user_data"][n % 2]) for n in range(5)]
    ids = [f.id for f in made]
    assert [f.id for f in client.files.list()] == ids[::-1]
    assert [f.id for f in client.files.list(order="asc")] == ids
    assert [f.id for f in client.files.list(purpose="batch", order="asc")] == ids[::2]
    page = client.files.list(limit=2, order="asc")
    assert page.has_more and [f.id for f in page.data] == ids[:2]
    # The client asks for the further pages by itself.
    assert [f.id for f in page] == ids
    assert not client.files.list(limit=5).has_more


def test_a_tenant_has_its_own_files(oai):
    mine, other = oai(), oai("counted")
    file = mine.files.create(file=("a.txt", b"the same"), purpose="user_data")
    theirs = other.files.create(file=("a.txt", b"the same"), purpose="user_data")
    assert list(other.files.list()) == [theirs]
    for ask in [other.files.retrieve, other.files.content, other.files.delete]:
        with pytest.raises(openai.NotFoundError):
            ask(file.id)
    other.files.delete(theirs.id)
    assert mine.files.content(file.id).content == b"the same"


def test_a_file_may_go_by_itself(oai):
    file = oai().files.create(
        file=("a.txt", b"x"), purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600})
    assert file.expires_at == file.created_at + 3600
    with pytest.raises(openai.BadRequestError) as refused:
        oai().files.create(file=("a.txt", b"x"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 5})
    assert refused.value.param == "expires_after.seconds"


@pytest.mark.parametrize(
    ("more", "param"),
    [({"purpose": "fine-tune"}, "purpose"), ({"file": ("a.txt", b"")}, "file"), ({"file": ("a" * 300, b"x")}, "file"),
     ({"extra_body": {"other": "x"}}, "file")],
)
def test_what_is_wrong_is_named(oai, more, param):
    with pytest.raises(openai.BadRequestError) as refused:
        oai().files.create(**{"file": ("a.txt", b"x"), "purpose": "batch", **more})
    assert refused.value.param == param


def test_what_a_tenant_holds_is_bounded(oai):
    client, made = oai(), []
    with pytest.raises(openai.APIStatusError) as full:
        for n in range(20):
            made.append(client.files.create(file=(f"{n}.bin", bytes([n]) * 900_000), purpose="user_data"))
    assert (full.value.status_code, full.value.code) == (413, "too_large")
    assert full.value.body["limit_source"] == "tenant:default" and len(made) == 11, "ten million bytes"
    client.files.delete(made[0].id)
    client.files.create(file=("again.bin", bytes([99]) * 900_000), purpose="user_data")


def test_errors_have_the_clients_shape(oai, server):
    with pytest.raises(openai.AuthenticationError):
        oai(key="fb_wrong").files.list()
    for path in ["/v1/files?limit=0", "/v1/files?limit=x", "/v1/files?order=up"]:
        status, _, body = server.ask("GET", path)
        assert status == 400 and b'"param":"' in body, body
    for kind in ["application/json", "multipart/form-data", "multipart/form-data; boundary=X"]:
        status, _, body = server.ask("POST", "/v1/files", b"{}", content_type=kind)
        assert status == 400 and b'"param":"file"' in body, body


def test_files_are_as_described(server):
    from test_openapi import answer_fits
    import json
    described = json.loads(server.ask("GET", "/openapi.json")[2])
    form = b'--X\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n' \
           b'--X\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--X--\r\n'
    made = server.ask("POST", "/v1/files", form, content_type="multipart/form-data; boundary=X")
    assert made[0] == 200, made[2]
    answer_fits(described, "/v1/files", "post", made)
    id = json.loads(made[2])["id"]
    answer_fits(described, "/v1/files", "get", server.ask("GET", "/v1/files"))
    answer_fits(described, "/v1/files/{id}", "get", server.ask("GET", f"/v1/files/{id}"))
    answer_fits(described, "/v1/files/{id}/content", "get", server.ask("GET", f"/v1/files/{id}/content"))
    answer_fits(described, "/v1/files/{id}", "delete", server.ask("DELETE", f"/v1/files/{id}"))
    answer_fits(described, "/v1/files/{id}", "get", server.ask("GET", f"/v1/files/{id}"))
    answer_fits(described, "/v1/files", "get", server.ask("GET", "/v1/files?limit=0"))
