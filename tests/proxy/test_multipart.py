from __future__ import annotations

import pytest

from litellm_plugin.proxy.multipart import MultipartError, boundary_of, form_names


def part(name, value, *, disposition=None, more=()):
    line = disposition or f'form-data; name="{name}"'
    lines = [f"Content-Disposition: {line}", *more]
    return "--b\r\n" + "\r\n".join(lines) + f"\r\n\r\n{value}\r\n"


def form(*parts, end="--b--\r\n"):
    return ("".join(parts) + end).encode()


FILE = part(
    "file", "abc", disposition='form-data; name="file"; filename="a.wav"', more=["Content-Type: audio/wav"]
)


class TestBoundary:
    @pytest.mark.parametrize(
        "content_type",
        [
            b"multipart/form-data; boundary=b",
            b"Multipart/Form-Data;boundary=b",
            b" multipart/form-data; boundary=b ",
        ],
    )
    def test_the_declared_one_is_read(self, content_type):
        assert boundary_of(content_type) == b"b"

    @pytest.mark.parametrize(
        "content_type",
        [
            b"",
            b"application/json",
            b"multipart/form-data",
            b"multipart/mixed; boundary=b",
            b"multipart/form-data; boundary=",
            b"multipart/form-data; boundary=b; charset=utf-16",
            b"multipart/form-data; charset=utf-16; boundary=b",
            b"multipart/form-data; boundary=a; boundary=b",
            b"multipart/form-data; boundary=" + b"b" * 71,
            b"multipart/form-data; boundary=b\r\n",
        ],
    )
    def test_anything_beside_it_is_refused(self, content_type):
        assert boundary_of(content_type) is None


class TestForm:
    def test_as_many_parts_as_are_allowed_pass(self):
        form_names(form(part("include[]", "a") * 1000), b"b")

    def test_one_part_more_is_refused(self):
        with pytest.raises(MultipartError, match="at most 1000 parts"):
            form_names(form(part("include[]", "a") * 1001), b"b")

    def test_a_form_passes(self):
        assert form_names(form(part("model", "gpt"), FILE), b"b") == {"model", "file"}

    def test_a_list_of_files_passes(self):
        image = part("image", "x", disposition='form-data; name="image"; filename="a.png"')
        form_names(form(image, image, part("include[]", "a"), part("include[]", "b")), b"b")

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"", id="empty"),
            pytest.param(b"{}", id="json"),
            pytest.param(b"preamble\r\n" + form(FILE), id="preamble"),
            pytest.param(b"\r\n" + form(FILE), id="leading-line"),
            pytest.param(form(FILE, end=""), id="no-end"),
            pytest.param(form(FILE) + b"--c\r\nContent-Disposition: form-data; name=x\r\n\r\ny\r\n--c--", id="epilogue"),
            pytest.param(form(part("model", "a"), part("model", "b")), id="a-field-twice"),
            pytest.param(form(part("image", "a"), part("image", "b")), id="a-text-image-twice"),
            pytest.param(form(FILE, FILE), id="a-file-twice"),
            pytest.param(form(part("", "a")), id="no-name"),
            pytest.param(form(part("x", "a", disposition="attachment; name=x")), id="no-form-data"),
            pytest.param(form(part("x", "a", disposition="form-data; name=x; name*=utf-8''y")), id="two-names"),
            pytest.param(form(part("x", "a", more=["Content-Disposition: form-data; name=y"])), id="two-dispositions"),
            pytest.param(form(part("x", "a", more=["Content-Transfer-Encoding: base64"])), id="encoded-part"),
            pytest.param(b"--b\r\n\r\nvalue\r\n--b--\r\n", id="no-headers"),
        ],
    )  # fmt: skip
    def test_what_could_be_read_otherwise_is_refused(self, body):
        with pytest.raises(MultipartError):
            form_names(body, b"b")

    def test_another_boundary_than_the_first_line_is_refused(self):
        inner = form(part("model", "evil")).replace(b"--b", b"--c")
        outer = form(part("prompt", inner.decode()))
        form_names(outer, b"b")
        with pytest.raises(MultipartError):
            form_names(outer, b"c")
